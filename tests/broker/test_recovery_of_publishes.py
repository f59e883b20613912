"""What becomes of publishes that have no confirm when their connection is lost and opened again."""

from __future__ import annotations

from typing import Any

import greenlets
import pytest
from script import ScriptedBroker, frames

import gamqp
from gamqp import Recovery

# Of the kernel, so that a large message fills it and what is published behind that stays in the process.
PEER = {'buffer': 4096}

LARGE = b'x' * 3_000_000


def opened(peer: ScriptedBroker, republish: Any = 'none', **arguments: Any) -> gamqp.Connection:
    recover = Recovery(first_delay=0, delay=0.1, max_delay=0.1, republish=republish)
    return peer.open(recover=recover, **arguments)


def lose(peer: ScriptedBroker, connection: gamqp.Connection) -> None:
    peer.hang_up()
    greenlets.wait_until(lambda: connection.state == 'recovering')


def come_back(peer: ScriptedBroker, *modes: str) -> None:
    peer.handshake()
    for name in ('channel.open', *modes):
        peer.expect(name, 1)
        peer.send(f'{name}-ok', 1)


def confirm(peer: ScriptedBroker, count: int) -> None:
    peer.send('basic.ack', 1, delivery_tag=count, multiple=True)


def test_a_publish_of_which_nothing_was_sent_says_so(peer: ScriptedBroker) -> None:
    lost: list[Any] = []
    connection = opened(peer, on_lost=lost.append)
    channel = peer.open_channel(connection)
    peer.turn_confirms_on(channel)
    sent = channel.publish(b'sent', routing_key='q')
    assert peer.expect('basic.publish').body == b'sent'
    begun = channel.publish(LARGE, routing_key='q')
    unsent = [channel.publish(b'%d' % number, routing_key='q') for number in range(3)]
    waiting = greenlets.spawn(channel.basic_publish_confirm, gamqp.Message(b'3'), '', 'q')
    all_of_it = greenlets.spawn(channel.wait_for_confirms)
    greenlets.wait_until(lambda: channel.unconfirmed == 6)
    lose(peer, connection)
    for receipt in (sent, begun):
        assert receipt.state == 'lost' and isinstance(receipt.error, gamqp.Lost) and receipt.error.sent is None
    for receipt in unsent:
        assert receipt.state == 'lost' and isinstance(receipt.error, gamqp.Lost) and receipt.error.sent is False
    for task, was_sent in ((waiting, False), (all_of_it, None)):
        with pytest.raises(gamqp.Lost) as caught:
            task.get()
        assert caught.value.sent is was_sent
    come_back(peer, 'confirm.select')
    connection.wait_open(greenlets.PATIENCE)
    peer.expect_nothing_more(connection)
    greenlets.wait_until(lambda: bool(lost))
    assert (lost[0].lost.receipts, lost[0].lost.unsent) == (6, 4)
    stats = connection.stats()
    assert (stats['published'], stats['lost'], stats['unconfirmed'], stats['lost_publishes']) == (6, 6, 0, 0)


@pytest.mark.parametrize('confirms', [False, True])
@pytest.mark.parametrize('how', ['loss', 'too slow'])
def test_who_waits_until_a_publish_is_sent_gets_lost(peer: ScriptedBroker, how: str, confirms: bool) -> None:
    connection = opened(peer, confirm_publish=confirms)
    channel = peer.open_channel(connection)
    timeout = 0.05 if how == 'too slow' else greenlets.PATIENCE
    if confirms:
        peer.turn_confirms_on(channel)
    publishing = greenlets.spawn(lambda: channel.basic_publish(gamqp.Message(LARGE), '', 'q', timeout=timeout))
    greenlets.wait_until(lambda: connection.stats()['send_queue_bytes'] or connection.state == 'recovering')
    if how == 'loss':
        lose(peer, connection)
    with pytest.raises(gamqp.Lost, match=r'closed the socket|reset|not sent within') as caught:
        publishing.get()
    assert caught.value.sent is None
    peer.hang_up()
    come_back(peer, *(['confirm.select'] if confirms else []))
    connection.wait_open(greenlets.PATIENCE)


@pytest.mark.parametrize('republish', ['none', 'unsent'])
def test_publishes_without_confirms_are_counted_or_go_out_again(peer: ScriptedBroker, republish: str) -> None:
    connection = opened(peer, republish)
    channel = peer.open_channel(connection)
    for body in (LARGE, b'1', b'2'):
        channel.basic_publish(gamqp.Message(body), '', 'q')
    lose(peer, connection)
    later = greenlets.spawn(channel.basic_publish, gamqp.Message(b'3'), '', 'q')
    come_back(peer)
    later.get()
    expected = [b'3'] if republish == 'none' else [b'1', b'2', b'3']
    assert [peer.expect('basic.publish').body for _ in expected] == expected
    peer.expect_nothing_more(connection)
    assert connection.stats()['lost_publishes'] == (2 if republish == 'none' else 0)


@pytest.mark.parametrize('losses', [1, 3])
def test_what_was_not_sent_goes_out_first_and_in_order(peer: ScriptedBroker, losses: int) -> None:
    connection = opened(peer, 'unsent')
    channel = peer.open_channel(connection)
    peer.turn_confirms_on(channel)
    begun = channel.publish(LARGE, routing_key='q')
    unsent = [channel.publish(b'%d' % number, '', 'q', mandatory=number == 1) for number in range(3)]
    with pytest.raises(gamqp.Lost) as caught:
        all_of_it = greenlets.spawn(channel.wait_for_confirms)
        greenlets.sleep()
        for _ in range(losses - 1):
            lose(peer, connection)
            peer.handshake()  # and lost again in the middle of restoring
            peer.expect('channel.open')
        lose(peer, connection)
        all_of_it.get()
    assert caught.value.sent is None and begun.state == 'lost'
    assert [receipt.state for receipt in unsent] == ['pending'] * 3 and channel.unconfirmed == 3
    later = greenlets.spawn(lambda: [channel.publish(body, '', 'q') for body in (b'3', b'4')])
    come_back(peer, 'confirm.select')
    assert [peer.expect('basic.publish').body for _ in range(5)] == [b'%d' % number for number in range(5)]
    args = {'reply_code': 312, 'reply_text': 'NO_ROUTE', 'exchange': '', 'routing_key': 'q'}
    peer.raw(frames('basic.return', body=b'1', properties={}, **args))
    peer.send('basic.nack', 1, delivery_tag=3)
    confirm(peer, 5)
    unsent += later.get()
    unsent[-1].wait()
    assert [receipt.state for receipt in unsent] == ['acked', 'returned', 'nacked', 'acked', 'acked']
    assert [receipt.delivery_tag for receipt in unsent] == [5, 6, 7, 8, 9]
    assert channel.wait_for_confirms() is False
    stats = connection.stats()
    assert (stats['published'], stats['confirmed'], stats['nacked'], stats['lost']) == (6, 4, 1, 1)


def test_who_waits_for_what_goes_out_again_waits_on(peer: ScriptedBroker) -> None:
    connection = opened(peer, 'unsent')
    channel, other = peer.open_channel(connection), peer.open_channel(connection, 2)
    peer.turn_confirms_on(channel)
    other.basic_publish(gamqp.Message(LARGE), '', 'q')
    one = greenlets.spawn(channel.basic_publish_confirm, gamqp.Message(b'1'), '', 'q')
    greenlets.wait_until(lambda: channel.unconfirmed == 1)
    all_of_it = greenlets.spawn(channel.wait_for_confirms)
    greenlets.sleep()
    lose(peer, connection)
    during = greenlets.spawn(channel.wait_for_confirms)
    peer.handshake()
    for number, names in ((1, ('channel.open', 'confirm.select')), (2, ('channel.open',))):
        for name in names:
            peer.expect(name, number)
            peer.send(f'{name}-ok', number)
    assert peer.expect('basic.publish').body == b'1'
    assert not (one.done or all_of_it.done or during.done)
    confirm(peer, 1)
    one.get()
    assert all_of_it.get() is during.get() is True


def test_all_without_a_confirm_go_out_again_with_an_id(peer: ScriptedBroker) -> None:
    connection = opened(peer, 'all')
    channel = peer.open_channel(connection)
    peer.turn_confirms_on(channel)
    receipts = [channel.publish(b'%d' % number, routing_key='q') for number in range(4)]
    receipts.append(channel.publish(b'4', routing_key='q', message_id='mine'))
    first = [peer.expect('basic.publish') for _ in receipts]
    peer.send('basic.ack', 1, delivery_tag=2)
    receipts[1].wait()
    peer.send('basic.nack', 1, delivery_tag=1)
    greenlets.wait_until(lambda: receipts[0].done)
    for _ in range(2):
        lose(peer, connection)
        come_back(peer, 'confirm.select')
        again = [peer.expect('basic.publish') for _ in range(3)]
        assert [one.body for one in again] == [b'2', b'3', b'4']
        assert [one.properties for one in again] == [one.properties for one in first[2:]]
    assert len({one.properties['message_id'] for one in first}) == 5 and first[4].properties['message_id'] == 'mine'
    confirm(peer, 3)
    receipts[-1].wait()
    assert [receipt.state for receipt in receipts] == ['nacked', *['acked'] * 4]
    assert channel.wait_for_confirms() is False
    stats = connection.stats()
    assert (stats['published'], stats['confirmed'], stats['nacked'], stats['lost']) == (5, 4, 1, 0)


def test_what_cannot_go_out_again_is_lost(peer: ScriptedBroker) -> None:
    connection = opened(peer, 'all')
    channel = peer.open_channel(connection)
    declared = greenlets.spawn(
        lambda: channel.queue_declare(
            'log', durable=True, auto_delete=False, arguments={'x-queue-type': 'stream'}, recover=False
        )
    )
    peer.expect('queue.declare')
    peer.send('queue.declare-ok', 1, queue='log', message_count=0, consumer_count=0)
    declared.get()
    peer.turn_confirms_on(channel)
    to_stream = channel.publish(b'1', routing_key='log')
    too_long = channel.publish(b'2' * 100_000, routing_key='q')
    other = channel.publish(b'3', routing_key='q')
    for _ in range(3):
        peer.expect('basic.publish')
    lose(peer, connection)
    assert channel.unconfirmed == 3
    peer.handshake(tune=(2047, 50_000, 60))
    peer.expect('channel.open')
    peer.send('channel.open-ok')
    peer.expect('confirm.select')
    peer.send('confirm.select-ok')
    assert peer.expect('basic.publish').body == b'3'
    confirm(peer, 1)
    other.wait()
    for receipt in (to_stream, too_long):
        assert receipt.state == 'lost' and isinstance(receipt.error, gamqp.Lost) and receipt.error.sent is None
    with pytest.raises(gamqp.Lost):
        channel.wait_for_confirms()
    assert channel.wait_for_confirms()


def test_what_is_kept_ends_with_the_connection(peer: ScriptedBroker) -> None:
    connection = opened(peer, 'all')
    channel = peer.open_channel(connection)
    peer.turn_confirms_on(channel)
    receipt = channel.publish(b'1', routing_key='q')
    peer.expect('basic.publish')
    lose(peer, connection)
    assert receipt.state == 'pending'
    connection.close()
    assert receipt.state == 'lost' and connection.stats()['lost'] == 1


def test_what_was_refused_before_the_loss_is_not_lost(peer: ScriptedBroker) -> None:
    connection = opened(peer)
    channel = peer.open_channel(connection)
    peer.turn_confirms_on(channel)
    nacked, returned = channel.publish(b'1', '', 'q'), channel.publish(b'2', '', 'q', mandatory=True)
    for _ in range(2):
        peer.expect('basic.publish')
    peer.send('basic.nack', 1, delivery_tag=1)
    args = {'reply_code': 312, 'reply_text': 'NO_ROUTE', 'exchange': '', 'routing_key': 'q'}
    peer.raw(frames('basic.return', body=b'2', properties={}, **args))
    lose(peer, connection)
    assert (nacked.state, returned.state) == ('nacked', 'returned')
    come_back(peer, 'confirm.select')
    connection.wait_open(greenlets.PATIENCE)
    assert channel.wait_for_confirms() is False
    assert channel.wait_for_confirms() is True


def test_wait_for_confirms_raises_in_the_outage_what_was_lost_by_it(peer: ScriptedBroker) -> None:
    connection = opened(peer)
    channel = peer.open_channel(connection)
    peer.turn_confirms_on(channel)
    channel.publish(b'1', '', 'q')
    peer.expect('basic.publish')
    lose(peer, connection)
    with pytest.raises(gamqp.Lost):
        channel.wait_for_confirms()
    waiting = greenlets.spawn(channel.wait_for_confirms)
    come_back(peer, 'confirm.select')
    assert waiting.get() is True


def test_a_thousand_greenlets_publish_in_an_outage(peer: ScriptedBroker) -> None:
    connection = opened(peer, outstanding_limit=0)
    channel = peer.open_channel(connection)
    peer.turn_confirms_on(channel)
    lose(peer, connection)

    def publish(number: int) -> list[gamqp.Receipt]:
        return [channel.publish(b'%d.%d' % (number, one), '', 'q') for one in range(2)]

    tasks = [greenlets.spawn(publish, number) for number in range(1000)]
    come_back(peer, 'confirm.select')
    bodies = [peer.expect('basic.publish').body.decode() for _ in range(2000)]
    assert len(set(bodies)) == 2000
    place = {body: number for number, body in enumerate(bodies)}
    assert all(place[f'{number}.0'] < place[f'{number}.1'] for number in range(1000))
    confirm(peer, 2000)
    for task in tasks:
        for receipt in task.get():
            receipt.wait()
