"""The names of OpenTelemetry: the table of the documentation, that of the code, and the conventions are the same."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from gamqp.telemetry import opentelemetry_names as names

PAGE = (Path(__file__).parents[1] / 'docs' / 'observability.rst').read_text(encoding='utf-8')


def rows(title: str) -> dict[str, str]:
    """The first two columns of a table."""
    table = PAGE.partition(f'.. list-table:: {title}')[2].partition('\n\n   * - ')[2]
    table = '   * - ' + re.split(r'\n\n(?! )', table)[0]
    found = re.findall(r'^   \* - ``(.+)``\n     - (.+)\n', table, re.M)
    return dict(found)


def test_the_page_has_each_attribute_and_each_metric() -> None:
    assert set(rows('Attributes')) == set(names.ATTRIBUTES)
    assert rows('Metrics') == {
        name: f'{unit}, {"counter" if unit == "{message}" else "histogram"}'
        for name, (unit, _) in names.METRICS.items()
    }


def test_what_the_page_says_is_on_metrics_is_on_metrics() -> None:
    place = names.Places(older=False).of(None, 'orders', 'k', 'q')
    for name, where in rows('Attributes').items():
        if name.startswith(('server.', 'error.')):
            continue  # of the connection and of the outcome, not of the place
        assert (name in place.timed) is ('metrics' in where or 'durations' in where), name
        assert (name in place.counted) is ('metrics' in where), name


def test_older_names_are_told() -> None:
    told = PAGE.partition('OTEL_SEMCONV_STABILITY_OPT_IN')[2].partition('only those of the table')[0]
    for older in filter(None, names.ATTRIBUTES.values()):
        assert f'``{older}``' in told


def test_the_names_are_those_of_the_conventions() -> None:
    semconv = pytest.importorskip('opentelemetry.semconv._incubating.attributes.messaging_attributes')
    metrics = pytest.importorskip('opentelemetry.semconv._incubating.metrics.messaging_metrics')
    from opentelemetry.semconv.attributes import error_attributes, server_attributes
    from opentelemetry.semconv.schemas import Schemas

    known = constants(semconv) | constants(error_attributes) | constants(server_attributes)
    assert set(names.ATTRIBUTES) <= known
    assert set(names.METRICS) <= constants(metrics)
    assert names.SCHEMA_URL in [one.value for one in Schemas]


def constants(module: ModuleType) -> set[str]:
    return {value for value in vars(module).values() if isinstance(value, str)}
