"""What is in a log record: whom it is about, in fields; never a password, a body or a header."""

from __future__ import annotations

import json
import logging
import re
import textwrap
from pathlib import Path
from typing import Any

import greenlets
import pytest
from script import ScriptedBroker

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'observability.rst').read_text(encoding='utf-8')
SECRET = 'correct-horse-battery'


def all_of(record: logging.LogRecord) -> str:
    """Everything that a handler could write, with the text of each object in it."""
    parts = {**vars(record), 'text': record.getMessage(), 'exc_text': logging.Formatter().format(record)}
    return json.dumps(parts, default=lambda one: f'{one!r} {one}')


@pytest.fixture
def records(peer: ScriptedBroker, caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Those of a connection whose broker blocks it, and of a handler that fails."""
    connection = peer.open(userid='u', password=SECRET, name='worker')
    channel = peer.open_channel(connection)

    def fail(message: Any) -> None:
        raise ValueError('no')

    subscribing = greenlets.spawn(
        lambda: channel.subscribe('jobs', fail, prefetch=0, on_error='reject', consumer_tag='c')
    )
    peer.expect('basic.consume')
    peer.send('basic.consume-ok', 1, consumer_tag='c')
    subscribing.get()
    peer.send('connection.blocked', 0, reason='low on memory')
    peer.send(
        'basic.deliver', 1, consumer_tag='c', delivery_tag=7, exchange='', routing_key='jobs', body=SECRET.encode(),
        properties={'application_headers': {'token': SECRET}, 'message_id': SECRET},
    )  # fmt: skip
    peer.expect('basic.reject')
    greenlets.wait_until(lambda: len(caplog.records) >= 2)
    return list(caplog.records)


def test_fields_say_whom_a_record_is_about(records: list[logging.LogRecord]) -> None:
    found = {record.name: record for record in records}
    assert sorted(found) == ['gamqp.connection', 'gamqp.consumer']
    fields = {name: value for name, value in vars(found['gamqp.consumer']).items() if name.startswith('amqp_')}
    assert fields == {
        'amqp_connection': 'worker',
        'amqp_consumer': 'c',
        'amqp_queue': 'jobs',
        'amqp_delivery_tag': 7,
    }
    assert vars(found['gamqp.connection'])['amqp_connection'] == 'worker'


def test_no_record_has_a_password_a_body_or_a_header(records: list[logging.LogRecord]) -> None:
    for record in records:
        assert SECRET not in all_of(record)


def test_the_formatter_of_the_documentation_writes_them(records: list[logging.LogRecord]) -> None:
    block = PAGE.partition('   import json, logging\n')[2].partition('\n\n   handler = ')[0]
    scope: dict[str, Any] = {'json': json, 'logging': logging}
    exec(textwrap.dedent(block), scope)
    lines = [json.loads(scope['JSON']().format(record)) for record in records]
    (line,) = [line for line in lines if line['logger'] == 'gamqp.consumer']
    assert line['text'] == 'consumer c: the handler failed on <Message tag 7, 21 bytes> (reject)'
    assert (line['level'], line['amqp_queue']) == ('ERROR', 'jobs')
    assert line['traceback'].endswith('ValueError: no')


def test_the_documentation_names_each_logger() -> None:
    told = set(re.findall(r'^``(gamqp\.\w+)`` +(?:ERROR|WARNING|INFO) ', PAGE, re.M))
    sources = [path.read_text(encoding='utf-8') for path in (ROOT / 'gamqp').rglob('*.py')]
    assert told == {name for text in sources for name in re.findall(r"getLogger\('([\w.]+)'\)", text)}
