"""The files for contributors name files that exist, and tools in the versions that the checks use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / 'CONTRIBUTING.rst').read_text(encoding='utf-8')
NAMED = sorted(
    {
        one
        for one in re.findall(r'``([\w./]+)``', CONTRIBUTING)
        if '/' in one and one.endswith(('.py', '.rst', '/')) and one != '.venv/'
    }
)


@pytest.mark.parametrize('name', NAMED)
def test_a_file_that_contributing_names_exists(name: str) -> None:
    assert (ROOT / name).exists()


@pytest.mark.parametrize(
    ('name', 'file'),
    [
        ('_call', 'gamqp/channel/request.py'),
        ('_send', 'gamqp/channel/request.py'),
        ('_request', 'gamqp/channel/request.py'),
        ('undo', 'gamqp/channel/request.py'),
        ('_HANDLERS', 'gamqp/channel/channel.py'),
        ('totals', 'gamqp/telemetry/stats.py'),
        ('collect', 'gamqp/telemetry/stats.py'),
        ('_gauges', 'gamqp/telemetry/stats.py'),
        ('COUNTERS', 'gamqp/prometheus.py'),
        ('GAUGES', 'gamqp/prometheus.py'),
        ('hint', 'gamqp/state/error_hints.py'),
    ],
)
def test_a_name_that_contributing_gives_is_there(name: str, file: str) -> None:
    assert f'``{name}``' in CONTRIBUTING
    assert f'``{file}``' in CONTRIBUTING
    assert re.search(rf'\b{name}\b', (ROOT / file).read_text(encoding='utf-8'))


def test_the_hooks_have_the_versions_of_the_checks() -> None:
    hooks = (ROOT / '.pre-commit-config.yaml').read_text(encoding='utf-8')
    checks = (ROOT / '.ci' / 'run').read_text(encoding='utf-8')
    for tool in ('ruff', 'mypy'):
        wanted = set(re.findall(rf"'({tool}>=[^']+)'", checks))
        assert len(wanted) == 1
        assert set(re.findall(rf"'({tool}>=[^']+)'", hooks)) == wanted


def test_what_people_look_for_is_in_the_distribution_and_found_from_the_readme() -> None:
    manifest = (ROOT / 'MANIFEST.in').read_text(encoding='utf-8')
    readme = (ROOT / 'README.rst').read_text(encoding='utf-8')
    for name in ('CONTRIBUTING.rst', 'SECURITY.rst'):
        assert name in manifest
        assert f'``{name}``' in readme


def test_a_page_that_the_readme_names_exists() -> None:
    named = re.findall(r'``(docs/[\w./]+)``', (ROOT / 'README.rst').read_text(encoding='utf-8'))
    assert len(named) > 12
    for name in named:
        assert (ROOT / name).exists(), name


def test_the_versions_that_are_said_to_be_tested_are_those_of_the_checks() -> None:
    page = (ROOT / 'docs' / 'versions.rst').read_text(encoding='utf-8')
    brokers = re.findall(r'GAMQP_TEST_RABBITMQ:-([\d.,]+)', (ROOT / '.ci' / 'run').read_text(encoding='utf-8'))
    assert brokers
    assert brokers[0].replace(',', ' and ') in page
    wanted = re.findall(r'python_requires = >=([\d.]+)', (ROOT / 'setup.cfg').read_text(encoding='utf-8'))
    assert f'{wanted[0]} and newer, CPython' in page
