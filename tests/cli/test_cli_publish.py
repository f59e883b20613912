"""``gamqp publish``, as a process; and messages as JSON."""

from __future__ import annotations

import base64
import contextlib
import datetime
import decimal
import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import broker_tools
import pytest
from commands import PATIENCE, finished, gamqp, started

from gamqp import Message
from gamqp.cli import envelopes, field_values
from gamqp.cli.exit_codes import UsageError

Take = Callable[[str], list[Message]]

UTC = datetime.timezone.utc


@pytest.mark.any_broker
def test_a_text_files_lines_and_stdin(rabbit: Any, stock: str, messages: Take, tmp_path: Path) -> None:
    (tmp_path / 'one').write_bytes(b'first\nfile\n')
    (tmp_path / 'two').write_bytes(b'\x00\xff')
    headers = (
        '-H',
        'n:int=5',
        '-H',
        'text=a=b',
        '-H',
        'list:json=[1, {"x": null}]',
        '-H',
        'at:time=2026-01-02T03:04:05Z',
    )
    properties = ('-p', 'content-type=text/plain', '-p', 'priority=3', '-p', 'timestamp=1700000000')
    done = gamqp('publish', stock, '--body', 'grüß', *headers, *properties, url=rabbit.url)
    assert (done.code, done.out) == (0, ''), done
    assert 'published 1, confirmed 1;' in done.err
    files = ('-f', str(tmp_path / 'one'), '-f', str(tmp_path / 'two'))
    assert gamqp('publish', stock, *files, '--quiet', '--repeat', '2', url=rabbit.url) == (0, '', '')
    assert gamqp('publish', '-k', stock, '-l', '--transient', url=rabbit.url, stdin='a\n\nb').code == 0
    assert gamqp('publish', '-k', stock, '--no-confirms', url=rabbit.url, stdin=b'all\nof it').code == 0
    found = messages(stock)
    assert [bytes(one.body) for one in found] == [
        *('grüß'.encode(), b'first\nfile\n', b'first\nfile\n', b'\x00\xff', b'\x00\xff'),
        *(b'a', b'', b'b', b'all\nof it'),
    ]
    first = found[0]
    assert first.headers == {
        'n': 5,
        'text': 'a=b',
        'list': [1, {'x': None}],
        'at': datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    }
    assert (first.content_type, first.priority, first.timestamp, first.delivery_mode) == (
        'text/plain',
        3,
        1700000000,
        2,
    )
    assert [one.delivery_mode for one in found[5:8]] == [1, 1, 1]


@pytest.mark.any_broker
def test_where_nothing_is(rabbit: Any, stock: str, messages: Take) -> None:
    done = gamqp('publish', 'no.such.queue', '-b', 'x', url=rabbit.url)
    assert done.code == 2 and 'NO_ROUTE' in done.err and 'returned 1' in done.err
    done = gamqp('publish', '-e', 'no.such.exchange', '-b', 'x', url=rabbit.url)
    assert done.code == 2 and 'NOT_FOUND' in done.err
    lines = json.dumps({'body': 'good', 'routing_key': stock}) + '\n{"bdoy": 1}\n'
    done = gamqp('publish', '--json', url=rabbit.url, stdin=lines)
    assert done.code == 1 and "stdin, line 2: unknown key 'bdoy'" in done.err
    assert [one.body for one in messages(stock)] == [b'good']


@pytest.mark.any_broker
def test_a_signal_ends_it_with_what_was_read_published(rabbit: Any, stock: str) -> None:
    with (
        rabbit.connect() as connection,
        started('publish', stock, '-l', url=rabbit.url, stdin=subprocess.PIPE) as process,
    ):
        assert process.stdin is not None
        process.stdin.write(b'one\ntwo\nthr')
        process.stdin.flush()
        channel = connection.channel()
        broker_tools.wait_ready(channel, stock, 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 130
        stdin, process.stdin = process.stdin, None
        done = finished(process)
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        assert 'published 2, confirmed 2' in done.err and 'Traceback' not in done.err
        assert [one.body for one in broker_tools.get_all(channel, stock)] == [b'one', b'two']


@pytest.mark.parametrize(
    'arguments',
    [
        (),
        ('q', '-e', 'x'),
        ('q', '-b', 'x', '-l'),
        ('-k', 'x', '-b', 'x', '--mandatory', '--no-confirms'),
        ('q', '-b', 'x', '-H', 'noequals'),
        ('q', '-b', 'x', '-H', 'a:nope=1'),
        ('q', '-b', 'x', '-p', 'nope=1'),
    ],
)
@pytest.mark.slow
def test_what_makes_no_sense_is_64(arguments: tuple[str, ...]) -> None:
    done = gamqp('publish', *arguments, url='amqp://127.0.0.1:1')
    assert done.code == 64 and done.out == '', done


# -- messages as JSON ---------------------------------------------------------------------

VALUES = [
    *(None, True, 5, -(2**40), 1.5, 'text', '', [1, ['a']], {}, {'a': {'b': 1}}),
    *(b'\x00\xff', datetime.datetime(2026, 1, 2, tzinfo=UTC), decimal.Decimal('1.23')),
    *({'$base64': 'no bytes'}, {'$other': 1}, {'$table': {}}, [{'x': b'1'}]),
]


@pytest.mark.parametrize('value', VALUES, ids=repr)
def test_a_value_is_the_same_after_json(value: Any) -> None:
    assert field_values.from_json(json.loads(json.dumps(field_values.to_json(value)))) == value


def test_an_envelope_is_read() -> None:
    line = {'body': {'id': 1}, 'headers': {'a': {'$base64': 'AP8='}}, 'properties': {'priority': 2}, 'routing_key': 'k'}
    found = envelopes.parsed(json.dumps(line).encode())
    assert found.body == b'{"id": 1}' and found.routing_key == 'k' and found.exchange is None
    assert found.properties == {
        'priority': 2,
        'content_type': 'application/json',
        'application_headers': {'a': b'\x00\xff'},
    }
    assert envelopes.parsed(json.dumps({'body_base64': base64.b64encode(b'\xff').decode()}).encode()).body == b'\xff'


@pytest.mark.parametrize(
    ('line', 'error'),
    [
        ('', 'no JSON'),
        ('[]', 'an object'),
        ('{"x": 1}', "unknown key 'x'"),
        ('{"properties": {"nope": 1}}', "unknown property 'nope'"),
        ('{"properties": []}', 'objects of JSON'),
        ('{"headers": 5}', 'objects of JSON'),
        ('{"body": "a", "body_base64": "YQ=="}', 'exclude'),
        ('{"routing_key": 5}', 'routing_key is a text'),
        ('{"body_base64": "?"}', 'no base64'),
        ('[' * 100_000, 'no JSON'),
    ],
)
def test_what_is_no_envelope(line: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        envelopes.parsed(line.encode())


def test_pairs_of_the_command_line() -> None:
    assert field_values.pairs(['a=1', 'b:int=1', 'c:bool=true', 'd:bytes=AP8=', 'e:decimal=1.5', 'x:y:str=z']) == {
        'a': '1',
        'b': 1,
        'c': True,
        'd': b'\x00\xff',
        'e': decimal.Decimal('1.5'),
        'x:y': 'z',
    }
    assert field_values.pairs(['x-max-length=5', 'x-queue-type=quorum', 'y=true'], typed=True) == {
        'x-max-length': 5,
        'x-queue-type': 'quorum',
        'y': True,
    }
    for wrong in ('a', '=1', 'a:int=x', 'a:bool=maybe', 'a:json={', 'a:bytes=?', 'a:decimal=x'):
        with pytest.raises(UsageError):
            field_values.pairs([wrong])
