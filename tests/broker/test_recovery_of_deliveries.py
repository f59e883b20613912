"""Deliveries that come at an awkward moment of a recovery: each is handed out, or given back, and none is dropped.

A broker counts what was dropped as unacked for as long as the connection lives, and delivers nothing more to a consumer
whose prefetch that has used up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import greenlets
import inside
import pytest
from flooding import LIMIT, nacked
from script import ScriptedBroker, frames
from scripted_consumers import Work, begin, messages
from scripted_recovery import AT_ONCE, call, come_back, grant, rehearse

import gamqp
from gamqp import exceptions, green

KINDS = ['callback', 'handler', 'iterator']


class Taker:
    """A consumer of one of three kinds, and the bodies that it has got.

    multiple: each ack covers those before.
    """

    def __init__(self, peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, kind: str) -> None:
        self.peer, self.got = peer, list[bytes]()
        self.channel = channel
        self.task: Any = None
        self.multiple = False
        self.held: green.Event | None = None
        ways = {
            'callback': lambda: channel.basic_consume('q', 't', callback=self.take),
            'handler': lambda: channel.subscribe('q', self.take, consumer_tag='t', prefetch=5),
            'iterator': lambda: channel.consume('q', consumer_tag='t', prefetch=5),
        }
        self.consumer = begin(peer, ways[kind])
        if kind == 'iterator':
            self.task = greenlets.spawn(lambda: [self.take(message) for message in self.consumer])
        elif kind == 'callback':
            self.task = greenlets.spawn(self.drain, client)

    def take(self, message: gamqp.Message) -> None:
        self.got.append(bytes(message.body))
        if self.held is not None:
            self.held.wait()
        message.ack(self.multiple)

    def hold(self) -> None:
        """Whoever takes a message waits until ``go``."""
        self.held = green.Event(greenlets.backend)

    def go(self) -> None:
        held, self.held = self.held, None
        assert held is not None
        held.set()

    def drain(self, client: gamqp.Connection) -> None:
        while True:
            client.drain_events()

    def deliver(self, *tags: int) -> bytes:
        return messages('t', tags)

    def takes(self, *tags: int) -> None:
        """These come, and are acked by the numbers that they have at the broker."""
        for tag in tags:
            while (said := self.peer.next()).channel != 1:
                pass  # a handler that was at work starts late, which is tried on another channel
            assert (said.name, said.delivery_tag) == ('basic.ack', tag)
        assert self.got[-len(tags) :] == [b'%d' % tag for tag in tags]

    def end(self) -> None:
        if self.task is not None:
            self.task.kill()


@pytest.fixture
def client(request: pytest.FixtureRequest, peer: ScriptedBroker) -> gamqp.Connection:
    return peer.open(recover=AT_ONCE, **getattr(request, 'param', {}))


@pytest.fixture
def taker(request: pytest.FixtureRequest, peer: ScriptedBroker, client: Any, channel: Any) -> Iterator[Taker]:
    taker = Taker(peer, client, channel, request.param)
    yield taker
    taker.end()


def resuming(peer: ScriptedBroker) -> gamqp.Connection:
    """A client that starts consumers again which the broker has cancelled."""
    settings = gamqp.Recovery(first_delay=0, delay=0.1, max_delay=0.1, cancelled='resume')
    return peer.open(recover=settings)


def lose(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    peer.hang_up()
    greenlets.wait_until(lambda: client.state == 'recovering')


def restore(peer: ScriptedBroker, until: str) -> Any:
    """Let the next attempt in, and grant what it asks for on channel 1 up to this. Returns that."""
    while (said := peer.next()).name != until or said.channel != 1:
        if said.channel == 1:
            grant(peer, said)
    return said


def consume_ok(channel: int = 1) -> bytes:
    return frames('basic.consume-ok', channel, consumer_tag='t')


@pytest.mark.parametrize('taker', KINDS, indirect=True)
def test_a_delivery_before_consume_ok_on_the_next_socket(
    peer: ScriptedBroker, client: gamqp.Connection, taker: Taker
) -> None:
    lose(peer, client)
    peer.handshake()
    restore(peer, 'basic.consume')
    peer.raw(taker.deliver(1, 2) + consume_ok() + taker.deliver(3))
    taker.takes(1, 2, 3)
    client.wait_open(greenlets.PATIENCE)
    peer.raw(taker.deliver(4))
    taker.takes(4)


@pytest.mark.parametrize('taker', KINDS, indirect=True)
def test_a_delivery_before_consume_ok_of_a_late_start(
    peer: ScriptedBroker, client: gamqp.Connection, taker: Taker
) -> None:
    lose(peer, client)
    come_back(peer, client, missing=('q',))
    rehearse(peer)
    peer.expect('basic.consume', 1)
    peer.raw(taker.deliver(1, 2) + consume_ok() + taker.deliver(3))
    taker.takes(1, 2, 3)


@pytest.mark.parametrize('taker', KINDS, indirect=True)
def test_a_delivery_on_the_socket_of_an_attempt_that_fails(
    peer: ScriptedBroker, client: gamqp.Connection, taker: Taker
) -> None:
    """What is acked then is acked on that socket, and the numbers of the next one are its own."""
    second = peer.open_channel(client, 2)
    for _ in range(3):
        lose(peer, client)
        peer.handshake()
        restore(peer, 'basic.consume')
        peer.raw(consume_ok() + taker.deliver(1, 2))
        taker.takes(1, 2)
        assert client.state == 'recovering' and not second.is_open
    peer.hang_up()
    come_back(peer, client)
    peer.raw(taker.deliver(1))
    taker.takes(1)


@pytest.mark.parametrize('taker', KINDS, indirect=True)
def test_deliveries_after_losses_when_all_before_were_acked_together(
    peer: ScriptedBroker, client: gamqp.Connection, taker: Taker
) -> None:
    """The numbers begin at 1 again, and none of those is covered by the ack of before."""
    taker.multiple = True
    for _ in range(3):
        peer.raw(taker.deliver(1, 2, 3))
        taker.takes(1, 2, 3)
        lose(peer, client)
        come_back(peer, client)
    peer.raw(taker.deliver(1))
    taker.takes(1)


@pytest.mark.parametrize('again', [True, False])
def test_a_consumer_that_the_broker_cancels_while_others_are_restored(peer: ScriptedBroker, again: bool) -> None:
    """As when the leader of its queue changes just then. again: the attempt fails, and the next one starts it."""
    client = resuming(peer)
    channel, got = peer.open_channel(client), list[bytes]()
    begin(peer, lambda: channel.subscribe('q', lambda message: got.append(message.body), consumer_tag='t'))
    peer.open_channel(client, 2)
    lose(peer, client)
    peer.handshake()
    asked = []
    while len(asked) < 2:
        said = peer.next()
        if (said.name == 'channel.open' and said.channel == 2) or said.name == 'basic.consume':
            asked.append(said)
        else:
            grant(peer, said)
    peer.raw(consume_ok() + frames('basic.cancel', consumer_tag='t', nowait=True))
    peer.expect('basic.cancel', 1)
    assert client.state == 'recovering'
    if again:
        peer.hang_up()
        come_back(peer, client)
        peer.expect_nothing_more(client)
    else:
        peer.send('channel.open-ok', 2)
        rehearse(peer)
        grant(peer, peer.expect('basic.consume', 1))
    peer.raw(messages('t', [1]))
    assert peer.expect('basic.ack', 1).delivery_tag == 1
    assert got == [b'1'] and channel.consumer_count == 1


@pytest.mark.parametrize('kind', KINDS)
def test_what_waits_here_when_the_broker_cancels_its_consumer_is_given_back(peer: ScriptedBroker, kind: str) -> None:
    """A consumer that starts again with the next turn of its handler, and gets all of it again."""
    client = resuming(peer)
    channel, work = peer.open_channel(client), Work()
    work.hold(1)
    ways: dict[str, Any] = {
        'callback': lambda: channel.basic_consume('q', 't', callback=work),
        'handler': lambda: channel.subscribe('q', work, consumer_tag='t'),
        'iterator': lambda: channel.consume('q', consumer_tag='t'),
    }
    consumer = begin(peer, ways[kind])
    peer.raw(messages('t', [1, 2, 3]))
    greenlets.wait_until(lambda: channel.unsettled == 3 and (kind != 'handler' or work.running == 1))
    peer.send('basic.cancel', consumer_tag='t', nowait=True)
    peer.expect('basic.cancel', 1)
    waiting = [2, 3] if kind == 'handler' else [1, 2, 3]
    assert nacked(peer, len(waiting)) == waiting
    if kind == 'handler':
        peer.expect_nothing_more(client)
        work.go(1)
        assert peer.expect('basic.ack', 1).delivery_tag == 1
    rehearse(peer)
    grant(peer, peer.expect('basic.consume', 1))
    peer.raw(messages('t', [4]))
    if kind == 'callback':
        client.drain_events(greenlets.PATIENCE)
    elif kind == 'iterator':
        work(next(consumer))
    greenlets.wait_until(lambda: work.begun[-1:] == ['4'])
    if kind == 'handler':
        assert peer.expect('basic.ack', 1).delivery_tag == 4
    assert channel.consumer_count == 1


def test_a_consumer_that_the_broker_cancels_as_soon_as_it_has_started_late(peer: ScriptedBroker) -> None:
    client = resuming(peer)
    channel, got = peer.open_channel(client), list[bytes]()
    begin(peer, lambda: channel.subscribe('q', lambda message: got.append(message.body), consumer_tag='t'))
    peer.send('basic.cancel', consumer_tag='t', nowait=True)
    for _ in range(3):
        peer.expect('basic.cancel', 1)
        rehearse(peer)
        peer.expect('basic.consume', 1)
        peer.raw(consume_ok() + frames('basic.cancel', consumer_tag='t', nowait=True))
    peer.expect('basic.cancel', 1)
    rehearse(peer)
    grant(peer, peer.expect('basic.consume', 1))
    peer.raw(messages('t', [1]))
    assert peer.expect('basic.ack', 1).delivery_tag == 1 and got == [b'1']


def test_a_consumer_that_ends_while_others_are_restored(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """The broker cancels it: it gets its answer, without which RabbitMQ 4.3 may go on delivering."""
    consumer = begin(peer, lambda: channel.subscribe('q', print, consumer_tag='t'))
    peer.open_channel(client, 2)
    lose(peer, client)
    peer.handshake()
    restore(peer, 'basic.consume')
    peer.raw(consume_ok() + frames('basic.cancel', consumer_tag='t', nowait=True))
    while (said := peer.next()).channel != 1:
        pass
    assert (said.name, said.consumer_tag, said.nowait) == ('basic.cancel', 't', True)
    assert client.state == 'recovering'
    with pytest.raises(exceptions.ConsumerCancelled):
        consumer.join(greenlets.PATIENCE)


@pytest.mark.parametrize('no_ack', [False, True])
def test_what_comes_while_it_is_tried_whether_a_consumer_may_start(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, no_ack: bool
) -> None:
    """It goes back to its queue with the channel. Not by a nack: quorum queues count those."""
    got: list[bytes] = []
    begin(
        peer, lambda: channel.subscribe('q', lambda message: got.append(message.body), consumer_tag='t', no_ack=no_ack)
    )
    lose(peer, client)
    come_back(peer, client, missing=('q',))
    for name in ('channel.open', 'basic.qos'):
        grant(peer, peer.expect(name, 2047))
    said = peer.expect('basic.consume', 2047)
    assert not said.no_ack
    peer.raw(
        consume_ok(2047)
        + frames('basic.deliver', 2047, consumer_tag=said.consumer_tag, delivery_tag=1, body=b'taken back')
    )
    grant(peer, peer.expect('channel.close', 2047))
    said = peer.expect('basic.consume', 1)
    assert said.no_ack == no_ack
    peer.raw(consume_ok() + messages('t', [1]))
    greenlets.wait_until(lambda: got == [b'1'])
    if not no_ack:
        peer.expect('basic.ack', 1)
    peer.expect_nothing_more(client)


def test_a_consumer_that_is_to_be_alone_waits_until_it_is(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """Its queue goes with its last consumer, so the broker is asked about others instead of trying to start it."""
    call(peer, channel.queue_declare, 'q', durable=True, auto_delete=True)
    begin(peer, lambda: channel.subscribe('q', print, consumer_tag='t', exclusive=True))
    lose(peer, client)
    come_back(peer, client, missing=('q',))
    for others in (1, 0):
        grant(peer, peer.expect('channel.open', 2047))
        assert peer.expect('queue.declare', 2047).passive
        peer.send('queue.declare-ok', 2047, queue='q', message_count=5, consumer_count=others)
        if others:
            grant(peer, peer.expect('channel.close', 2047))
    assert peer.expect('channel.close', 2047) and client.stats()['outages'] == 1
    peer.send('channel.close-ok', 2047)
    assert peer.expect('basic.consume', 1).exclusive


@pytest.mark.parametrize('client', [{'max_undelivered_messages': LIMIT}], indirect=True)
@pytest.mark.parametrize('taker', KINDS, indirect=True)
def test_deliveries_after_a_loss_when_the_memory_was_full(
    peer: ScriptedBroker, client: gamqp.Connection, taker: Taker
) -> None:
    """The reader had stopped. What waited is void, and its room is free for what comes now."""
    taker.hold()
    peer.raw(taker.deliver(*range(1, 2 * LIMIT)))
    greenlets.wait_until(lambda: not inside.reads(client))
    inside.link(client).lose(exceptions.RecoverableConnectionError('broken pipe'))
    lose(peer, client)
    come_back(peer, client)
    held = len(taker.got)
    peer.raw(taker.deliver(*range(1, 2 * LIMIT)))
    taker.go()
    taker.takes(*range(1, 2 * LIMIT))
    assert len(taker.got) == held + 2 * LIMIT - 1


def test_a_message_that_was_to_be_requeued_later(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """The broker has it back by the loss. What has its number now is another one, and is not refused."""
    tried: list[bytes] = []

    def handle(message: gamqp.Message) -> None:
        tried.append(bytes(message.body))
        if len(tried) == 1:
            raise LookupError('not this one')

    begin(peer, lambda: channel.subscribe('q', handle, consumer_tag='t'))
    peer.raw(messages('t', [1]))
    greenlets.wait_until(lambda: len(tried) == 1)
    peer.hang_up()
    come_back(peer, client)
    peer.raw(messages('t', [1]))
    assert peer.expect('basic.ack', 1).delivery_tag == 1
    peer.expect_nothing_more(client)
    assert tried == [b'1', b'1']
