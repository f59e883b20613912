"""``sock.fileno()`` for an event loop that is not our hub: readable exactly when drain_events has something to do."""

from __future__ import annotations

import gc
import time
from typing import Any

import greenlets
import inside
import pytest
from external_event_loop import drain_when_readable, kernel_objects, readable
from flooding import LIMIT, deliveries, flood
from script import ScriptedBroker, frames
from scripted_consumers import begin, messages

import gamqp
from gamqp.transport import poll_descriptor

pytestmark = pytest.mark.skipif(not poll_descriptor.AVAILABLE, reason='this system has no epoll and eventfd')

MANY = 3000


@pytest.fixture
def got() -> list[Any]:
    return []


def consuming(peer: ScriptedBroker, got: list[Any], no_ack: bool = False, **arguments: Any) -> gamqp.Connection:
    """An open connection with a callback consumer, whose descriptor somebody polls."""
    client = peer.open(**arguments)
    channel = peer.open_channel(client)
    begin(peer, lambda: channel.basic_consume('q', 'tag', no_ack=no_ack, callback=got.append))
    assert not readable(client.sock)
    return client


def take_in(peer: ScriptedBroker, client: gamqp.Connection, data: bytes) -> None:
    """Have the client receive this while it waits for something else, as a call waits for its reply."""
    asker = client.channels.get(9) or peer.open_channel(client, 9)
    asking = greenlets.spawn(asker.queue_declare, 'q')
    peer.expect('queue.declare', 9)
    peer.raw(data + frames('queue.declare-ok', 9, queue='q'))
    asking.get()


# -- readable, and not ---------------------------------------------------------------------------


def test_what_was_received_during_another_call_is_shown_until_it_is_handed_out(
    peer: ScriptedBroker, got: list[Any]
) -> None:
    client = consuming(peer, got)
    take_in(peer, client, messages('tag', [1, 2]))
    assert readable(client.sock)
    client.drain_events(timeout=0)
    assert readable(client.sock)
    client.drain_events(timeout=0)
    assert len(got) == 2 and not readable(client.sock)
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)
    assert not readable(client.sock)


def test_inside_the_last_callback_it_is_not_readable(peer: ScriptedBroker, got: list[Any]) -> None:
    client = peer.open()
    channel = peer.open_channel(client)
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=lambda message: got.append(readable(client.sock))))
    assert not readable(client.sock)
    take_in(peer, client, messages('tag', [1, 2]))
    client.drain_events(timeout=0)
    client.drain_events(timeout=0)
    assert got == [True, False]


def test_a_callback_that_raises_leaves_it_as_it_should_be(peer: ScriptedBroker) -> None:
    client = peer.open()
    channel = peer.open_channel(client)
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=lambda message: 1 / 0))
    take_in(peer, client, messages('tag', [1, 2]))
    for left in (True, False):
        with pytest.raises(ZeroDivisionError):
            client.drain_events(timeout=0)
        assert readable(client.sock) is left


def test_input_that_nobody_has_read_is_shown_without_a_turn_of_the_hub(peer: ScriptedBroker, got: list[Any]) -> None:
    client = consuming(peer, got)
    peer.raw(messages('tag', [1]))
    drain_when_readable(client, lambda: len(got) == 1)
    assert not readable(client.sock)


def test_a_notice_is_shown_until_it_was_raised(peer: ScriptedBroker, got: list[Any]) -> None:
    client = consuming(peer, got)
    take_in(peer, client, frames('basic.cancel', 1, consumer_tag='tag', nowait=True))
    assert readable(client.sock)
    with pytest.raises(gamqp.ConsumerCancelled):
        client.drain_events(timeout=0)
    assert not readable(client.sock)


def test_deliveries_that_nobody_will_get_are_not_shown(peer: ScriptedBroker, got: list[Any]) -> None:
    client = consuming(peer, got)
    channel = client.channels[1]
    take_in(peer, client, messages('tag', range(1, 50)))
    assert readable(client.sock)
    closing = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    peer.send('channel.close-ok', 1)
    closing.get()
    greenlets.wait_until(lambda: not readable(client.sock))
    with pytest.raises(TimeoutError):
        client.drain_events(timeout=0)


def test_what_iterators_have_is_none_of_its_business(peer: ScriptedBroker) -> None:
    client = peer.open()
    channel = peer.open_channel(client)
    loop = begin(peer, lambda: channel.consume('q', consumer_tag='tag'))
    take_in(peer, client, messages('tag', [1, 2]))
    assert loop.delivered == 2 and not readable(client.sock)


def test_asked_for_late_it_shows_what_waits_already(peer: ScriptedBroker, got: list[Any]) -> None:
    client = peer.open()
    channel = peer.open_channel(client)
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    take_in(peer, client, messages('tag', [1]))
    assert readable(client.sock)


# -- with more than there is room for ----------------------------------------------------------------


def test_a_reader_that_has_stopped_goes_on(peer: ScriptedBroker, got: list[Any]) -> None:
    client = consuming(peer, got, max_undelivered_messages=LIMIT)
    peer.raw(messages('tag', range(1, MANY + 1)))
    drain_when_readable(client, lambda: len(got) == MANY)
    assert [int(message.body) for message in got] == list(range(1, MANY + 1))
    assert not readable(client.sock)


def test_deliveries_on_disk_are_shown_as_they_come_back(peer: ScriptedBroker, got: list[Any]) -> None:
    client: Any = consuming(peer, got, max_undelivered_messages=LIMIT)
    flood(peer, client, deliveries(range(1, 1001), size=100))
    assert inside.overflow(client) is not None
    drain_when_readable(client, lambda: len(got) == 1000)
    assert inside.overflow(client) is None and not readable(client.sock)


def test_input_does_not_count_while_it_is_iterators_that_have_no_room(peer: ScriptedBroker) -> None:
    """A loop would be called again and again, for nothing."""
    client: Any = peer.open(max_undelivered_messages=LIMIT)
    channel = peer.open_channel(client)
    loop = begin(peer, lambda: channel.consume('q', consumer_tag='tag'))
    peer.raw(messages('tag', range(1, MANY + 1)))
    greenlets.wait_until(lambda: not inside.reads(client))
    peer.raw(messages('tag', [MANY + 1]))
    assert not readable(client.sock)
    for _ in range(MANY + 1):
        next(loop)
    greenlets.wait_until(lambda: inside.reads(client))
    assert not readable(client.sock)
    peer.send('channel.close', 1, reply_code=404, reply_text='', class_id=60, method_id=70)
    assert readable(client.sock, 5)


# -- the descriptors themselves -------------------------------------------------------------------------


def test_nobody_who_does_not_poll_pays_for_it(peer: ScriptedBroker, got: list[Any]) -> None:
    client: Any = peer.open()
    channel = peer.open_channel(client)
    before = kernel_objects()
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    client.sock.settimeout(5)
    client.sock.getsockname()
    take_in(peer, client, messages('tag', [1]))
    client.drain_events(timeout=0)
    assert inside.event_queue(client).descriptor is None and inside.transport(client).descriptor is None
    assert kernel_objects() == before
    assert client.sock.fileno() >= 0
    assert len(kernel_objects()) == len(before) + 2


def ended_by_close(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    closing = greenlets.spawn(client.close)
    peer.agree_to_close()
    closing.get()


def ended_by_collect(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    client.collect()


def ended_by_the_peer(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    peer.hang_up()
    greenlets.wait_until(lambda: not client.is_open)
    assert client.connected and readable(client.sock), 'the loop would not come to hear of it'
    with pytest.raises(gamqp.RecoverableConnectionError):
        client.drain_events(timeout=0)


def ended_by_the_peer_and_closed(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    peer.hang_up()
    greenlets.wait_until(lambda: not client.is_open)
    client.close()


def ended_and_connected_again(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    peer.hang_up()
    greenlets.wait_until(lambda: not client.is_open)
    opening = greenlets.spawn(client.connect)
    peer.handshake()
    opening.get()


@pytest.mark.parametrize(
    'end',
    [
        ended_by_close,
        ended_by_collect,
        ended_by_the_peer,
        ended_by_the_peer_and_closed,
        ended_and_connected_again,
    ],
)
def test_the_end_closes_them(peer: ScriptedBroker, got: list[Any], end: Any) -> None:
    before = kernel_objects()
    client: Any = consuming(peer, got)
    sock = client.sock
    assert len(kernel_objects()) == len(before) + 2
    end(peer, client)
    assert sock.fileno() == -1 and inside.event_queue(client).descriptor is None
    assert kernel_objects() == before
    assert client.sock is not sock and (client.sock is None or client.is_open)


@pytest.mark.filterwarnings('ignore:.*was never closed:ResourceWarning')
@pytest.mark.parametrize('lost', [False, True])
def test_a_connection_that_nobody_has_any_more_closes_them(peer: ScriptedBroker, got: list[Any], lost: bool) -> None:
    before = kernel_objects()

    def use_and_drop() -> None:
        client = gamqp.Connection(peer.host)
        opening = greenlets.spawn(client.connect)
        peer.handshake()
        opening.get()
        channel = peer.open_channel(client)
        begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
        assert not readable(client.sock)
        assert len(kernel_objects()) == len(before) + 2
        if lost:
            peer.hang_up()
            greenlets.wait_until(lambda: not client.is_open)

    use_and_drop()
    gc.collect()
    if not lost:
        peer.agree_to_close()
    greenlets.wait_until(lambda: kernel_objects() == before)


def test_a_process_without_descriptors_is_an_os_error_and_no_harm(
    peer: ScriptedBroker, got: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = peer.open()

    def refuse(*args: int) -> int:
        raise OSError(24, 'Too many open files')

    before = kernel_objects()
    with monkeypatch.context() as patch:
        patch.setattr('os.eventfd', refuse)
        with pytest.raises(OSError, match='Too many'):
            client.sock.fileno()
    gc.collect()
    assert kernel_objects() == before
    assert not readable(client.sock)


# -- heartbeat_tick lets the hub run where nobody else does ---------------------------------------------------


def test_a_tick_lets_an_overdue_hub_run(peer: ScriptedBroker) -> None:
    """A connection that the foreign loop does not poll, such as that of Celery's event dispatcher."""
    client: Any = peer.open((10, 131072, 60))
    peer.send('connection.close', reply_code=320, reply_text='CONNECTION_FORCED - by operator', class_id=0)
    client.heartbeat_tick()  # nothing switches: the hub has had its turn a moment ago
    assert client.is_open
    inside.let_hub_seem_overdue(client, time.monotonic() - 60)  # as if the program had not let it run for a minute
    with pytest.raises(gamqp.ConnectionForced, match='by operator'):
        client.heartbeat_tick()
