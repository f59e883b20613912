"""What of a program's exchanges, queues and bindings is there again after an outage, and what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import greenlets
import inside
import pytest
from greenlet import GreenletExit
from recovering_program import QUICK

import gamqp
from gamqp import Recovery, exceptions, testing

# Exchanges that the broker deletes with their last binding, and queues that it deletes with their last consumer.
pytestmark = [pytest.mark.filterwarnings('ignore:' + text) for text in ('exchange_declare', 'a queue that is neither')]


@pytest.fixture
def broker() -> Iterator[testing.Broker]:
    with testing.Broker() as broker:
        yield broker


@pytest.fixture
def reports() -> list[Any]:
    """What on_recovered got."""
    return []


@pytest.fixture
def opened(broker: testing.Broker, reports: list[Any]) -> Iterator[Callable[..., gamqp.Connection]]:
    """Makes connections that recover; the arguments are settings of that."""
    connections: list[gamqp.Connection] = []

    def opened(**settings: Any) -> gamqp.Connection:
        recover = Recovery(**{**QUICK, **settings})
        connections.append(gamqp.connect(broker.url, recover=recover, on_recovered=reports.append))
        return connections[-1]

    yield opened
    for connection in connections:
        connection.close()


@pytest.fixture
def lasting(opened: Callable[..., gamqp.Connection]) -> gamqp.Connection:
    return opened()


def wait_recovered(reports: list[Any], count: int = 1) -> Any:
    greenlets.wait_until(lambda: len(reports) >= count, what=f'{count} recoveries')
    return reports[count - 1]


def lose_everything(broker: testing.Broker, reports: list[Any]) -> Any:
    """The broker crashes, and comes back with nothing. Returns the report."""
    broker.restart(keep='nothing', abrupt=True)
    return wait_recovered(reports)


def own_exchanges(broker: testing.Broker) -> list[str]:
    return sorted(str(name) for name in broker.exchanges() if name and not str(name).startswith('amq.'))


def durable(channel: gamqp.Channel, *names: str) -> None:
    for name in names:
        channel.queue_declare(name, durable=True, auto_delete=False)


def test_what_the_broker_has_deleted_by_itself_stays_deleted(
    broker: testing.Broker, lasting: gamqp.Connection, reports: list[Any]
) -> None:
    channel = lasting.channel()
    # A queue that went with its last consumer, and an exchange that went with its last binding.
    channel.queue_declare('brief', exclusive=False, auto_delete=True)
    channel.subscribe('brief', print).cancel()
    channel.exchange_declare('unbound', 'fanout', auto_delete=True)
    durable(channel, 'helper')
    channel.queue_bind('helper', 'unbound')
    channel.queue_unbind('helper', 'unbound')
    channel.queue_delete('helper')
    # Three levels, which go one after the other.
    channel.exchange_declare('top', 'fanout', auto_delete=True)
    channel.exchange_declare('middle', 'fanout', auto_delete=True)
    channel.exchange_bind('middle', 'top')
    channel.queue_declare('bottom', exclusive=False, auto_delete=True)
    channel.queue_bind('bottom', 'middle')
    consumer = channel.subscribe('bottom', print)
    assert own_exchanges(broker) == ['middle', 'top'] and len(lasting.topology()) == 6
    consumer.cancel()
    assert own_exchanges(broker) == [] and broker.queues() == {}
    assert lasting.topology() == []
    report = lose_everything(broker, reports)
    assert own_exchanges(broker) == [] and broker.queues() == {}
    assert (report.skipped, report.consumers) == ([], 0)


def test_what_another_channel_has_deleted_is_not_resurrected(
    broker: testing.Broker, lasting: gamqp.Connection, reports: list[Any]
) -> None:
    one, other = lasting.channel(), lasting.channel()
    one.exchange_declare('ex', 'fanout', auto_delete=False)
    durable(one, 'deleted', 'kept')
    for name in ('deleted', 'kept'):
        one.queue_bind(name, 'ex')
    other.queue_delete('deleted')
    one.close()  # what it has declared is the connection's
    lose_everything(broker, reports)
    assert sorted(broker.queues()) == ['kept'] and own_exchanges(broker) == ['ex']
    assert broker.queue('kept').bindings == [('ex', '')]


def test_what_was_only_looked_for_is_not_declared(
    broker: testing.Broker, lasting: gamqp.Connection, reports: list[Any]
) -> None:
    with gamqp.connect(broker.url) as admin:
        durable(admin.channel(), 'theirs')
        admin.channel().exchange_declare('theirs', 'fanout', auto_delete=False)
    channel = lasting.channel()
    channel.queue_declare('theirs', passive=True)
    channel.exchange_declare('theirs', 'fanout', passive=True)
    consumer = channel.subscribe('theirs', print)
    report = lose_everything(broker, reports)
    assert broker.queues() == {} and own_exchanges(broker) == []
    assert [(record['kind'], type(error)) for record, error in report.skipped] == [('consumer', gamqp.NotFound)]
    consumer.cancel()
    assert lasting.topology() == []


def test_a_declaration_whose_caller_was_killed_is_made_again(
    broker: testing.Broker, lasting: gamqp.Connection, reports: list[Any]
) -> None:
    channel = lasting.channel()
    broker.delay('queue.declare', 0.05)
    declaring = greenlets.spawn(lambda: channel.queue_declare('asked for', durable=True, auto_delete=False))
    greenlets.sleep(0)
    declaring.kill()
    with pytest.raises(GreenletExit):
        declaring.get()
    greenlets.wait_until(lambda: lasting.topology())
    lose_everything(broker, reports)
    assert sorted(broker.queues()) == ['asked for']


@pytest.mark.parametrize('topology', ['all', 'transient', 'consumers', 'none'])
def test_what_is_restored_is_what_was_asked_for(
    broker: testing.Broker, opened: Callable[..., gamqp.Connection], reports: list[Any], topology: Any
) -> None:
    lasting = opened(topology=topology)
    channel = lasting.channel()
    channel.exchange_declare('lasting', 'fanout', durable=True, auto_delete=False)
    channel.exchange_declare('passing', 'fanout', auto_delete=True)
    durable(channel, 'lasting', 'left out')
    channel.queue_declare('passing', exclusive=True)
    for queue, exchange in (('lasting', 'lasting'), ('lasting', 'passing'), ('passing', 'lasting')):
        channel.queue_bind(queue, exchange)
    got: list[bytes] = []
    consumer = channel.subscribe('lasting', lambda message: got.append(bytes(message.body)))
    with gamqp.connect(broker.url) as admin:
        lose(broker, lasting)
        # Somebody takes things away meanwhile; an auto-delete exchange goes with its last binding.
        for exchange in ('lasting', 'passing'):
            admin.channel().queue_unbind('lasting', exchange)
        admin.channel().queue_delete('left out')
    broker.clear_faults()
    report = wait_recovered(reports)
    everything, transient = topology == 'all', topology in ('all', 'transient')
    assert ('left out' in broker.queues()) is everything
    assert ('passing' in broker.queues()) is ('passing' in own_exchanges(broker)) is transient
    assert (('lasting', '') in broker.queue('lasting').bindings) is everything
    assert (('passing', '') in broker.queue('lasting').bindings) is transient
    assert report.consumers == (topology != 'none') and report.skipped == []
    broker.publish('', 'lasting', b'x')
    if topology == 'none':
        with pytest.raises(gamqp.Lost):
            consumer.join()
    else:
        greenlets.wait_until(lambda: got == [b'x'])


def lose(broker: testing.Broker, connection: gamqp.Connection) -> None:
    """Only this one, and it is not open again before ``broker.clear_faults``."""
    broker.cut_at('connection.open', times=None)
    (view,) = [one for one in broker.connections if one.channels == sorted(connection.channels)]
    broker.cut(view)
    greenlets.wait_until(lambda: connection.state == 'recovering')


@pytest.mark.parametrize('how_long', ['within the attempt', 'longer'])
def test_an_exclusive_queue_is_waited_for_while_the_old_socket_has_it(
    broker: testing.Broker, opened: Callable[..., gamqp.Connection], reports: list[Any], how_long: str
) -> None:
    """The client has found the broker silent and has gone; the broker has not noticed."""
    lasting = opened(locked_timeout=greenlets.PATIENCE if how_long == 'within the attempt' else 0)
    channel, got = lasting.channel(), []
    channel.exchange_declare('ex', 'fanout', auto_delete=False)
    durable(channel, 'other')
    channel.queue_declare('mine', exclusive=True)
    channel.queue_bind('mine', 'ex')
    consumer = channel.subscribe('mine', lambda message: got.append(bytes(message.body)))
    channel.subscribe('other', lambda message: got.append(bytes(message.body)))
    (old,) = broker.connections
    broker.stall(old)
    inside.link(lasting).lose(exceptions.RecoverableConnectionError('the peer is silent'))
    if how_long == 'longer':
        report = wait_recovered(reports)
        assert report.consumers == 1  # nobody else waits for it
        until_it_comes(broker, '', 'other', got)  # some go to the old consumer
        assert old.open and [one.tag for one in broker.queue('mine').consumers] == [consumer.tag]
    else:
        greenlets.wait_until(lambda: len(broker.connections) == 2)
    broker.cut(old)
    # Declared anew, bound, and consumed: nothing is left out.
    got.clear()
    until_it_comes(broker, 'ex', '', got)
    assert wait_recovered(reports).attempts == 1 and len(reports) == 1
    assert not [record for record, _ in reports[0].skipped if record['kind'] == 'binding']


def until_it_comes(broker: testing.Broker, exchange: str, key: str, got: list[bytes]) -> None:
    """Publish until there is something in *got*: what is published too early nobody gets."""

    def come() -> bool:
        broker.publish(exchange, key, b'x')
        return bool(got)

    greenlets.wait_until(come)


def test_a_queue_that_the_broker_names_has_one_new_name_and_the_old_one_is_gone(
    broker: testing.Broker, lasting: gamqp.Connection, reports: list[Any]
) -> None:
    channel, got = lasting.channel(), []
    for exchange in ('one', 'two'):
        channel.exchange_declare(exchange, 'fanout', auto_delete=False)
    old = channel.queue_declare(exclusive=True).queue
    for exchange in ('one', 'two'):
        channel.queue_bind(old, exchange)
    channel.subscribe(old, lambda message: got.append(bytes(message.body)))
    broker.cut()
    report = wait_recovered(reports)
    (new,) = broker.queues()
    assert report.renamed == {old: new} and new != old
    assert broker.queue(new).bindings == [('one', ''), ('two', '')]
    for exchange in ('one', 'two'):
        broker.publish(exchange, '', exchange.encode())
    greenlets.wait_until(lambda: sorted(got) == [b'one', b'two'])


def test_a_queue_with_other_arguments_now_is_left_as_it_is(
    broker: testing.Broker, lasting: gamqp.Connection, reports: list[Any]
) -> None:
    channel, got = lasting.channel(), []
    durable(channel, 'jobs')
    channel.subscribe('jobs', lambda message: got.append(bytes(message.body)))
    with gamqp.connect(broker.url) as admin:
        lose(broker, lasting)
        admin.channel().queue_delete('jobs')
        admin.channel().queue_declare('jobs', durable=True, auto_delete=False, arguments={'x-max-length': 7})
    broker.clear_faults()
    report = wait_recovered(reports)
    assert [(record['queue'], error.code) for record, error in report.skipped] == [('jobs', 406)]
    assert report.consumers == 1
    broker.publish('', 'jobs', b'x')
    greenlets.wait_until(lambda: got == [b'x'])


@pytest.mark.parametrize('like', ['rabbitmq-4.3', 'rabbitmq-3.10'])
def test_without_the_right_to_configure_consumers_run(like: str, reports: list[Any]) -> None:
    with testing.Broker(like) as broker:
        broker.add_user('me', 'secret')
        url = broker.url.replace('guest:guest', 'me:secret')
        with gamqp.connect(url, recover=Recovery(**QUICK), on_recovered=reports.append) as lasting:
            channel, got = lasting.channel(), []
            channel.exchange_declare('ex', 'fanout', auto_delete=False)
            durable(channel, 'jobs')
            channel.queue_bind('jobs', 'ex')
            channel.subscribe('jobs', lambda message: got.append(bytes(message.body)))
            broker.set_permissions('me', configure='')
            broker.cut()
            report = wait_recovered(reports)
            assert (report.attempts, report.consumers) == (1, 1)
            assert [(record['kind'], error.code) for record, error in report.skipped] == [
                ('exchange', 403),
                ('queue', 403),
            ]
            broker.publish('ex', '', b'x')
            greenlets.wait_until(lambda: got == [b'x'])
            assert channel.is_open and lasting.stats()['recovery_skipped'] == 2


def test_what_the_next_version_of_the_broker_does_not_take_is_left_out(reports: list[Any]) -> None:
    """A transient queue that is not exclusive, over which RabbitMQ may close the connection."""
    with testing.Broker('rabbitmq-3.10') as old, testing.Broker(deprecated_features=False) as new:
        urls = [old.url]
        errors: list[Any] = []
        with gamqp.connect(
            lambda: urls,
            recover=Recovery(**QUICK),
            on_recovered=reports.append,
            on_recovering=lambda attempt, delay, error: errors.append(error),
        ) as lasting:
            channel, got = lasting.channel(), []
            channel.queue_declare('transient', exclusive=False, durable=False, auto_delete=False)
            durable(channel, 'first', 'second')
            channel.subscribe('first', lambda message: got.append(bytes(message.body)))
            urls[:] = [new.url]
            old.stop()
            report = wait_recovered(reports)
            assert report.attempts == 3 and [type(error) for error in errors[1:]] == [gamqp.InternalError] * 2
            assert sorted(new.queues()) == ['first', 'second'] and lasting.host.endswith(f':{new.port}')
            assert [(record['queue'], error.code) for record, error in report.skipped] == [('transient', 541)]
            assert lasting.stats()['recovery_skipped'] == 1
            assert 'transient' in [record.get('queue') for record in lasting.topology()]  # tried in the next outage
            new.publish('', 'first', b'x')
            greenlets.wait_until(lambda: got == [b'x'])


def test_a_consumer_that_starts_too_late_for_its_attempt_starts_in_the_next(broker: testing.Broker) -> None:
    """The reply comes when the attempt is over; what had been delivered to it comes again, and nothing is unacked."""
    with gamqp.connect(broker.url, recover=Recovery(**QUICK), rpc_timeout=0.2) as lasting:
        channel = lasting.channel()
        durable(channel, 'slow', 'quick')
        got: list[bytes] = []
        slow = channel.subscribe('slow', lambda message: got.append(bytes(message.body)), prefetch=10)
        channel.subscribe('quick', lambda message: None)
        lose(broker, lasting)
        for number in range(50):
            broker.publish('', 'slow', b'%d' % number)
        broker.clear_faults()
        broker.delay('basic.consume', 0.4, queue='slow')
        lasting.wait_open(greenlets.PATIENCE)
        greenlets.wait_until(lambda: len(set(got)) == 50)
        broker.wait_until(lambda: not broker.queue('slow').unacked)
        assert lasting.stats()['recovery_attempts'] > 1 and lasting.stats()['outages'] == 1
        greenlets.sleep(0.4)  # the late one would be there by now
        assert [one.tag for one in broker.queue('slow').consumers] == [slow.tag]
        assert len(broker.connections) == 1 and not len(broker.queue('slow'))


@pytest.mark.parametrize(('exclusive', 'alone'), [(True, False), (False, False), (False, True)])
def test_a_queue_that_goes_with_its_last_consumer_is_there_when_a_busy_handler_has_returned(
    broker: testing.Broker, lasting: gamqp.Connection, reports: list[Any], exclusive: bool, alone: bool
) -> None:
    """The consumer starts late, and no attempt to find out whether it may takes the queue with it.

    Nor does one that is to be alone find its own attempt there.
    """
    channel, got, gate = lasting.channel(), [], []
    channel.exchange_declare('ex', 'fanout', auto_delete=False)
    channel.queue_declare('mine', exclusive=exclusive, auto_delete=True)
    channel.queue_bind('mine', 'ex')

    def handle(message: gamqp.Message) -> None:
        got.append(bytes(message.body))
        greenlets.wait_until(lambda: gate)

    channel.subscribe('mine', handle, exclusive=alone)
    broker.publish('ex', '', b'1')
    greenlets.wait_until(lambda: got)
    broker.cut()
    wait_recovered(reports)
    for body in (b'2', b'3'):
        broker.publish('ex', '', body)
    assert not broker.queue('mine').consumers
    gate.append(True)
    greenlets.wait_until(lambda: sorted(set(got)) == [b'1', b'2', b'3'])
    if exclusive:
        assert got == [b'1', b'2', b'3']  # the first one was in a queue that has gone with its connection
    assert len(reports) == 1 and [one.channel for one in broker.queue('mine').consumers] == [1]


def test_a_queue_that_the_broker_has_named_and_that_is_still_there_is_left_as_it_is(
    broker: testing.Broker, lasting: gamqp.Connection, reports: list[Any]
) -> None:
    channel, got = lasting.channel(), []
    channel.exchange_declare('ex', 'fanout', auto_delete=False)
    name = channel.queue_declare('', durable=True, auto_delete=False).queue
    channel.queue_bind(name, 'ex')
    broker.publish('ex', '', b'1')
    for count in (1, 2):
        broker.cut()
        report = wait_recovered(reports, count)
        assert (report.renamed, report.skipped, list(broker.queues())) == ({}, [], [name])
    channel.subscribe(name, lambda message: got.append(bytes(message.body)))
    broker.publish('ex', '', b'2')
    greenlets.wait_until(lambda: got == [b'1', b'2'])
    broker.restart(keep='nothing', abrupt=True)  # and where it is gone there is another one
    report = wait_recovered(reports, 3)
    (new,) = broker.queues()
    assert report.renamed == {name: new} and lasting.queue_name(name) == new != name
    broker.publish('ex', '', b'3')
    greenlets.wait_until(lambda: got == [b'1', b'2', b'3'])
