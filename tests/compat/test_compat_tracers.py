"""Datadog, New Relic, Sentry and OpenTelemetry see what kombu and Celery do on gamqp, and nothing breaks.

With the newer RabbitMQ gamqp comes in by kombu's transport, with the older one by ``install_as_amqp``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import greenlets
import pytest
from installed import is_installed

PROGRAMS = Path(__file__).parent / 'programs'

pytestmark = [
    pytest.mark.any_broker,
    pytest.mark.slow,
    pytest.mark.skipif(greenlets.GREEN != 'gevent', reason='the programs are patched by gevent'),
]


def run(name: str, package: str, rabbit: Any, folder: Path) -> list[dict[str, Any]]:
    """What the program prints, a dict a line. Skips where the package is not installed."""
    for needed in (*package.split(), 'celery', 'kombu'):
        if not is_installed(needed):
            pytest.skip(f'{needed} is not installed')
    mode = 'transport' if rabbit.major > 3 else 'drop-in'
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path)), 'PYTHONWARNINGS': 'ignore'}
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / f'{name}.py'), mode, rabbit.url, str(folder)],
        env={**environment, 'DD_TRACE_STARTUP_LOGS': '0', 'DD_INSTRUMENTATION_TELEMETRY_ENABLED': '0'},
        cwd=folder,
        capture_output=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors='replace')[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b'{')]


def test_datadog(rabbit: Any, tmp_path: Path) -> None:
    spans = run('with_ddtrace', 'ddtrace', rabbit, tmp_path)
    names = sorted(span['name'] for span in spans)
    assert names == ['celery.apply', 'celery.run', 'kombu.publish', 'kombu.publish', 'kombu.receive']
    assert not any(span['error'] for span in spans)
    assert {span['host'] for span in spans if span['name'].startswith('kombu.')} == {'127.0.0.1'}
    by_kombu = [span for span in spans if span['resource'].startswith('traced.')]
    assert len(by_kombu) == 2
    assert len({span['trace'] for span in by_kombu}) == 1  # the headers have arrived


def test_new_relic(rabbit: Any, tmp_path: Path) -> None:
    run('with_newrelic', 'newrelic', rabbit, tmp_path)
    sent = (tmp_path / 'audit').read_text(encoding='utf-8')
    for name in (
        'MessageBroker/Kombu/Exchange/Produce/Named/traced.',
        'OtherTransaction/Message/Kombu/Exchange/Named/traced.',
        'OtherTransaction/Celery/add',
        "'parent.transportType': 'AMQP'",  # by the transport's driver_name
    ):
        assert name in sent, name


def test_sentry(rabbit: Any, tmp_path: Path) -> None:
    reports = run('with_sentry', 'sentry_sdk', rabbit, tmp_path)
    (event,) = [report['payload'] for report in reports if report['type'] == 'event']
    (error,) = event['exception']['values']
    assert (error['type'], error['value'], error['mechanism']['type']) == ('ValueError', 'the task failed', 'celery')
    done = {
        report['payload']['transaction']: report['payload'] for report in reports if report['type'] == 'transaction'
    }
    assert done.keys() == {'request', 'add'}
    assert done['add']['contexts']['trace']['trace_id'] == done['request']['contexts']['trace']['trace_id']
    assert 'queue.submit.celery' in [span['op'] for span in done['request']['spans']]
    (processed,) = [span for span in done['add']['spans'] if span['op'] == 'queue.process']
    assert processed['data']['messaging.system'] == 'amqp'


def test_opentelemetrys_celery_instrumentation_beside_gamqps(rabbit: Any, tmp_path: Path) -> None:
    package = 'opentelemetry.sdk opentelemetry.instrumentation opentelemetry.instrumentation.celery'
    spans = run('with_opentelemetry', package, rabbit, tmp_path)
    tasks = {span['name']: span for span in spans if '/' in span['name']}
    assert tasks.keys() == {'apply_async/add', 'run/add'}
    assert tasks['run/add']['parent'] == tasks['apply_async/add']['id']
    # A task may be done before the broker's confirm has ended the span of its publish.
    processed, published = sorted((span for span in spans if '/' not in span['name']), key=lambda span: span['name'])
    assert (published['name'].split('.')[0], processed['name'].split('.')[0]) == ('publish traced', 'process traced')
    assert processed['parent'] == published['id']
