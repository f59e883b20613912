"""RPCServer on real brokers: who asks learns what became of it, and no request is lost or comes for ever."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import broker_tools
import greenlets
import inside
import pytest
from gated_handler import GatedHandler
from greenlet import GreenletExit

import gamqp
from gamqp import exceptions
from gamqp.rpc.client import REPLY_TO


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    """What gamqp.rpc logs, kept from pytest: a report with a lone surrogate ends the processes of pytest-xdist."""
    records: list[logging.LogRecord] = []

    def keep(record: logging.LogRecord) -> bool:
        records.append(record)
        return False

    logger = logging.getLogger('gamqp.rpc')
    logger.addFilter(keep)
    yield records
    logger.removeFilter(keep)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize('hidden', [False, True])
def test_a_caller_learns_that_the_handler_failed(
    connection: gamqp.Connection,
    channel: gamqp.Channel,
    requests: str,
    rpc: gamqp.RPCClient,
    hidden: bool,
    logged: list[logging.LogRecord],
) -> None:
    failures = {
        b'text': KeyError('no such thing'),
        b'long': ValueError('\U0001f525' * 100_000),
        b'odd': ValueError('a lone \udcff'),
        b'unprintable': Unprintable(),
        b'timeout': broker_tools.Interrupted('no Exception'),
    }

    def handler(message: Any) -> Any:
        if message.body in failures:
            raise failures[message.body]
        return {'not': 'a body'}

    with gamqp.RPCServer(connection, requests, handler, hide_errors=hidden) as server:
        for body in (*failures, b'unsendable'):
            with pytest.raises(gamqp.RPCError) as caught:
                rpc.call(body, requests)
            error = caught.value
            if hidden:
                assert (error.text, error.error_type) == ('the handler failed', '')
            else:
                assert error.error_type == type(failures.get(body, exceptions.EncodeError())).__name__
        assert str(error) == (error.text if hidden else f'EncodeError: {error.text}')
        assert error.reply.body == b''
        greenlets.wait_until(lambda: server.consumer.acked == len(failures) + 1)
        assert server.failed == len(failures) + 1
    assert len(logged) == len(failures) + 1
    assert all(record.exc_info for record in logged)
    broker_tools.wait_ready(channel, requests, 0)


def test_without_reply_to_the_handler_just_runs(
    connection: gamqp.Connection, channel: gamqp.Channel, requests: str, caplog: Any
) -> None:
    def handler(message: Any) -> Any:
        return b'for nobody' if message.body == b'good' else message.no_such_thing

    with gamqp.RPCServer(connection, requests, handler) as server:
        broker_tools.publish_all(channel, requests, [b'good', b'bad', b'good'])
        greenlets.wait_until(lambda: server.consumer.acked == 2)
        greenlets.wait_until(lambda: server.failed == 1)
    broker_tools.wait_ready(channel, requests, 0)  # rejected, not requeued
    assert server.replied == 0
    assert any('AttributeError' in str(record.exc_info) for record in caplog.records)


def test_a_reply_to_a_caller_that_has_gone_disturbs_nobody(
    rabbit: Any, connection: gamqp.Connection, requests: str, rpc: gamqp.RPCClient
) -> None:
    gated = GatedHandler()
    with gamqp.RPCServer(connection, requests, gated, concurrency=10) as server:
        other = rabbit.connect()
        gone = gamqp.RPCClient(other)
        tasks = [greenlets.spawn(gone.call, b'gone', requests) for _ in range(5)]
        greenlets.wait_until(lambda: len(gated.begun) == 5)
        other.close()
        for task in tasks:
            assert isinstance(broker_tools.raised(task), exceptions.RecoverableConnectionError)
        gated.open.set()
        assert rpc.call(b'here', requests).body == b'here'
        greenlets.wait_until(lambda: server.consumer.acked == 6)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0)


def test_a_request_whose_worker_was_killed_is_answered_by_another(
    connection: gamqp.Connection, requests: str, rpc: gamqp.RPCClient
) -> None:
    def handler(message: Any) -> bytes:
        if not message.redelivered:
            raise GreenletExit
        return b'second try'

    with gamqp.RPCServer(connection, requests, handler):
        assert rpc.call(b'', requests).body == b'second try'


def test_a_request_that_ends_the_servers_connection_does_so_twice_at_most(rabbit: Any, channel: gamqp.Channel) -> None:
    """RabbitMQ 3 ends it over a reply_to of another cluster; later ones drop the reply."""
    foreign = f'{REPLY_TO}.g1h2AA9yZXBseUAxMjEyMDcxNzIAAAP0AAAAAGsEm/s=.xZq4BX4l6W/sBXsJMu6O8w=='
    shared = broker_tools.shared_queue(channel)
    channel.basic_publish(gamqp.Message(b'poison', reply_to=foreign), '', shared)
    broker_tools.publish_all(channel, shared, [b'harmless'])
    handled: list[bytes] = []
    deaths = 0
    while b'harmless' not in handled and deaths < 5:
        with rabbit.connect() as serving:
            server = gamqp.RPCServer(serving, shared, lambda message: handled.append(message.body))
            greenlets.wait_until(lambda server=server: inside.has_ended(server.consumer) or b'harmless' in handled)
            deaths += inside.has_ended(server.consumer)
    # Once when the poison was put back too late to be the first that the second server gets.
    assert deaths in ((1, 2) if rabbit.major == 3 else (0,))


def test_a_server_that_is_cancelled_finishes_what_it_has_begun(
    connection: gamqp.Connection, channel: gamqp.Channel, requests: str, rpc: gamqp.RPCClient
) -> None:
    gated = GatedHandler()
    server = gamqp.RPCServer(connection, requests, gated, concurrency=2)
    tasks = [greenlets.spawn(rpc.call, b'%d' % number, requests) for number in range(3)]
    greenlets.wait_until(lambda: len(gated.begun) == 2)
    with pytest.raises(TimeoutError):
        server.cancel(timeout=0.05)
    joining = greenlets.spawn(server.join)
    gated.open.set()
    joining.get()
    with gamqp.RPCServer(channel, requests, lambda message: b'heir'):
        numbers = [b'0', b'1', b'2']
        assert [task.get().body for task in tasks] == [one if one in gated.begun else b'heir' for one in numbers]
    server.close()
    server.close()
    assert channel.is_open
    assert not server.channel.is_open


def test_a_server_says_why_it_ended(connection: gamqp.Connection, channel: gamqp.Channel) -> None:
    queue = broker_tools.shared_queue(channel)
    server = gamqp.RPCServer(connection, queue, print)
    channel.queue_delete(queue)
    with pytest.raises(exceptions.ConsumerCancelled):
        server.join(30)
    server.close()
    with pytest.raises(exceptions.NotFound):
        gamqp.RPCServer(connection, queue, print)
    with pytest.raises(TypeError):
        gamqp.RPCServer(connection, queue, None)  # type: ignore[arg-type]
    greenlets.wait_until(lambda: len(connection.channels) == 1)


def test_it_tells_its_state(connection: gamqp.Connection, requests: str) -> None:
    with gamqp.RPCServer(connection, requests, lambda message: b'') as server, gamqp.RPCClient(connection) as rpc:
        number = rpc.channel.channel_id
        assert repr(rpc) == f'<RPCClient 0 pending, 0 calls on channel {number}>'
        rpc.call(b'', requests)
        assert f"on '{requests}', 1 replied, 0 failed" in repr(server)
    assert repr(rpc) == f'<RPCClient closed, 1 calls on channel {number}>'


def test_any_client_and_any_server_understand_ours(
    connection: gamqp.Connection, channel: gamqp.Channel, requests: str, rpc: gamqp.RPCClient
) -> None:
    """The plain protocol, as every RabbitMQ tutorial has it."""

    def answer(message: Any) -> None:
        properties = message.properties
        again = gamqp.Message(b'plain', correlation_id=properties['correlation_id'])
        channel.basic_publish(again, '', properties['reply_to'])
        message.ack()
        answered.append(message)

    answered: list[Any] = []
    tag = channel.basic_consume(requests, callback=answer)
    task = greenlets.spawn(rpc.call, b'', requests)
    broker_tools.drain_until(connection, lambda: answered)
    assert task.get().body == b'plain'
    channel.basic_cancel(tag)

    got: list[Any] = []
    with gamqp.RPCServer(connection, requests, lambda message: b'ours'):
        channel.basic_consume(REPLY_TO, no_ack=True, callback=got.append)
        channel.basic_publish(gamqp.Message(b'', reply_to=REPLY_TO, correlation_id='7'), '', requests)
        broker_tools.drain_until(connection, lambda: got)
    assert (got[0].body, got[0].properties) == (b'ours', {'correlation_id': '7'})
