"""Channel.publish against a real broker: each of a thousand greenlets has the verdict on its own message."""

from __future__ import annotations

import broker_tools
import greenlets
import pytest
from proxy import Proxy

import gamqp
from gamqp import exceptions

COUNT = 1000


def outcome(receipt):
    """What became of it, waited for."""
    try:
        receipt.wait()
    except exceptions.Returned as error:
        return bytes(error.returned.body)
    except exceptions.MessageNacked:
        return 'nacked'
    return 'acked'


def in_greenlets(call, count=COUNT):
    """The results of call(0), call(1) …, each made in a greenlet of its own."""
    tasks = [greenlets.spawn(call, number) for number in range(count)]
    return [task.get(30) for task in tasks]


# -- returns -------------------------------------------------------------------------------------------------


def test_the_right_half_of_a_thousand_comes_back_by_its_routing_key(channel, queue):
    def publish(number):
        return outcome(channel.publish(b'%d' % number, '', queue if number % 2 else 'nowhere', mandatory=True))

    outcomes = in_greenlets(publish)
    assert outcomes == ['acked' if number % 2 else b'%d' % number for number in range(COUNT)]
    broker_tools.wait_ready(channel, queue, COUNT // 2)


@pytest.mark.parametrize('alike', ['bodies differ', 'same body', 'same body and size of headers'])
def test_the_right_half_of_a_thousand_comes_back_with_one_routing_key(channel, queue, alike):
    """A headers exchange routes every second one; a return has no number, only its looks."""
    exchange = broker_tools.fresh_name('ex')
    channel.exchange_declare(exchange, 'headers', durable=True, auto_delete=False)
    channel.queue_bind(queue, exchange, arguments={'routed': True, 'x-match': 'all'})

    def publish(number):
        body = b'%d' % number if alike == 'bodies differ' else b'same'
        name = f'{number:04}' if alike == 'same body and size of headers' else number
        headers = {'routed': bool(number % 2), 'number': name}
        receipt = channel.publish(body, exchange, 'key', mandatory=True, headers=headers)
        headers['number'] = 'changed after the publish'
        try:
            receipt.wait()
        except exceptions.Returned as error:
            return int(error.returned.headers['number'])
        return 'acked'

    outcomes = in_greenlets(publish)
    assert outcomes == ['acked' if number % 2 else number for number in range(COUNT)]
    broker_tools.wait_ready(channel, queue, COUNT // 2)
    channel.exchange_delete(exchange)


def test_basic_publish_confirm_has_its_own_return_too(channel, queue):
    def publish(number):
        try:
            channel.basic_publish_confirm(
                gamqp.Message(b'%d' % number), '', queue if number % 2 else 'nowhere', mandatory=True
            )
        except exceptions.Returned as error:
            return bytes(error.returned.body)
        return 'acked'

    outcomes = in_greenlets(publish, 300)
    assert outcomes == ['acked' if number % 2 else b'%d' % number for number in range(300)]


def test_a_return_says_what_came_back_and_why(channel):
    receipt = channel.publish(
        gamqp.Message('text', message_id='7', application_headers={'BCC': ['nobody'], 'x': [1, {'y': None}]}),
        'amq.direct',
        'nowhere',
        mandatory=True,
    )
    with pytest.raises(exceptions.Returned, match='NO_ROUTE') as caught:
        receipt.wait()
    message = caught.value.returned
    assert (message.body, message.properties['message_id'], message.headers['x']) == ('text', '7', [1, {'y': None}])
    assert 'nowhere' in str(caught.value)
    assert receipt.state == 'returned'
    with pytest.raises(TimeoutError):  # and nobody else is told
        channel.connection.drain_events(timeout=0)


# -- a thousand greenlets on one channel ---------------------------------------------------------------------


def test_a_thousand_greenlets_publish_whole_messages(rabbit, connection, channel):
    """Of all sizes, several frames each: nothing is mixed, and each is confirmed by its own tag."""
    queue = broker_tools.shared_queue(channel)
    with Proxy(rabbit.node.port) as proxy:
        publisher = gamqp.connect(proxy.url(rabbit), frame_max=8192)
        publishing = publisher.channel()
        bodies = [b'%d ' % number * (1 + number * 17 % 5000) for number in range(COUNT)]

        def publish(number):
            receipt = publishing.publish(bodies[number], routing_key=queue, message_id=str(number))
            receipt.wait()
            return receipt.delivery_tag

        tags = in_greenlets(publish)
        assert sorted(tags) == list(range(1, COUNT + 1))
        publisher.close()
        assert proxy.stream.whole
    broker_tools.wait_ready(channel, queue, COUNT)
    got = {
        int(message.properties['message_id']): bytes(message.body) for message in broker_tools.get_all(channel, queue)
    }
    assert got == dict(enumerate(bodies))
    channel.queue_delete(queue)


def test_the_limit_is_never_exceeded_and_nobody_starves(rabbit, connection, channel):
    """Three hundred greenlets publish ten each; ten may be without a confirm. The broker's answers are slow."""
    limit, publishers, times = 10, 300, 10
    queue = broker_tools.shared_queue(channel)
    with Proxy(rabbit.node.port) as proxy:
        publisher = gamqp.connect(proxy.url(rabbit), outstanding_limit=limit)
        publishing = publisher.channel()
        turns = []

        def publish(number):
            for _ in range(times):
                receipt = publishing.publish(b'x', routing_key=queue)
                assert publishing.unconfirmed <= limit
                turns.append(number)
                receipt.wait()

        in_greenlets(publish, publishers)
        publisher.close()
    # Whoever has just had a turn stands behind those who wait: all had their first before anybody his last.
    first = {number: turns.index(number) for number in set(turns)}
    assert max(first.values()) < min(place for place, number in enumerate(turns) if turns[:place].count(number) == 9)
    broker_tools.wait_ready(channel, queue, publishers * times)
    channel.queue_delete(queue)


def test_no_more_than_the_limit_is_on_the_way_when_the_broker_is_silent(rabbit, connection, channel):
    queue = broker_tools.shared_queue(channel)
    with Proxy(rabbit.node.port) as proxy:
        publisher = gamqp.connect(proxy.url(rabbit), outstanding_limit=7)
        publishing = publisher.channel()
        publishing.publish(b'first', routing_key=queue).wait()
        proxy.down.pause()
        tasks = [greenlets.spawn(publishing.publish, b'x', '', queue) for _ in range(50)]
        greenlets.wait_until(lambda: sum(task.done for task in tasks) == 7)
        with pytest.raises(TimeoutError, match='7 publishes'):
            publishing.publish(b'late', routing_key=queue, timeout=0.2)
        assert sum(task.done for task in tasks) == 7
        broker_tools.wait_ready(channel, queue, 8)
        proxy.down.resume()
        for task in tasks:
            task.get().wait()
        publisher.close()
    broker_tools.wait_ready(channel, queue, 51)
    channel.queue_delete(queue)


# -- wait_for_confirms ---------------------------------------------------------------------------------------


def test_wait_for_confirms_after_a_thousand(channel, queue):
    receipts = [channel.publish(b'%d' % number, routing_key=queue) for number in range(COUNT)]
    assert channel.wait_for_confirms() is True
    assert all(receipt.acked for receipt in receipts)
    broker_tools.wait_ready(channel, queue, COUNT)


def test_wait_for_confirms_tells_of_refused_and_returned_ones(channel):
    full = channel.queue_declare(
        exclusive=True, auto_delete=False, arguments={'x-max-length': 1, 'x-overflow': 'reject-publish'}
    ).queue
    receipts = [channel.publish(b'x', routing_key=full) for _ in range(20)]
    assert channel.wait_for_confirms() is False
    assert {receipt.state for receipt in receipts} == {'acked', 'nacked'}
    assert receipts[0].acked
    assert channel.wait_for_confirms() is True
    lost = channel.publish(b'x', routing_key='nowhere', mandatory=True)
    with pytest.raises(exceptions.Returned):
        lost.wait()
    assert channel.wait_for_confirms() is False


def test_wait_for_confirms_never_says_true_for_what_was_lost(connection, channel, queue):
    channel.publish(b'x', 'no such exchange', queue)
    channel.publish(b'y', '', queue)
    with pytest.raises(exceptions.NotFound):
        channel.wait_for_confirms()
    assert channel.wait_for_confirms() is True
    channel.publish(b'z', '', queue)
    assert channel.wait_for_confirms() is True


# -- the end -------------------------------------------------------------------------------------------------


def test_a_lost_connection_resolves_every_receipt(rabbit, connection, channel):
    queue = broker_tools.shared_queue(channel)
    with Proxy(rabbit.node.port) as proxy:
        publisher = gamqp.connect(proxy.url(rabbit), outstanding_limit=0)
        channels = [publisher.channel() for _ in range(3)]
        proxy.down.pause_after(200)
        receipts = [channels[number % 3].publish(b'%d' % number, routing_key=queue) for number in range(COUNT)]
        waiting = [greenlets.spawn(receipt.wait) for receipt in receipts[::10]]
        broker_tools.wait_ready(channel, queue, COUNT)
        proxy.cut()
        for task in waiting:
            assert isinstance(broker_tools.how_it_ended(task), (exceptions.RecoverableConnectionError, type(None)))
        greenlets.wait_until(lambda: all(receipt.done for receipt in receipts))
        assert {receipt.state for receipt in receipts} <= {'acked', 'lost'}
        assert any(receipt.state == 'lost' for receipt in receipts)
        with pytest.raises(exceptions.RecoverableConnectionError):
            channels[0].publish(b'late', routing_key=queue)
    channel.queue_delete(queue)


def test_a_channel_error_resolves_the_receipts_of_its_channel_alone(connection, channel, queue):
    other = connection.channel()
    fine = other.publish(b'x', routing_key=queue)
    receipts = [channel.publish(b'x', 'no such exchange' if number == 5 else '', queue) for number in range(10)]
    outcomes = []
    for receipt in receipts:
        try:
            receipt.wait()
            outcomes.append('acked')
        except exceptions.NotFound:
            outcomes.append('lost')
    # Those before it may have been confirmed in time; it and those behind it cannot.
    assert outcomes[5:] == ['lost'] * 5
    assert outcomes[:5] == sorted(outcomes[:5])
    fine.wait()
    again = channel.publish(b'y', routing_key=queue)
    assert again.delivery_tag == 1
    again.wait()


def test_a_transactional_channel_refuses(channel, queue):
    channel.tx_select()
    receipt = channel.publish(b'x', routing_key=queue)
    with pytest.raises(exceptions.PreconditionFailed):
        receipt.wait()
