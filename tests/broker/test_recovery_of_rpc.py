"""Requests and replies over a loss: clients and servers of RPC go on, and so does a consumer of replies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import greenlets
import pytest

import gamqp
from gamqp import Recovery, testing

QUICK: dict[str, Any] = {'first_delay': 0, 'delay': 0.1, 'max_delay': 0.1}
REPLY_TO = 'amq.rabbitmq.reply-to'


@pytest.fixture
def broker() -> Iterator[testing.Broker]:
    with testing.Broker() as broker:
        yield broker


def opened(broker: testing.Broker, **settings: Any) -> gamqp.Connection:
    return gamqp.connect(broker.url, recover=Recovery(**{**QUICK, **settings}))


@pytest.fixture
def asking(broker: testing.Broker) -> Iterator[gamqp.Connection]:
    with opened(broker) as connection:
        connection.channel().queue_declare('jobs', durable=True, auto_delete=False)
        yield connection


@pytest.fixture
def serving(broker: testing.Broker) -> Iterator[gamqp.Connection]:
    with opened(broker) as connection:
        yield connection


class Handler:
    """Answers at once, or when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bool]] = []
        self.held = True

    def __call__(self, request: gamqp.Message) -> bytes:
        self.asked.append((bytes(request.body), request.redelivered))
        greenlets.wait_until(lambda: not self.held)
        return bytes(request.body).upper()


def lose(broker: testing.Broker, *connections: gamqp.Connection) -> None:
    """None of them is open again before ``broker.clear_faults``."""
    broker.cut_at('connection.open', times=None)
    broker.cut()
    for connection in connections:
        greenlets.wait_until(lambda connection=connection: connection.state == 'recovering')  # type: ignore[misc]


def reply_addresses(broker: testing.Broker) -> list[str]:
    return [str(one.routing_key) for one in broker.published('') if str(one.routing_key).startswith(REPLY_TO)]


def test_calls_of_before_raise_lost_and_those_made_meanwhile_succeed(
    broker: testing.Broker, asking: gamqp.Connection, serving: gamqp.Connection
) -> None:
    handler = Handler()
    server = gamqp.RPCServer(serving, 'jobs', handler, concurrency=100)
    client = gamqp.RPCClient(asking, timeout=greenlets.PATIENCE)
    own, consumer = client.channel, server.consumer
    before = [greenlets.spawn(client.call, b'a', 'jobs') for _ in range(500)]
    greenlets.wait_until(lambda: len(handler.asked) == 100 and client.pending == 500)
    broker.wait_until(lambda: len(broker.queue('jobs')) == 400)
    lose(broker, asking, serving)
    for task in before:
        with pytest.raises(gamqp.Lost):
            task.get()
    assert client.pending == 0 and server.replied == 0
    during = [greenlets.spawn(client.call, b'b', 'jobs') for _ in range(500)]
    handler.held = False
    greenlets.wait_until(lambda: server.stale == 100)  # without waiting for the end of the outage
    assert not any(task.done for task in during)
    broker.clear_faults()
    assert {bytes(task.get().body) for task in during} == {b'B'}
    broker.wait_until(lambda: not broker.queue('jobs').unacked and not len(broker.queue('jobs')))
    assert server.consumer is consumer and client.channel is own and own.is_open
    assert len(broker.queue('jobs').consumers) == 1
    # All were asked again that had no reply, and the handlers of before have sent none.
    greenlets.wait_until(lambda: server.replied == 1000)
    assert len(handler.asked) == 1100 and (server.stale, server.failed) == (100, 0)
    assert len(reply_addresses(broker)) == 1000
    assert serving.stats()['stale_replies'] == 100 and asking.stats()['stale_replies'] == 0
    assert (client.calls, client.replies, client.timeouts) == (1000, 500, 0)


def test_a_handler_that_fails_across_the_loss_reports_nothing(
    broker: testing.Broker, asking: gamqp.Connection, serving: gamqp.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Handler()

    def fail_once(request: gamqp.Message) -> bytes:
        answer = handler(request)
        if not request.redelivered:
            raise LookupError('not now')
        return answer

    server = gamqp.RPCServer(serving, 'jobs', fail_once)
    channel = asking.channel()
    replies = channel.consume(REPLY_TO, no_ack=True)
    channel.publish(b'x', '', 'jobs', reply_to=REPLY_TO, correlation_id='1').wait()
    greenlets.wait_until(lambda: handler.asked)
    (connection,) = [one for one in broker.connections if one.unacked]
    broker.cut(connection)
    greenlets.wait_until(lambda: serving.stats()['recoveries'])
    handler.held = False
    # The one who asked is on another connection, and gets one reply: of the second time.
    assert (bytes(next(replies).body), handler.asked) == (b'X', [(b'x', False), (b'x', True)])
    greenlets.wait_until(lambda: server.replied == 1)
    assert (server.failed, server.stale) == (1, 1) and len(reply_addresses(broker)) == 1
    assert 'not now' in caplog.text
    replies.close()


def test_a_reply_that_waits_when_the_loss_comes_is_not_sent(
    broker: testing.Broker, asking: gamqp.Connection, serving: gamqp.Connection
) -> None:
    handler = Handler()
    handler.held = False
    broker.block()
    server = gamqp.RPCServer(serving, 'jobs', handler)
    server.channel.basic_publish(gamqp.Message('x'), '', 'nowhere')  # the broker says that it takes nothing
    greenlets.wait_until(lambda: serving.is_blocked)
    broker.publish('', 'jobs', b'x', reply_to=f'{REPLY_TO}.old')
    greenlets.wait_until(lambda: handler.asked)
    greenlets.sleep(0.01)
    assert server.consumer.in_flight == 1  # it waits to publish
    handler.held = True
    lose(broker, serving)
    broker.unblock()
    broker.clear_faults()
    greenlets.wait_until(lambda: len(handler.asked) == 2)
    assert handler.asked[1] == (b'x', True) and (server.stale, server.replied) == (1, 0)
    handler.held = False
    greenlets.wait_until(lambda: server.replied == 1)
    assert serving.stats()['stale_replies'] == 1


@pytest.mark.parametrize('kind', ['called', 'iterated', 'handled'])
def test_a_consumer_of_replies_of_the_programs_own_goes_on(
    broker: testing.Broker, asking: gamqp.Connection, serving: gamqp.Connection, kind: str
) -> None:
    handler = Handler()
    handler.held = False
    gamqp.RPCServer(serving, 'jobs', handler)
    channel, got = asking.channel(), []
    tasks: list[greenlets.Task] = []
    if kind == 'called':
        channel.basic_consume(REPLY_TO, no_ack=True, callback=lambda message: got.append(bytes(message.body)))
        tasks.append(greenlets.spawn(lambda: [asking.drain_events() for _ in range(2)]))
    elif kind == 'iterated':
        replies = channel.consume(REPLY_TO, no_ack=True)
        tasks.append(greenlets.spawn(lambda: [got.append(bytes(next(replies).body)) for _ in range(2)]))
    else:
        channel.subscribe(REPLY_TO, lambda message: got.append(bytes(message.body)), no_ack=True)
    for number in (1, 2):
        channel.publish(b'a%d' % number, '', 'jobs', reply_to=REPLY_TO)
        greenlets.wait_until(lambda number=number: len(got) == number)  # type: ignore[misc]
        if number == 1:
            lose(broker, asking, serving)
            broker.clear_faults()
    assert got == [b'A1', b'A2'] and asking.stats()['recoveries'] == 1
    assert [record['queue'] for record in asking.topology() if record['kind'] == 'consumer'] == [REPLY_TO]
    for task in tasks:
        task.get()


@pytest.mark.parametrize('own', [True, False])
def test_a_request_goes_out_again_if_there_is_somebody_for_the_reply(broker: testing.Broker, own: bool) -> None:
    with opened(broker, republish='all') as connection:
        connection.channel().queue_declare('jobs', durable=True, auto_delete=False)
        channel = connection.channel()
        # Consumers that are not to be started again are no reason to ask again.
        replies = channel.consume(REPLY_TO, no_ack=True, recover=own)
        broker.drop_reply('basic.publish')
        receipt = channel.publish(b'x', '', 'jobs', reply_to=REPLY_TO)
        broker.wait_until(lambda: len(broker.queue('jobs')) == 1)
        broker.cut()
        if own:
            receipt.wait(greenlets.PATIENCE)
            assert len(broker.queue('jobs')) == 2
            with opened(broker) as serving:
                server = gamqp.RPCServer(serving, 'jobs', lambda request: b'answer')
                assert bytes(next(replies).body) == b'answer'
                server.close()
        else:
            with pytest.raises(gamqp.Lost):
                receipt.wait(greenlets.PATIENCE)
            connection.wait_open(greenlets.PATIENCE)
            assert len(broker.queue('jobs')) == 1
        assert channel.is_open
        replies.close()
