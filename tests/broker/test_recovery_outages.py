"""How outages begin, and what they are like: closed by the broker, silence, nobody there, an alarm, a held hub."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import greenlets
import inside
import pytest
from recovering_program import QUICK, Program
from script import ScriptedBroker, frames
from scripted_consumers import begin

import gamqp
from gamqp import Recovery, exceptions, testing


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Iterator[testing.Broker]:
    """Its parameter: seconds of its heartbeat."""
    with testing.Broker(heartbeat=getattr(request, 'param', 60)) as broker:
        yield broker


@pytest.fixture
def furnished(broker: testing.Broker) -> Iterator[Program]:
    program = Program(broker, delay=0.01, max_delay=0.01).furnish()
    yield program
    program.end()


def test_a_hundred_consumers_are_there_again_when_the_broker_has_closed_the_connection(
    broker: testing.Broker, furnished: Program
) -> None:
    connection = furnished.connection
    channels = [furnished.channel, *(connection.channel() for _ in range(4))]
    got: dict[str, list[bytes]] = {}
    deliveries, tasks = [], []

    def iterate(one: gamqp.Deliveries, bodies: list[bytes]) -> None:
        for message in one:
            bodies.append(bytes(message.body))
            message.ack()

    for number in range(97):
        channel, queue = channels[number % 5], f'q{number}'
        bodies = got[queue] = []
        channel.queue_declare(queue, durable=True, auto_delete=False)
        if number % 3 == 0:
            channel.subscribe(queue, lambda message, bodies=bodies: bodies.append(bytes(message.body)))
        elif number % 3 == 1:
            deliveries.append(channel.consume(queue, prefetch=5))
            tasks.append(greenlets.spawn(iterate, deliveries[-1], bodies))
        else:
            channel.basic_consume(
                queue, callback=lambda message, bodies=bodies: (bodies.append(bytes(message.body)), message.ack())
            )
    before = [list(channel.callbacks) for channel in channels]
    broker.close(code=320, text='Closed via management plugin')
    assert furnished.wait_recovered().consumers == 100
    assert furnished.names() == ['lost', 'recovering', 'recovered']
    assert isinstance(furnished.events[0][1], gamqp.ConnectionForced)
    assert [connection.channel(channel.channel_id) for channel in channels] == channels
    assert [list(channel.callbacks) for channel in channels] == before
    furnished.works(b'after')
    for queue, bodies in got.items():
        broker.publish('', queue, queue.encode())
        greenlets.wait_until(lambda queue=queue, bodies=bodies: bodies == [queue.encode()])  # type: ignore[misc]
    assert len(broker.connections) == 1
    connection.close()
    for task in tasks:
        with pytest.raises(exceptions.RecoverableConnectionError):
            task.get()


def test_a_broker_that_is_away_for_long_makes_a_line_for_each_change(
    broker: testing.Broker, furnished: Program, caplog: pytest.LogCaptureFixture
) -> None:
    receipt = furnished.channel.publish(b'kept', 'ex', 'key', delivery_mode=2)
    receipt.wait(greenlets.PATIENCE)
    broker.stop()
    greenlets.wait_until(lambda: ('recovering', 8) in furnished.events)
    broker.start()
    report = furnished.wait_recovered()
    assert report.attempts >= 8
    furnished.works(b'after')
    lines = [record.getMessage() for record in caplog.records if record.name.startswith('gamqp.')]
    assert len([line for line in lines if 'was lost' in line]) == 1
    # Of the attempts that failed: refused, and perhaps another reason while the broker was starting.
    assert 1 <= len([line for line in lines if 'has failed' in line]) <= 3, lines


def test_a_refused_login_is_tried_on_at_the_slowest_pace_and_logged_once(
    broker: testing.Broker, caplog: pytest.LogCaptureFixture
) -> None:
    delays: list[tuple[float, Any]] = []
    with gamqp.connect(
        broker.url,
        recover=Recovery(first_delay=0, delay=0.001, max_delay=0.15),
        on_recovering=lambda attempt, delay, error: delays.append((delay, error)),
        on_given_up=lambda error: delays.append((-1, error)),
    ) as connection:
        broker.add_user('guest', 'other')
        broker.cut()
        greenlets.wait_until(lambda: len(delays) >= 7)
        broker.add_user('guest', 'guest')
        connection.wait_open(greenlets.PATIENCE)
        connection.channel().queue_declare('works', durable=True, auto_delete=False)
    firm = [delay for delay, error in delays if isinstance(error, exceptions.AccessRefused)]
    assert len(firm) >= 6 and all(0.075 <= delay <= 0.15 for delay in firm), delays
    assert sum('has failed' in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize('broker', [2], indirect=True)
def test_silence_is_found_by_heartbeats_and_is_a_loss_as_others_are(broker: testing.Broker, furnished: Program) -> None:
    (old,) = broker.connections
    broker.stall(old)
    while not furnished.connection.stats()['outages']:
        inside.seem_idle(furnished.connection, heard=10)  # instead of waiting for that long
        greenlets.sleep(0.05)
    report = furnished.wait_recovered()
    assert furnished.names() == ['lost', 'recovering', 'recovered'] and report.consumers == 3
    assert 'heartbeat' in str(furnished.events[0][1])
    broker.cut(old)  # for the broker it was still there
    furnished.works(b'after')
    assert furnished.connection.stats()['outages'] == 1


@pytest.mark.real_seconds
@pytest.mark.parametrize('broker', [1], indirect=True)
def test_a_hub_that_is_held_at_the_loss_makes_one_outage(broker: testing.Broker, furnished: Program) -> None:
    assert furnished.connection.heartbeat == 1
    broker.cut()
    end = time.monotonic() + 2.5  # of heartbeats of 1 s
    while time.monotonic() < end:
        pass
    report = furnished.wait_recovered()
    furnished.works(b'after')
    assert furnished.names() == ['lost', 'recovering', 'recovered'] and report.attempts == 1
    stats = furnished.connection.stats()
    assert (stats['outages'], stats['recoveries']) == (1, 1)


@pytest.mark.parametrize('step', ['tcp', 'header', 'start', 'tune', 'open-ok'])
def test_a_cut_before_each_word_of_the_broker_is_followed_by_another_attempt(peer: ScriptedBroker, step: str) -> None:
    connection = peer.open(recover=Recovery(**QUICK))
    peer.open_channel(connection)
    peer.hang_up()
    if step == 'tcp':
        peer.dismiss()
    else:
        if step == 'header':
            peer.accept()
        else:
            peer.handshake(until=step)
        peer.hang_up()
    peer.handshake()
    peer.expect('channel.open', 1)
    peer.send('channel.open-ok', 1)
    connection.wait_open(greenlets.PATIENCE)
    stats = connection.stats()
    assert (stats['outages'], stats['recovery_attempts'], stats['recoveries']) == (1, 2, 1)


def test_twenty_losses_while_it_is_restored_have_one_recovery(peer: ScriptedBroker) -> None:
    heard: list[Any] = []
    connection = peer.open(
        recover=Recovery(first_delay=0, delay=0.01, max_delay=0.01),
        on_lost=lambda error: heard.append('lost'),
        on_recovering=lambda attempt, *_: heard.append(attempt),
        on_recovered=lambda report: heard.append(report.attempts),
    )
    peer.open_channel(connection)
    peer.hang_up()
    for attempt in range(1, 21):
        peer.handshake()
        peer.expect('channel.open', 1)
        assert connection.state == 'recovering' and connection.recovery is not None
        assert connection.recovery.attempt == attempt and inside.recoveries(connection) == 1
        peer.hang_up()
    peer.handshake()
    peer.expect('channel.open', 1)
    peer.send('channel.open-ok', 1)
    connection.wait_open(greenlets.PATIENCE)
    greenlets.wait_until(lambda: len(heard) == 23)
    assert heard == ['lost', *range(1, 22), 21] and not inside.recoveries(connection)


def test_an_alarm_ends_with_the_connection_to_which_it_was_said(peer: ScriptedBroker) -> None:
    """Publishers that wait for the end of it go on where the next broker has none, and on_unblocked is not called."""
    said: list[Any] = []
    connection = peer.open(
        recover=Recovery(**QUICK), on_blocked=said.append, on_unblocked=lambda: said.append('unblocked')
    )
    channel = peer.open_channel(connection)
    peer.send('connection.blocked', 0, reason='low on memory')
    greenlets.wait_until(lambda: said)
    publishing = [greenlets.spawn(channel.basic_publish, gamqp.Message(b'x'), '', 'q') for _ in range(10)]
    greenlets.sleep(0.01)
    assert connection.is_blocked and not any(task.done for task in publishing)
    peer.hang_up()
    greenlets.wait_until(lambda: connection.state == 'recovering')
    assert not connection.is_blocked
    peer.handshake()
    peer.expect('channel.open', 1)
    peer.send('channel.open-ok', 1)
    for task in publishing:
        peer.expect('basic.publish')
        task.get()
    assert said == ['low on memory'] and not connection.is_blocked
    peer.send('connection.blocked', 0, reason='again')  # the new one says it by itself
    greenlets.wait_until(lambda: said == ['low on memory', 'again'])
    peer.send('connection.unblocked', 0)
    greenlets.wait_until(lambda: said == ['low on memory', 'again', 'unblocked'])
    assert connection.stats()['lost_publishes'] == 0


@pytest.mark.parametrize('cancelled', ['leave', 'resume'])
def test_a_consumer_that_the_broker_cancels_is_answered_once(peer: ScriptedBroker, cancelled: Any) -> None:
    """As RabbitMQ 4.3 does where a delivery is not acked in time: it waits for a cancel of the same consumer."""
    connection = peer.open(recover=Recovery(**QUICK, cancelled=cancelled))
    channel, got = peer.open_channel(connection), []
    starting = greenlets.spawn(channel.subscribe, 'q', got.append)
    peer.expect('basic.qos')
    peer.send('basic.qos-ok')
    tag = peer.expect('basic.consume').consumer_tag
    peer.send('basic.consume-ok', consumer_tag=tag)
    consumer = starting.get()
    peer.send('basic.cancel', consumer_tag=tag, nowait=True)
    answer = peer.expect('basic.cancel', 1)
    assert (answer.consumer_tag, answer.nowait) == (tag, True)
    if cancelled == 'leave':
        with pytest.raises(exceptions.ConsumerCancelled):
            consumer.join(greenlets.PATIENCE)
        assert connection.topology() == []
    else:
        ours = connection.channel_max
        for name in ('channel.open', 'basic.qos', 'basic.consume', 'channel.close'):  # whether it may start
            peer.expect(name, ours)
            peer.send(f'{name}-ok', ours, **({'consumer_tag': tag} if name == 'basic.consume' else {}))
        again = peer.expect('basic.consume', 1)
        assert (again.queue, again.consumer_tag) == ('q', tag)
        peer.raw(
            frames('basic.consume-ok', consumer_tag=tag)
            + frames('basic.deliver', consumer_tag=tag, delivery_tag=1, body=b'x')
        )
        peer.expect('basic.ack', 1)
        assert len(got) == 1 and not consumer.in_flight
    peer.expect_nothing_more(connection)
    assert channel.is_open


def test_when_it_is_given_up_everybody_gets_the_last_error(peer: ScriptedBroker) -> None:
    ends: list[Any] = []
    connection = peer.open(
        recover=Recovery(first_delay=0, delay=0.01, max_delay=0.01, attempts=3), on_given_up=ends.append
    )
    channel = peer.open_channel(connection)
    starting = greenlets.spawn(channel.consume, 'q')
    peer.expect('basic.qos')
    peer.send('basic.qos-ok')
    tag = peer.expect('basic.consume').consumer_tag
    peer.send('basic.consume-ok', consumer_tag=tag)
    deliveries = starting.get()
    tasks = [greenlets.spawn(next, deliveries), greenlets.spawn(connection.drain_events)]
    greenlets.sleep(0)
    peer.hang_up()
    greenlets.wait_until(lambda: connection.state == 'recovering')
    tasks += [greenlets.spawn(channel.publish, b'x'), greenlets.spawn(channel.queue_declare, 'q')]
    tasks += [greenlets.spawn(connection.wait_open), greenlets.spawn(connection.channel)]
    for number in range(3):
        peer.handshake(until='open-ok')
        peer.send('connection.close', reply_code=541, reply_text=f'number {number}', class_id=0, method_id=0)
        peer.expect('connection.close-ok')
        peer.hang_up()
    for call in (*(task.get for task in tasks), lambda: channel.queue_declare('q'), lambda: channel.publish(b'x')):
        with pytest.raises(exceptions.InternalError, match='number 2') as caught:
            call()
        assert 'closed the socket' in str(caught.value.__cause__)
    assert connection.state == 'closed' and connection.recovery is None
    greenlets.wait_until(lambda: ends)
    assert len(ends) == 1 and 'number 2' in str(ends[0]) and connection.stats()['recovery_attempts'] == 3


@pytest.mark.parametrize('highest', [8, 7, 3, 2])
def test_a_channel_whose_number_the_next_broker_does_not_take_ends_and_all_else_goes_on(
    peer: ScriptedBroker, caplog: pytest.LogCaptureFixture, highest: int
) -> None:
    """Of the numbers up to *highest* the last one is of the connection itself."""
    reports: list[Any] = []
    connection = peer.open(recover=Recovery(**QUICK), on_recovered=reports.append)
    low, high = peer.open_channel(connection, 1), peer.open_channel(connection, 7)
    got: list[bytes] = []
    goes_on = begin(peer, lambda: low.subscribe('low', lambda message: got.append(message.body), consumer_tag='low'))
    ends = begin(peer, lambda: high.consume('high', consumer_tag='high'))
    iterating = greenlets.spawn(next, ends)
    receipt_of = greenlets.spawn(high.confirm_select)
    peer.expect('confirm.select', 7)
    peer.send('confirm.select-ok', 7)
    receipt_of.get()
    peer.hang_up()
    greenlets.wait_until(lambda: connection.state == 'recovering')
    waiting = greenlets.spawn(high.queue_declare, 'waits')
    publishing = greenlets.spawn(high.publish, b'x', '', 'waits')
    peer.handshake(tune=(highest, 131072, 60))
    channels = set()
    while not reports:
        for said in peer.take_what_came():
            channels.add(said.channel)
            if said.name in ('channel.open', 'basic.qos', 'basic.consume', 'confirm.select', 'queue.declare'):
                tag = {'consumer_tag': said.consumer_tag} if said.name == 'basic.consume' else {}
                peer.send(f'{said.name}-ok', said.channel, **tag)
        greenlets.sleep(0)
    assert connection.channel_max == highest and (7 in channels) == (highest == 8)
    if highest == 8:
        for task in (iterating, waiting, publishing):
            task.kill()
        return
    for task in (iterating, waiting, publishing):
        with pytest.raises(exceptions.ResourceError, match=f'channel 7 .*channel_max is {highest}'):
            task.get()
    with pytest.raises(exceptions.ResourceError):
        high.queue_declare('later')
    assert not high.is_open and list(connection.channels) == [1]
    assert f'channel 7 has no place any more: channel_max is {highest}' in caplog.text
    peer.raw(frames('basic.deliver', consumer_tag='low', delivery_tag=1, body=b'x'))
    peer.expect('basic.ack', 1)
    assert got == [b'x'] and goes_on.in_flight == 0 and reports[0].consumers == 1
    # Numbers for as many further ones as there may be, and not the one that is gone.
    for number in range(2, highest):
        opening = greenlets.spawn(connection.channel)
        assert peer.expect('channel.open').channel == number
        peer.send('channel.open-ok', number)
        opening.get()
    with pytest.raises(exceptions.ConnectionError):
        connection.channel()
