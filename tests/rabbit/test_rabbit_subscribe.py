"""Channel.subscribe against a real broker: every message is handled once and settled, whatever its handler does."""

from __future__ import annotations

from collections import Counter

import broker_tools
import greenlet
import greenlets
import inside
import pytest
from proxy import Proxy

import gamqp
from gamqp import exceptions, green


class Work:
    """A handler that keeps books."""

    def __init__(self, seconds=0.0):
        self.seconds = seconds
        self.numbers = []
        self.running = self.most = 0

    def __call__(self, message):
        self.numbers.append(broker_tools.number_of(message))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            greenlets.sleep(self.seconds)
        finally:
            self.running -= 1


# -- order and concurrency -----------------------------------------------------------------------------------


def test_one_at_a_time_in_order(channel, queue):
    broker_tools.publish_numbers(channel, queue, 200)
    work = Work()
    consumer = channel.subscribe(queue, work, prefetch=17)
    greenlets.wait_until(lambda: consumer.acked == 200)
    assert work.numbers == list(range(200))
    assert work.most == 1
    consumer.cancel()
    broker_tools.wait_ready(channel, queue, 0)


@pytest.mark.parametrize(('concurrency', 'prefetch', 'most'), [(8, None, 8), (30, 10, 10), (5, 100, 5)])
def test_n_at_a_time_and_never_more(channel, queue, concurrency, prefetch, most):
    broker_tools.publish_numbers(channel, queue, 200)
    work = Work(0.002)
    consumer = channel.subscribe(queue, work, concurrency=concurrency, prefetch=prefetch)
    greenlets.wait_until(lambda: consumer.acked == 200)
    assert sorted(work.numbers) == list(range(200))
    assert work.most == most
    consumer.cancel()
    assert (consumer.delivered, consumer.failed, consumer.in_flight) == (200, 0, 0)


def test_the_reader_is_not_held_up_by_a_handler_that_waits(connection, channel, queue):
    """A handler that calls, publishes and consumes on its own channel."""
    answers = channel.queue_declare(exclusive=True, auto_delete=False).queue
    broker_tools.publish_numbers(channel, queue, 20)

    def handle(message):
        channel.queue_declare(queue, passive=True)
        channel.publish(message.body, routing_key=answers).wait()
        for answer in channel.consume(answers, prefetch=1):
            answer.ack()
            break

    consumer = channel.subscribe(queue, handle, concurrency=4)
    greenlets.wait_until(lambda: consumer.acked == 20)
    assert consumer.failed == 0
    consumer.cancel()
    broker_tools.wait_ready(channel, answers, 0)


# -- errors --------------------------------------------------------------------------------------------------


class Broken(Exception):
    pass


def fails_once(*numbers):
    """A handler that fails the first time it gets one of these, and the list of all that it got."""
    got = []

    def handle(message):
        number = broker_tools.number_of(message)
        got.append((number, message.redelivered))
        if number in numbers and (number, message.redelivered) == (number, False):
            raise Broken(number)

    return handle, got


def test_requeue_handles_it_again(channel, queue):
    handle, got = fails_once(3)
    broker_tools.publish_numbers(channel, queue, 6)
    consumer = channel.subscribe(queue, handle)
    greenlets.wait_until(lambda: consumer.acked == 6)
    assert consumer.failed == 1
    assert got.count((3, False)) == got.count((3, True)) == 1
    consumer.cancel()
    broker_tools.wait_ready(channel, queue, 0)


def test_reject_dead_letters(channel):
    dead = channel.queue_declare(exclusive=True, auto_delete=False).queue
    arguments = {'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead}
    queue = channel.queue_declare(exclusive=True, auto_delete=False, arguments=arguments).queue
    handle, _ = fails_once(1, 4)
    broker_tools.publish_numbers(channel, queue, 6)
    consumer = channel.subscribe(queue, handle, on_error='reject', concurrency=3)
    greenlets.wait_until(lambda: consumer.acked + consumer.failed == 6)
    consumer.cancel()
    broker_tools.wait_ready(channel, dead, 2)
    assert sorted(broker_tools.number_of(message) for message in broker_tools.get_all(channel, dead)) == [1, 4]


def test_stop_ends_the_consumer_and_join_raises(channel, queue):
    handle, got = fails_once(3)
    broker_tools.publish_numbers(channel, queue, 10)
    consumer = channel.subscribe(queue, handle, on_error='stop')
    with pytest.raises(Broken):
        consumer.join(30)
    assert [number for number, _ in got] == [0, 1, 2, 3]
    broker_tools.wait_ready(channel, queue, 7)
    # In their order, the one that failed first: it was not sent round once more.
    assert [broker_tools.number_of(message) for message in broker_tools.get_all(channel, queue)] == list(range(3, 10))


def test_a_callable_decides(channel):
    dead = channel.queue_declare(exclusive=True, auto_delete=False).queue
    arguments = {'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead}
    queue = channel.queue_declare(exclusive=True, auto_delete=False, arguments=arguments).queue
    kept = []

    def decide(message, error):
        assert isinstance(error, Broken)
        number = broker_tools.number_of(message)
        if number == 0:
            return 'requeue'
        if number == 1:
            return 'reject'
        if number == 2:
            message.ack()
            return None
        if number == 3:
            kept.append(message)
            return None  # settled later
        raise LookupError('a bug of its own')

    handle, _ = fails_once(*range(5))
    broker_tools.publish_numbers(channel, queue, 6)
    consumer = channel.subscribe(queue, handle, on_error=decide)
    greenlets.wait_until(lambda: consumer.acked == 3)  # 0 and 4 the second time, and 5
    assert consumer.failed == 5
    assert sorted(inside.unacked(channel).values())[0][0] == consumer.tag
    kept[0].ack()
    consumer.cancel()
    broker_tools.wait_ready(channel, queue, 0)
    assert [broker_tools.number_of(message) for message in broker_tools.get_all(channel, dead)] == [1]


def test_a_timeout_in_the_handler_ends_the_handler_alone(channel, queue):
    broker_tools.publish_numbers(channel, queue, 3)
    times = Counter()

    def handle(message):
        number = broker_tools.number_of(message)
        times[number] += 1
        with broker_tools.times_out(0.05):
            greenlets.sleep(30 if number == 1 and times[number] == 1 else 0)

    consumer = channel.subscribe(queue, handle)
    greenlets.wait_until(lambda: consumer.acked == 3)
    assert consumer.failed == 1
    assert times == {0: 1, 1: 2, 2: times[2]}
    consumer.cancel()


def test_killed_workers_lose_nothing(channel, queue):
    """Somebody kills whatever handles a message, fifty times: each is handled to its end at last, and acked once."""
    broker_tools.publish_numbers(channel, queue, 100)
    workers, done = [], []

    def handle(message):
        workers.append(greenlet.getcurrent())
        greenlets.sleep(0.002)
        done.append(broker_tools.number_of(message))

    consumer = channel.subscribe(queue, handle, concurrency=5)
    for _ in range(50):
        greenlets.wait_until(lambda: workers)
        greenlets.backend.kill(workers.pop())
        greenlets.sleep(0)
    greenlets.wait_until(lambda: consumer.acked == 100)
    assert set(done) == set(range(100))
    consumer.cancel()
    broker_tools.wait_ready(channel, queue, 0)
    assert (consumer.in_flight, consumer.failed) == (0, 0)
    assert channel.unsettled == 0


# -- settled by the handler ----------------------------------------------------------------------------------


def test_a_handler_that_settles_itself(channel, queue):
    broker_tools.publish_numbers(channel, queue, 30)

    def handle(message):
        number = broker_tools.number_of(message)
        if number % 3 == 0:
            message.ack()
        elif number % 3 == 1:
            message.reject(requeue=False)
        elif number == 29:
            message.ack(multiple=True)

    consumer = channel.subscribe(queue, handle, concurrency=3)
    greenlets.wait_until(lambda: consumer.delivered == 30 and not inside.inbox(consumer).busy)
    consumer.cancel()
    channel.queue_declare(queue, passive=True)
    assert channel.is_open and not inside.incarnation(channel), 'nothing was settled twice'
    broker_tools.wait_ready(channel, queue, 0)


def test_without_acks(channel, queue):
    broker_tools.publish_numbers(channel, queue, 100)
    work = Work()
    consumer = channel.subscribe(queue, work, no_ack=True, concurrency=3)
    greenlets.wait_until(lambda: len(work.numbers) == 100)
    consumer.cancel()
    assert sorted(work.numbers) == list(range(100))
    assert consumer.acked == 0


# -- ending --------------------------------------------------------------------------------------------------


def test_cancel_lets_running_handlers_finish(channel, queue):
    broker_tools.publish_numbers(channel, queue, 20)
    go, began = green.Event(greenlets.backend), []

    def handle(message):
        began.append(broker_tools.number_of(message))
        go.wait()

    consumer = channel.subscribe(queue, handle, concurrency=3, prefetch=10)
    greenlets.wait_until(lambda: len(began) == 3)
    with pytest.raises(TimeoutError, match='3 handlers run'):
        consumer.cancel(timeout=1)
    broker_tools.wait_ready(channel, queue, 17)
    cancelling, joining = greenlets.spawn(consumer.cancel), greenlets.spawn(consumer.join)
    greenlets.sleep(0.01)
    assert not cancelling.done and not joining.done
    go.set()
    cancelling.get()
    joining.get()
    assert (began, consumer.acked) == ([0, 1, 2], 3)
    broker_tools.wait_ready(channel, queue, 17)
    assert sorted(broker_tools.number_of(message) for message in broker_tools.get_all(channel, queue)) == list(
        range(3, 20)
    )


def test_handlers_that_cancel_themselves(channel, queue):
    broker_tools.publish_numbers(channel, queue, 50)
    consumers, handled = [], []

    def handle(message):
        handled.append(broker_tools.number_of(message))
        if len(handled) >= 3:
            greenlets.wait_until(lambda: consumers)
            consumers[0].cancel()

    consumers.append(channel.subscribe(queue, handle, concurrency=4))
    consumers[0].join(20)
    assert consumers[0].acked == len(handled) <= 7
    broker_tools.wait_ready(channel, queue, 50 - len(handled))


def test_a_deleted_queue(connection, channel):
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_numbers(channel, queue, 3)
    work = Work()
    consumer = channel.subscribe(queue, work)
    greenlets.wait_until(lambda: consumer.acked == 3)
    connection.channel().queue_delete(queue)
    with pytest.raises(exceptions.ConsumerCancelled):
        consumer.join(30)
    assert channel.is_open


def test_a_lost_connection_while_handlers_run(rabbit, channel):
    queue = broker_tools.shared_queue(channel)
    broker_tools.publish_numbers(channel, queue, 20)
    go, began = green.Event(greenlets.backend), []

    def handle(message):
        began.append(broker_tools.number_of(message))
        go.wait()

    with Proxy(rabbit.node.port) as proxy:
        connection = gamqp.connect(proxy.url(rabbit))
        consumer = connection.channel().subscribe(queue, handle, concurrency=5)
        greenlets.wait_until(lambda: len(began) == 5)
        proxy.cut()
        joining = greenlets.spawn(consumer.join)
        greenlets.wait_until(lambda: inside.has_ended(consumer))
        assert not joining.done
        go.set()
        with pytest.raises(exceptions.RecoverableConnectionError):
            joining.get()
    assert (len(began), consumer.acked, consumer.failed) == (5, 0, 0)
    broker_tools.wait_ready(channel, queue, 20)
    channel.queue_delete(queue)


def test_a_channel_error_while_handlers_run(connection, channel, queue):
    broker_tools.publish_numbers(channel, queue, 10)
    go, began = green.Event(greenlets.backend), []

    def handle(message):
        began.append(broker_tools.number_of(message))
        go.wait()

    consumer = channel.subscribe(queue, handle, concurrency=5)
    greenlets.wait_until(lambda: len(began) == 5)
    with pytest.raises(exceptions.NotFound):
        channel.queue_declare('no such queue', passive=True)
    work = Work()
    again = channel.subscribe(queue, work)  # the same delivery tags, of a reopened channel
    greenlets.wait_until(lambda: again.acked == 10)
    go.set()
    with pytest.raises(exceptions.NotFound):
        consumer.join(30)
    assert channel.queue_declare(queue, passive=True).message_count == 0
    assert inside.incarnation(channel) == 1
    again.cancel()


def test_handlers_that_close_their_channel_and_their_connection(rabbit, channel):
    queue = broker_tools.shared_queue(channel)
    for close in (lambda message: message.channel.close(), lambda message: message.channel.connection.close()):
        broker_tools.publish_numbers(channel, queue, 5)
        with rabbit.connect() as connection:
            consumer = connection.channel().subscribe(queue, close, concurrency=2)
            with pytest.raises(exceptions.RecoverableConnectionError):
                consumer.join(30)
        broker_tools.wait_ready(channel, queue, 5)
        channel.queue_purge(queue)
    channel.queue_delete(queue)


# -- with others ---------------------------------------------------------------------------------------------


def test_three_ways_of_consuming_on_one_connection(connection, channel):
    """On one channel and on two: each message goes to exactly one of them, and to its own queue's."""
    second = connection.channel()
    queues = {
        name: channel.queue_declare(exclusive=True, auto_delete=False).queue for name in ('handler', 'loop', 'callback')
    }
    shared = channel.queue_declare(exclusive=True, auto_delete=False).queue
    got = {name: [] for name in queues}
    loops, consumers = [], []

    def take(name):
        def handle(message):
            got[name].append((message.delivery_info['routing_key'], broker_tools.number_of(message)))

        return handle

    def loop(deliveries):
        for message in deliveries:
            take('loop')(message)
            message.ack()

    def callback(message):
        take('callback')(message)
        message.ack()

    tags = []
    for used in (channel, second):
        for source in ('own', 'shared'):
            of = {name: queues[name] if source == 'own' else shared for name in queues}
            consumers.append(used.subscribe(of['handler'], take('handler'), concurrency=2, prefetch=5))
            deliveries = used.consume(of['loop'], prefetch=5)
            loops.append((deliveries, greenlets.spawn(loop, deliveries)))
            used.basic_qos(0, 5, False)
            tags.append((used, used.basic_consume(of['callback'], callback=callback)))
    for number in range(100):
        for queue in (*queues.values(), shared):
            channel.publish(b'%d' % number, routing_key=queue)
    greenlets.wait_until(lambda: drained(connection, got, 400))
    for name, queue in queues.items():
        assert sorted(number for key, number in got[name] if key == queue) == list(range(100))
        assert {key for key, _ in got[name]} <= {queue, shared}
    assert sorted(number for taken in got.values() for key, number in taken if key == shared) == list(range(100))
    for consumer in consumers:
        consumer.cancel()
    for deliveries, task in loops:
        deliveries.close()
        task.get()
    for used, tag in tags:
        used.basic_cancel(tag)
    assert channel.unsettled == 0 and second.unsettled == 0


def drained(connection, got, count):
    try:
        connection.drain_events(timeout=0)
    except TimeoutError:
        pass
    return sum(map(len, got.values())) == count


def test_a_quorum_queue_counts_failures_and_not_what_was_given_back(rabbit, connection, channel):
    """x-delivery-count as handlers see it; what no handler has seen is given back without counting on 4.3."""
    queue = broker_tools.shared_queue(channel, arguments={'x-queue-type': 'quorum', 'x-delivery-limit': 3})
    channel.publish(b'0', routing_key=queue).wait()
    for _ in range(6):  # twice the limit
        deliveries = channel.consume(queue, prefetch=5)
        greenlets.wait_until(lambda deliveries=deliveries: deliveries.delivered)
        deliveries.close()
        if rabbit.major < 4:
            break  # there each return counts, by nack as well as by reject
    counts = []

    def handle(message):
        counts.append(message.headers.get('x-delivery-count', 0))
        message.reject(requeue=True)

    consumer = channel.subscribe(queue, handle)
    expected = [0, 1, 2, 3] if rabbit.major >= 4 else [1, 2, 3]
    greenlets.wait_until(lambda: counts == expected, what=f'{expected}, as far as {counts}')
    consumer.cancel()
    assert channel.queue_delete(queue) == 0
    assert counts == expected


def test_a_handler_of_a_stream(channel):
    queue = broker_tools.shared_queue(channel, arguments={'x-queue-type': 'stream'})
    broker_tools.publish_numbers(channel, queue, 50)
    channel.wait_for_confirms()
    work = Work()
    consumer = channel.subscribe(queue, work, prefetch=10, arguments={'x-stream-offset': 'first'})
    greenlets.wait_until(lambda: consumer.acked == 50)
    assert work.numbers == list(range(50))
    consumer.cancel()
    with pytest.raises(ValueError, match='prefetch above 0'):
        channel.subscribe(queue, work, prefetch=0, arguments={'x-stream-offset': 'first'})
    channel.queue_delete(queue)
    assert channel.is_open and not inside.incarnation(channel)


@pytest.mark.limit(120)
def test_a_thousand_idle_consumers_cost_no_greenlets(rabbit):
    with rabbit.connect() as connection:
        channels = [connection.channel() for _ in range(10)]
        queue = channels[0].queue_declare(exclusive=True, auto_delete=False).queue
        before = len(greenlets.living_greenlets())
        consumers = [channels[number % 10].subscribe(queue, Work(), prefetch=1) for number in range(1000)]
        assert len(greenlets.living_greenlets()) <= before
        broker_tools.publish_numbers(channels[0], queue, 2000)
        greenlets.wait_until(lambda: sum(consumer.acked for consumer in consumers) == 2000)
        greenlets.wait_until(lambda: len(greenlets.living_greenlets()) <= before)
