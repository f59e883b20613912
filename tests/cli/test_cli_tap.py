"""``gamqp tap``, ``replay`` and ``rpc``, as processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import broker_tools
import pytest
from commands import finished, gamqp, started

from gamqp import Message, RPCServer

Take = Callable[[str], list[Message]]


@pytest.mark.any_broker
def test_what_is_tapped_is_consumed_as_ever_and_can_be_replayed(
    rabbit: Any, stock: str, messages: Take, tmp_path: Path
) -> None:
    with rabbit.connect() as connection:
        channel = connection.channel()
        channel.exchange_declare('orders', 'topic', durable=True, auto_delete=False)
        channel.queue_bind(stock, 'orders', '#')
        tap = ('orders:*.paid', 'orders:*.new', '--limit', '3')
        with (
            started('tap', *tap, url=rabbit.url) as shown,
            started('tap', 'orders', '--save', str(tmp_path), '--limit', '4', url=rabbit.url) as saved,
        ):
            for process in (shown, saved):
                assert process.stderr is not None
                assert process.stderr.readline().startswith(b'gamqp tap: listening to orders')
            for key in ('a.new', 'a.other', 'b.paid', 'c.paid'):
                channel.publish(key.encode(), 'orders', key, headers={'b': b'\xff'}).wait()
            done = broker_tools.in_thread(finished, shown)
            assert broker_tools.in_thread(finished, saved).code == 0
        assert done.code == 0 and done.err == '3 messages\n'
        assert [line['body'] for line in done.lines] == ['a.new', 'b.paid', 'c.paid']
        assert done.lines[0]['headers'] == {'b': {'$base64': '/w=='}} and done.lines[0]['received_at'] > 1.6e9
        assert len(messages(stock)) == 4
        files = sorted(tmp_path.iterdir())
        assert [json.loads(file.read_text())['routing_key'] for file in files] == [
            'a.new',
            'a.other',
            'b.paid',
            'c.paid',
        ]
        times = [json.loads(file.read_text()) for file in files]
        for number, (file, table) in enumerate(zip(files, times, strict=True)):
            file.write_text(json.dumps({**table, 'received_at': 1000.0 + 2 * number}))
        done = gamqp('replay', str(tmp_path), '--speed', '20', url=rabbit.url)  # 6 s in 0.3
        assert done.code == 0 and 'published 4, confirmed 4;' in done.err
        first, *others = messages(stock)
        assert (first.body, first.headers) == (b'a.new', {'b': b'\xff'}) and len(others) == 3
        elsewhere = ('--speed', 'max', '--exchange', '', '--key', stock, '--mandatory', '-q')
        assert gamqp('replay', str(tmp_path), *elsewhere, url=rabbit.url) == (0, '', '')
        assert {one.delivery_info['routing_key'] for one in messages(stock)} == {stock}
        channel.exchange_delete('orders')


@pytest.mark.any_broker
@pytest.mark.slow
def test_what_cannot_be_tapped_or_replayed(rabbit: Any, tmp_path: Path) -> None:
    (tmp_path / '00000001.json').write_text('{"x": 1}')
    for arguments, code, text in (
        (('tap', 'no.such.exchange'), 2, 'NOT_FOUND'),
        (('tap', 'amq.direct'), 64, 'say amq.direct:KEY'),
        (('tap', ':key'), 64, 'default exchange'),
        (('tap', 'amq.headers', '--idle-timeout', '0.1'), 2, '0 messages'),
        (('replay', str(tmp_path)), 1, "unknown key 'x'"),
        (('replay', str(tmp_path), '--speed', '-1'), 64, '--speed'),
        (('replay', str(tmp_path / 'none')), 1, 'No such file'),
    ):
        done = gamqp(*arguments, url=rabbit.url)
        assert done.code == code and text in done.err, done


@pytest.mark.any_broker
def test_a_request_and_its_reply(rabbit: Any, stock: str) -> None:
    def answer(message: Message) -> bytes:
        if message.headers.get('fail'):
            raise ValueError('no such article')
        return b'reply to ' + bytes(message.body)

    with rabbit.connect() as connection:
        server = RPCServer(connection, stock, answer)
        call = ('rpc', stock, '--body', 'x')
        assert broker_tools.in_thread(lambda: gamqp(*call, url=rabbit.url)) == (0, 'reply to x\n', '')
        done = broker_tools.in_thread(lambda: gamqp(*call, '--json', '-H', 'fail=1', url=rabbit.url))
        assert done.code == 1 and 'no such article' in done.err
        done = broker_tools.in_thread(lambda: gamqp('rpc', 'no.such.queue', '--body', 'x', url=rabbit.url))
        assert done.code == 2 and 'NO_ROUTE' in done.err
        server.close()
    with started('rpc', stock, '--body', 'x', '--timeout', '0.5', url=rabbit.url) as process:
        done = finished(process)
    assert done.code == 1 and 'no reply within' in done.err
