"""The end of a connection: by us, by the peer, by both at once, and who is told what."""

from __future__ import annotations

from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker

import gamqp
from gamqp import exceptions


def everybody(client: gamqp.Connection, channel: gamqp.Channel) -> dict[str, greenlets.Task]:
    """One waiter of each kind."""
    return {
        'call': greenlets.spawn(channel.queue_declare, 'q'),
        'confirm': greenlets.spawn(channel.basic_publish_confirm, gamqp.Message(b'x'), '', 'q'),
        'drain': greenlets.spawn(client.drain_events),
        'drain with a timeout': greenlets.spawn(client.drain_events, 10),
        'open': greenlets.spawn(client.channel),
    }


def wait_for_everybody(peer: ScriptedBroker) -> None:
    for name in ('queue.declare', 'confirm.select', 'basic.publish', 'channel.open'):
        peer.expect(name)


def assert_all_got(tasks: dict[str, greenlets.Task], error: type[BaseException], text: str) -> None:
    caught = {}
    for who, task in tasks.items():
        with pytest.raises(error, match=text) as info:
            task.get()
        caught[who] = info.value
    assert len({id(exc) for exc in caught.values()}) == len(tasks), 'one exception object was raised twice'


def test_close_by_the_peer_reaches_everybody_with_its_code_and_text(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    tasks = everybody(client, channel)
    wait_for_everybody(peer)
    peer.send('connection.close', reply_code=320, reply_text='CONNECTION_FORCED - by operator', class_id=0)
    assert_all_got(tasks, exceptions.ConnectionForced, 'by operator')
    peer.expect('connection.close-ok')
    peer.expect_end()
    # And every call after it: the class again, never AttributeError.
    for call in (
        client.channel,
        client.drain_events,
        client.flush,
        client.send_heartbeat,
        lambda: channel.queue_declare('q'),
        lambda: channel.basic_publish(gamqp.Message(b''), '', 'q'),
        lambda: channel.basic_publish_confirm(gamqp.Message(b''), '', 'q'),
        lambda: channel.basic_ack(1),
        lambda: channel.basic_nack(1),
        lambda: channel.basic_reject(1, True),
        lambda: channel.basic_consume('q', callback=print),
        lambda: channel.basic_get('q'),
        channel.confirm_select,
        channel.open,
    ):
        with pytest.raises(exceptions.ConnectionForced, match='by operator'):
            call()
    client.close()
    channel.close()
    assert not channel.is_open


def test_an_unknown_code_is_a_connection_error_with_that_code(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    peer.send('connection.close', reply_code=999, reply_text='odd', class_id=60, method_id=40)
    with pytest.raises(exceptions.ConnectionError, match='odd') as caught:
        client.drain_events(timeout=30)
    assert caught.value.reply_code == 999
    assert caught.value.method_sig == (60, 40)


@pytest.mark.parametrize('reset', [False, True])
def test_a_lost_socket_reaches_everybody(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, reset: bool
) -> None:
    tasks = everybody(client, channel)
    wait_for_everybody(peer)
    peer.cut(reset)
    assert_all_got(tasks, exceptions.RecoverableConnectionError, 'connection lost' if reset else 'closed the socket')


def test_the_first_cause_wins(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> None:
    draining = greenlets.spawn(client.drain_events)
    greenlets.sleep(0)
    peer.send('connection.close', reply_code=541, reply_text='INTERNAL_ERROR')
    peer.cut(reset=False)
    with pytest.raises(exceptions.InternalError):
        draining.get()
    with pytest.raises(exceptions.InternalError):
        channel.basic_ack(1)


def test_what_came_before_the_close_in_the_same_packet_counts(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    from script import frames

    declaring = greenlets.spawn(channel.queue_declare, 'q')
    peer.expect('queue.declare')
    peer.raw(frames('queue.declare-ok', queue='q') + frames('connection.close', reply_code=320, reply_text='bye'))
    assert declaring.get().queue == 'q'


def test_our_close_sends_what_was_queued_and_wakes_the_others(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    tasks = everybody(client, channel)
    wait_for_everybody(peer)
    for number in range(20):
        channel.basic_publish(gamqp.Message(b'%d' % number), '', 'q')
    closing = greenlets.spawn(client.close)
    for number in range(20):
        assert peer.expect('basic.publish').body == b'%d' % number
    peer.agree_to_close()
    closing.get()
    assert_all_got(tasks, exceptions.RecoverableConnectionError, 'closed by this program')
    client.close()


def test_closes_that_cross_are_both_content(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    closing = greenlets.spawn(client.close)
    peer.expect('connection.close')
    peer.send('connection.close', reply_code=320, reply_text='me too')
    closing.get()
    peer.expect('connection.close-ok')
    peer.expect_end()


def test_close_survives_a_peer_that_only_hangs_up(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    closing = greenlets.spawn(client.close)
    peer.expect('connection.close')
    peer.cut()
    closing.get()
    assert not client.connected


def test_a_killed_close_has_closed_all_the_same(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    closing = greenlets.spawn(client.close)
    peer.expect('connection.close')
    assert client.is_closing
    closing.kill()
    peer.expect_end()
    assert not client.connected
    assert not client.is_closing


@pytest.mark.parametrize('how', ['answered', 'killed', 'out of patience'])
def test_a_second_close_returns_when_it_is_over(peer: ScriptedBroker, client: gamqp.Connection, how: str) -> None:
    first = greenlets.spawn(client.close)
    peer.expect('connection.close')
    second = greenlets.spawn(lambda: client.close(timeout=0.01 if how == 'out of patience' else None))
    greenlets.sleep(0)
    assert client.state == 'closing' and not second.done
    if how == 'answered':
        peer.send('connection.close-ok')
    elif how == 'killed':
        first.kill()
    second.get()
    assert client.state == 'closed'
    peer.expect_end()


def test_calls_during_our_close_are_refused(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    closing = greenlets.spawn(client.close)
    peer.expect('connection.close')
    with pytest.raises(exceptions.ConnectionError):
        client.channel()
    with pytest.raises(exceptions.ConnectionError):
        client.connect()
    peer.send('connection.close-ok')
    closing.get()
    peer.expect_end()


def test_deliveries_during_our_close_do_not_disturb_it(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    closing = greenlets.spawn(client.close)
    peer.expect('connection.close')
    peer.send('basic.deliver', consumer_tag='nobody', delivery_tag=1, body=b'x')
    peer.send('connection.close-ok')
    closing.get()


def test_bad_arguments_of_close_change_nothing(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    with pytest.raises(exceptions.EncodeError):
        client.close(reply_text='x' * 300)
    assert client.connected


def test_collect_says_nothing_to_the_peer(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    draining = greenlets.spawn(client.drain_events)
    greenlets.sleep(0)
    client.collect()
    peer.expect_end()
    with pytest.raises(exceptions.RecoverableConnectionError):
        draining.get()


def test_a_channel_of_a_dead_connection_knows_it(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    peer.cut()
    greenlets.wait_until(lambda: not client.connected)
    assert not channel.is_open
    assert channel.connection is None
    assert client.channels == {}
    assert 'closed' in repr(channel)
    assert 'closed' in repr(client)


def test_an_error_raised_many_times_does_not_grow_a_traceback(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    peer.cut()
    greenlets.wait_until(lambda: not client.connected)
    depths = set()
    for _ in range(5):
        try:
            client.channel()
        except exceptions.RecoverableConnectionError as exc:
            depth, at = 0, exc.__traceback__
            while at is not None:
                depth, at = depth + 1, at.tb_next
            depths.add(depth)
    assert len(depths) == 1


def test_killing_the_reader_ends_the_connection(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    """Programs that kill every greenlet they can find must get an error, not a hang."""
    declaring = greenlets.spawn(client.channel)
    peer.expect('channel.open')
    reader: Any = inside.reader_greenlet(client)
    greenlets.backend.kill(reader)
    with pytest.raises(exceptions.ConnectionError):
        declaring.get()
    peer.expect_end()
