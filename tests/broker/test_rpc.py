"""RPC against a scripted peer: what goes out in which order, and replies and returns that no broker sends on demand."""

from __future__ import annotations

from typing import Any

import greenlets
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker, frames

import gamqp
from gamqp import exceptions
from gamqp.rpc.client import REPLY_TO

TOKEN = 'amq.rabbitmq.reply-to.token'


@pytest.fixture
def rpc(channel: gamqp.Channel) -> gamqp.RPCClient:
    return gamqp.RPCClient(channel, timeout=30)


def begin(peer: ScriptedBroker, rpc: gamqp.RPCClient, count: int = 1) -> tuple[str, list[greenlets.Task], list[Any]]:
    """The client's first calls. Returns the consumer tag, the tasks and the requests."""
    tasks = [greenlets.spawn(rpc.call, b'%d' % number, 'q') for number in range(count)]
    consume = peer.expect('basic.consume')
    assert (consume.queue, consume.no_ack) == (REPLY_TO, True)
    return consume.consumer_tag, tasks, [peer.expect('basic.publish') for _ in tasks]


def consume_ok(tag: str) -> bytes:
    return frames('basic.consume-ok', consumer_tag=tag)


def reply(tag: str, request: Any, body: bytes = b'reply', **properties: Any) -> bytes:
    """A reply to this request, or one with this correlation id."""
    number = request if request is None or isinstance(request, str) else request.properties['correlation_id']
    properties = {**properties, **({} if number is None else {'correlation_id': number})}
    return frames('basic.deliver', consumer_tag=tag, delivery_tag=1, body=body, properties=properties)


def came_back(request: Any) -> bytes:
    args = {'reply_code': 312, 'reply_text': 'NO_ROUTE', 'exchange': '', 'routing_key': 'q'}
    return frames('basic.return', body=request.body, properties=request.properties, **args)


def reopen(peer: ScriptedBroker, code: int = 404) -> None:
    peer.send('channel.close', 1, reply_code=code, reply_text='not this way', class_id=60, method_id=40)
    peer.reopen()


def test_replies_on_a_reopened_channel_may_bear_the_same_number(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, rpc: gamqp.RPCClient
) -> None:
    """RabbitMQ before 4.2 does not count direct replies, and then delivers others under that number."""
    client.server_properties['product'] = 'RabbitMQ'
    tag, tasks, _ = begin(peer, rpc)
    reopen(peer)
    with pytest.raises(exceptions.NotFound):
        tasks[0].get()
    tag, tasks, requests = begin(peer, rpc, 3)
    peer.raw(consume_ok(tag) + b''.join(reply(tag, request) for request in requests))
    assert [task.get().body for task in tasks] == [b'reply'] * 3
    getting = greenlets.spawn(channel.basic_get, 'q')
    peer.expect('basic.get')
    peer.send('basic.get-ok', delivery_tag=1, message_count=0, body=b'other')
    assert getting.get().body == b'other'


# -- the client ------------------------------------------------------------------------


def test_a_hundred_first_calls_consume_once_and_before_the_first_request(
    peer: ScriptedBroker, client: gamqp.Connection, rpc: gamqp.RPCClient
) -> None:
    tag, tasks, requests = begin(peer, rpc, 100)
    peer.expect_nothing_more(client)
    assert len({request.properties['correlation_id'] for request in requests}) == 100
    for request in requests:
        assert (request.properties['reply_to'], request.routing_key, request.mandatory) == (REPLY_TO, 'q', True)
        assert 25_000 < int(request.properties['expiration']) <= 30_000
    # The last asked is the first answered.
    peer.raw(consume_ok(tag) + b''.join(reply(tag, request, request.body) for request in reversed(requests)))
    assert [task.get().body for task in tasks] == [b'%d' % number for number in range(100)]
    assert (rpc.calls, rpc.replies, rpc.pending) == (100, 100, 0)


@pytest.mark.parametrize('early', [False, True])
def test_a_reply_in_one_packet_with_consume_ok_arrives(peer: ScriptedBroker, rpc: gamqp.RPCClient, early: bool) -> None:
    tag, (task,), (request,) = begin(peer, rpc)
    parts = [reply(tag, request), consume_ok(tag)]
    peer.raw(b''.join(parts if early else parts[::-1]))
    assert task.get().body == b'reply'


def test_a_reply_that_comes_twice_is_dropped_and_counted(
    peer: ScriptedBroker, client: gamqp.Connection, rpc: gamqp.RPCClient
) -> None:
    tag, (first, second), (one, two) = begin(peer, rpc, 2)
    peer.raw(consume_ok(tag) + reply(tag, one, b'1') * 3 + reply(tag, two, b'2'))
    assert (first.get().body, second.get().body) == (b'1', b'2')
    assert (rpc.replies, rpc.late, rpc.unknown) == (2, 2, 0)
    peer.expect_nothing_more(client)


@pytest.mark.parametrize('number', [None, '', 'somebody else', '0', '\udcff'.encode(errors='surrogateescape')])
def test_a_reply_to_nobody_is_dropped_and_counted(
    peer: ScriptedBroker, client: gamqp.Connection, rpc: gamqp.RPCClient, number: Any
) -> None:
    tag, (task,), (request,) = begin(peer, rpc)
    stray = {} if number is None else {'correlation_id': number}
    peer.raw(
        consume_ok(tag)
        + frames('basic.deliver', consumer_tag=tag, delivery_tag=1, body=b'stray', properties=stray)
        + reply(tag, request)
    )
    assert task.get().body == b'reply'
    assert (rpc.replies, rpc.late, rpc.unknown) == (1, 0, 1)
    peer.expect_nothing_more(client)


def test_a_reply_whose_properties_are_nonsense_does_not_end_the_connection(
    peer: ScriptedBroker, client: gamqp.Connection, rpc: gamqp.RPCClient
) -> None:
    tag, (task,), (request,) = begin(peer, rpc)
    bad = frames('basic.deliver', consumer_tag=tag, delivery_tag=1, body=b'x', properties={'correlation_id': 'abcd'})
    peer.raw(consume_ok(tag) + bad.replace(b'\x04abcd', b'\xf4abcd') + reply(tag, request))
    assert task.get().body == b'reply'
    assert rpc.unknown == 1
    peer.expect_nothing_more(client)


@pytest.mark.parametrize('how', ['kill', 'timeout'])
def test_a_late_reply_is_dropped_and_counted(
    peer: ScriptedBroker, client: gamqp.Connection, rpc: gamqp.RPCClient, how: str
) -> None:
    task = greenlets.spawn(lambda: rpc.call(b'', 'q', timeout=0.05 if how == 'timeout' else 30))
    tag = peer.expect('basic.consume').consumer_tag
    request = peer.expect('basic.publish')
    if how == 'kill':
        task.kill()
    with pytest.raises(GreenletExit if how == 'kill' else TimeoutError):
        task.get()
    assert (rpc.pending, rpc.timeouts) == (0, int(how == 'timeout'))
    # The consumer that the vanished caller began is the next one's.
    other = greenlets.spawn(rpc.call, b'', 'q')
    second = peer.expect('basic.publish')
    peer.raw(consume_ok(tag) + reply(tag, request, b'late') + reply(tag, second, b'in time'))
    assert other.get().body == b'in time'
    assert (rpc.calls, rpc.replies, rpc.late) == (2, 1, 1)
    peer.expect_nothing_more(client)


def test_a_call_without_time_sends_nothing(
    peer: ScriptedBroker, client: gamqp.Connection, rpc: gamqp.RPCClient
) -> None:
    with pytest.raises(TimeoutError):
        rpc.call(b'', 'q', timeout=0)
    with pytest.raises(exceptions.EncodeError):
        rpc.call(object(), 'q')
    with pytest.raises(exceptions.EncodeError):
        rpc.call(b'', 'q', no_such_property=1)
    peer.expect_nothing_more(client)
    assert (rpc.calls, rpc.timeouts, rpc.pending) == (0, 1, 0)


def test_a_return_belongs_to_its_own_call(peer: ScriptedBroker, client: gamqp.Connection, rpc: gamqp.RPCClient) -> None:
    tag, tasks, requests = begin(peer, rpc, 3)
    killed, returned, answered = tasks
    killed.kill()
    with pytest.raises(GreenletExit):
        killed.get()
    peer.raw(consume_ok(tag) + came_back(requests[1]) + came_back(requests[0]) + reply(tag, requests[2]))
    with pytest.raises(exceptions.Returned) as caught:
        returned.get()
    assert caught.value.returned.body == b'1'
    assert answered.get().body == b'reply'
    assert rpc.returned == 2
    with pytest.raises(TimeoutError):  # and to nobody else
        client.drain_events(timeout=0)
    assert rpc.channel.returned_messages.empty()


@pytest.mark.parametrize('code', [406, 404])
def test_a_channel_error_fails_the_pending_calls_and_the_next_begins_anew(
    peer: ScriptedBroker, client: gamqp.Connection, rpc: gamqp.RPCClient, code: int
) -> None:
    tag, tasks, _ = begin(peer, rpc, 10)
    peer.raw(consume_ok(tag))
    reopen(peer, code)
    for task in tasks:
        with pytest.raises(exceptions.ERROR_MAP[code]):
            task.get()
    tag, (task,), (request,) = begin(peer, rpc)
    peer.raw(consume_ok(tag) + reply(tag, request))
    assert task.get().body == b'reply'
    assert rpc.pending == 0


def test_a_refused_consume_fails_the_calls_behind_it(
    peer: ScriptedBroker, client: gamqp.Connection, rpc: gamqp.RPCClient
) -> None:
    _, tasks, _ = begin(peer, rpc, 3)
    reopen(peer, 406)
    for task in tasks:
        with pytest.raises(exceptions.PreconditionFailed):
            task.get()
    assert not rpc.channel.callbacks


def test_an_error_for_a_caller_that_is_gone_does_not_hit_the_next_on_a_channel_of_the_clients_own(
    peer: ScriptedBroker, client: gamqp.Connection
) -> None:
    making = greenlets.spawn(gamqp.RPCClient, client)
    peer.expect('channel.open')
    peer.send('channel.open-ok', 1)
    rpc = making.get()
    tag, (task,), _ = begin(peer, rpc)
    peer.raw(consume_ok(tag))
    task.kill()
    with pytest.raises(GreenletExit):
        task.get()
    reopen(peer)
    tag, (task,), (request,) = begin(peer, rpc)
    peer.raw(consume_ok(tag) + reply(tag, request))
    assert task.get().body == b'reply'
    closing = greenlets.spawn(rpc.close)
    peer.expect('channel.close')
    peer.send('channel.close-ok', 1)
    closing.get()


def test_a_call_that_waited_while_the_channel_was_reopened_consumes_first(
    peer: ScriptedBroker, client: gamqp.Connection, rpc: gamqp.RPCClient
) -> None:
    tag, (task,), (request,) = begin(peer, rpc)
    peer.raw(consume_ok(tag) + reply(tag, request) + frames('connection.blocked', reason='memory'))
    task.get()
    greenlets.wait_until(lambda: client.is_blocked)
    waiting = greenlets.spawn(rpc.call, b'patient', 'q')
    greenlets.sleep(0)
    peer.send('channel.close', 1, reply_code=404, reply_text='of somebody else', class_id=60, method_id=40)
    peer.expect('channel.close-ok')
    peer.expect('channel.open')
    with pytest.raises(exceptions.NotFound):
        client.drain_events(timeout=30)
    peer.raw(frames('channel.open-ok', 1) + frames('connection.unblocked'))
    tag = peer.expect('basic.consume').consumer_tag
    request = peer.expect('basic.publish')
    assert request.body == b'patient'
    peer.raw(consume_ok(tag) + reply(tag, request))
    assert waiting.get().body == b'reply'


def test_a_cancel_by_the_broker_fails_the_pending_calls_and_the_next_begins_anew(
    peer: ScriptedBroker, client: gamqp.Connection, rpc: gamqp.RPCClient
) -> None:
    tag, tasks, _ = begin(peer, rpc, 2)
    peer.raw(consume_ok(tag) + frames('basic.cancel', consumer_tag=tag, nowait=True))
    for task in tasks:
        with pytest.raises(exceptions.ConsumerCancelled):
            task.get()
    peer.expect('basic.cancel')
    tag, (task,), (request,) = begin(peer, rpc)
    peer.raw(consume_ok(tag) + reply(tag, request))
    task.get()


@pytest.mark.parametrize('how', ['cut', 'reset', 'connection.close'])
def test_the_end_of_the_connection_fails_all_calls_at_once(
    peer: ScriptedBroker, client: gamqp.Connection, rpc: gamqp.RPCClient, how: str
) -> None:
    tag, tasks, _ = begin(peer, rpc, 100)
    peer.raw(consume_ok(tag))
    if how == 'connection.close':
        peer.send(how, reply_code=320, reply_text='CONNECTION_FORCED - enough')
    else:
        peer.cut(reset=how == 'reset')
    for task in tasks:
        with pytest.raises(exceptions.RecoverableConnectionError):
            task.get(timeout=30)
    with pytest.raises(exceptions.RecoverableConnectionError):
        rpc.call(b'', 'q')
    assert rpc.pending == 0


def test_close_fails_the_pending_calls_and_cancels(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, rpc: gamqp.RPCClient
) -> None:
    tag, tasks, requests = begin(peer, rpc, 2)
    closing = greenlets.spawn(rpc.close)
    for task in tasks:
        with pytest.raises(exceptions.RecoverableConnectionError, match='RPC client'):
            task.get()
    with pytest.raises(exceptions.RecoverableConnectionError, match='RPC client'):
        rpc.call(b'', 'q')
    # Until the broker has agreed, returns and replies are still this client's.
    peer.expect_nothing_more(client)  # no cancel before consume-ok
    peer.raw(consume_ok(tag))
    assert peer.expect('basic.cancel').consumer_tag == tag
    peer.raw(came_back(requests[0]) + reply(tag, requests[1]) + frames('basic.cancel-ok', consumer_tag=tag))
    closing.get()
    rpc.close()
    assert (rpc.returned, rpc.late) == (1, 1)
    assert channel.returned_messages.empty()
    peer.expect_nothing_more(client)


# -- the server ------------------------------------------------------------------------


def serve(peer: ScriptedBroker, channel: Any, handler: Any, **options: Any) -> tuple[gamqp.RPCServer, str]:
    making = greenlets.spawn(lambda: gamqp.RPCServer(channel, 'q', handler, **options))
    assert peer.expect('basic.qos').prefetch_count == options.get('concurrency', 1)
    peer.send('basic.qos-ok', 1)
    tag = peer.expect('basic.consume').consumer_tag
    peer.raw(consume_ok(tag))
    return making.get(), tag


def request_of(tag: str, **properties: Any) -> bytes:
    return frames('basic.deliver', consumer_tag=tag, delivery_tag=7, body=b'ask', properties=properties)


@pytest.mark.parametrize('fails', [False, True])
def test_the_reply_goes_before_the_ack_and_is_not_mandatory(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, fails: bool, caplog: Any
) -> None:
    server, tag = serve(peer, channel, lambda message: message.no_such_thing if fails else b'answer', concurrency=3)
    peer.raw(request_of(tag, reply_to=TOKEN, correlation_id='7'))
    answer = peer.expect('basic.publish')
    assert (answer.exchange, answer.routing_key, answer.mandatory) == ('', TOKEN, False)
    assert answer.properties['correlation_id'] == '7'
    if fails:
        assert answer.properties['application_headers']['x-rpc-error-type'] == 'AttributeError'
    else:
        assert answer.body == b'answer'
    assert peer.expect('basic.ack').delivery_tag == 7
    peer.expect_nothing_more(client)
    assert (server.replied, server.failed) == (1, int(fails))


def test_a_request_whose_properties_are_nonsense_is_rejected(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, caplog: Any
) -> None:
    _, tag = serve(peer, channel, lambda message: b'')
    peer.raw(request_of(tag, correlation_id='abcd').replace(b'\x04abcd', b'\xf4abcd'))
    said = peer.expect('basic.reject')
    assert (said.delivery_tag, said.requeue) == (7, False)
    assert client.connected


def test_a_worker_that_is_killed_leaves_the_request_to_somebody_else(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    def handler(message: Any) -> None:
        raise GreenletExit

    _, tag = serve(peer, channel, handler)
    peer.raw(request_of(tag, reply_to=TOKEN))
    said = peer.expect('basic.nack')
    assert (said.delivery_tag, said.requeue) == (7, True)
    peer.expect_nothing_more(client)


def test_a_server_that_could_not_begin_leaves_no_channel_behind(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    making = greenlets.spawn(gamqp.RPCServer, client, 'missing', print)
    peer.expect('channel.open')
    peer.send('channel.open-ok', 1)
    peer.expect('basic.qos')
    peer.expect('basic.consume')
    reopen(peer)
    with pytest.raises(exceptions.NotFound):
        making.get()
    peer.expect('channel.close')
    peer.send('channel.close-ok', 1)
    greenlets.wait_until(lambda: not client.channels)


def test_a_server_that_is_killed_while_it_begins_leaves_no_channel_behind(
    peer: ScriptedBroker, client: gamqp.Connection
) -> None:
    making = greenlets.spawn(gamqp.RPCServer, client, 'q', print)
    peer.expect('channel.open')
    peer.send('channel.open-ok', 1)
    peer.expect('basic.qos')
    tag = peer.expect('basic.consume').consumer_tag
    making.kill()
    with pytest.raises(GreenletExit):
        making.get()
    peer.expect('channel.close')
    peer.raw(frames('basic.qos-ok', 1) + consume_ok(tag) + frames('channel.close-ok', 1))
    greenlets.wait_until(lambda: not client.channels)
    assert client.connected
