"""What may go wrong while a connection is opened again, on a broker that does wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import greenlets
import pytest
from recovering_program import QUICK, Program

import gamqp
from gamqp import Recovery, exceptions, testing

#: What is sent in each attempt to open the connection of ``furnished`` again.
STEPS = (
    *('connection.start-ok', 'connection.tune-ok', 'connection.open', 'channel.open', 'confirm.select', 'basic.qos'),
    *('exchange.declare', 'exchange.bind', 'queue.declare', 'queue.bind', 'basic.consume', 'channel.close'),
)


@pytest.fixture
def broker() -> Iterator[testing.Broker]:
    with testing.Broker() as broker:
        yield broker


@pytest.fixture
def make(broker: testing.Broker) -> Iterator[Callable[..., Program]]:
    programs: list[Program] = []

    def make(**settings: Any) -> Program:
        programs.append(Program(broker, **settings))
        return programs[-1]

    yield make
    for program in programs:
        program.end()


@pytest.fixture
def furnished(make: Callable[..., Program]) -> Program:
    return make().furnish()


@pytest.mark.parametrize('handled', [False, True], ids=['unseen', 'done'])
@pytest.mark.parametrize('step', STEPS)
def test_a_cut_at_each_step_is_followed_by_another_attempt(
    broker: testing.Broker, furnished: Program, step: str, handled: bool
) -> None:
    broker.cut_at(step, handled=handled)
    broker.cut()
    report = furnished.wait_recovered()
    assert report.attempts == 2 and report.consumers == 3 and report.skipped == []
    furnished.works(b'after')
    assert len(broker.connections) == 1


def test_losses_in_a_row_have_one_recovery(broker: testing.Broker, make: Callable[..., Program]) -> None:
    program = make(delay=0.01, max_delay=0.01).furnish()
    broker.cut_at('basic.qos', times=20)
    broker.cut()
    report = program.wait_recovered()
    attempts = report.attempts
    assert attempts > 5  # an order to cut may hit the requests behind it, which are under way, too
    assert program.names() == ['lost', *['recovering'] * attempts, 'recovered']
    assert [what for name, what in program.events if name == 'recovering'] == list(range(1, attempts + 1))
    program.works(b'after')
    assert broker.connections_in_all == attempts + 1


def test_a_broker_that_answers_a_step_with_silence_is_left(
    broker: testing.Broker, make: Callable[..., Program]
) -> None:
    program = make(rpc_timeout=0.3).furnish()
    broker.drop_reply('basic.consume', queue='iterated')
    broker.cut()
    assert program.wait_recovered().attempts == 2
    program.works(b'after')
    assert len(broker.queue('iterated').consumers) == 1


@pytest.mark.parametrize('step', ['exchange.declare', 'queue.bind', 'confirm.select', 'basic.consume'])
def test_close_at_each_step(broker: testing.Broker, furnished: Program, step: str) -> None:
    broker.drop_reply(step, times=None)
    broker.cut()
    greenlets.wait_until(lambda: furnished.names()[-1:] == ['recovering'] and broker.connections)
    greenlets.sleep(0.02)
    furnished.connection.close()
    assert furnished.connection.state == 'closed'
    greenlets.wait_until(lambda: not broker.connections)
    assert 'recovered' not in furnished.names()
    for task in furnished.tasks:
        with pytest.raises(exceptions.RecoverableConnectionError, match='closed by this program'):
            task.get()


@pytest.mark.parametrize('when', ['on_lost', 'on_recovering', 'on_recovered'])
def test_close_by_a_callback(broker: testing.Broker, furnished: Program, when: str) -> None:
    setattr(furnished.connection, when, lambda *_: furnished.connection.close())
    broker.cut()
    greenlets.wait_until(lambda: furnished.connection.state == 'closed')
    greenlets.wait_until(lambda: not broker.connections)


def test_a_killed_greenlet_leaves_nothing(broker: testing.Broker, furnished: Program) -> None:
    connection, channel = furnished.connection, furnished.channel
    broker.cut_at('connection.open', times=None)
    broker.cut()
    greenlets.wait_until(lambda: connection.state == 'recovering')
    calls: list[Callable[[], Any]] = [
        lambda: channel.publish(b'killed', 'ex'),
        lambda: channel.queue_declare('killed'),
        lambda: channel.subscribe('handled', print),
        lambda: channel.basic_get('handled'),
        lambda: next(channel.consume('iterated')),
        lambda: channel.exchange_declare('killed', 'fanout', auto_delete=False),
        lambda: gamqp.RPCClient(channel).call(b'killed', 'handled'),
        connection.channel,
        connection.wait_open,
        connection.connect,
    ]
    tasks = [greenlets.spawn(call) for call in calls]
    others = [greenlets.spawn(channel.queue_declare, 'other', False, True, False, False) for _ in range(2)]
    greenlets.sleep(0.02)
    for task in tasks:
        task.kill()
    broker.clear_faults()
    furnished.wait_recovered()
    for task in others:
        assert task.get().queue == 'other'
    furnished.works(b'after')
    assert 'killed' not in {*broker.queues(), *broker.exchanges()}
    assert len(broker.queue('handled').consumers) == len(broker.queue('iterated').consumers) == 1
    assert furnished.channel.consumer_count == 3 and not broker.published('', 'handled')
    assert not [message for message in broker.published('ex') if message.body == b'killed']


@pytest.mark.parametrize(
    ('method', 'code', 'where', 'consumers'),
    [
        ('queue.declare', 406, {'queue': 'iterated'}, 3),
        ('exchange.declare', 406, {'exchange': 'ex'}, 3),
        ('queue.declare', 403, {}, 3),
        ('queue.bind', 403, {'queue': 'called'}, 3),
    ],
)
def test_a_declaration_that_is_refused_is_reported_and_consumers_start(
    broker: testing.Broker, furnished: Program, method: str, code: int, where: dict[str, Any], consumers: int
) -> None:
    broker.refuse(method, code, times=None, **where)
    broker.cut()
    report = furnished.wait_recovered()
    assert report.consumers == consumers and report.skipped
    assert {error.code for _, error in report.skipped} == {code}
    broker.clear_faults()
    furnished.works(b'after')
    assert furnished.connection.stats()['recovery_skipped'] == len(report.skipped)


def test_a_record_over_which_the_broker_closes_the_connection_is_left_out_in_the_end(
    broker: testing.Broker, furnished: Program
) -> None:
    broker.refuse('queue.declare', 541, times=None, queue='handled')
    broker.cut()
    report = furnished.wait_recovered()
    assert report.attempts == 3
    assert [(record['queue'], error.code) for record, error in report.skipped] == [('handled', 541)]
    assert [record['queue'] for record in furnished.connection.topology() if record['kind'] == 'queue'][:1] == [
        'handled'
    ]
    broker.clear_faults()
    furnished.works(b'after')


def test_on_record_error_decides(broker: testing.Broker, make: Callable[..., Program]) -> None:
    asked: list[Any] = []

    def decide(record: dict[str, Any], error: BaseException) -> str:
        asked.append((record['kind'], error.code))  # type: ignore[attr-defined]
        return 'stop' if len(asked) > 1 else 'retry'

    program = make(on_record_error=decide).furnish()
    broker.refuse('queue.declare', 406, queue='handled')
    broker.cut()
    program.wait_recovered()
    program.works(b'after')  # the declaration was tried again meanwhile
    broker.refuse('queue.declare', 406, queue='handled')
    broker.cut()
    greenlets.wait_until(lambda: program.names()[-1] == 'given up')
    assert asked == [('queue', 406)] * 2
    with pytest.raises(exceptions.RecoverableConnectionError, match='on_record_error has stopped'):
        program.connection.wait_open()


def test_only_what_is_wanted_is_restored(broker: testing.Broker, make: Callable[..., Program]) -> None:
    program = make(keep=lambda record: record.get('queue') != 'called').furnish()
    program.channel.queue_declare('ours', durable=True, auto_delete=False, recover=False)
    program.tasks.pop().kill()
    broker.restart(keep='nothing')
    program.wait_recovered()
    assert sorted(broker.queues()) == ['handled', 'iterated']
    assert len(program.channel.callbacks) == program.channel.consumer_count == 2


def test_consumers_alone_can_be_restored(broker: testing.Broker, make: Callable[..., Program]) -> None:
    program = make(topology='consumers').furnish()
    broker.forget_published()
    declared: list[str] = []
    broker.refuse('queue.declare', 406, times=None)
    broker.refuse('exchange.declare', 406, times=None)
    broker.cut()
    assert program.wait_recovered().skipped == declared == []
    program.works(b'after')


def test_a_handler_that_runs_across_the_loss_is_alone(broker: testing.Broker, make: Callable[..., Program]) -> None:
    program = make()
    channel = program.connection.channel()
    channel.queue_declare('jobs', durable=True, auto_delete=False)
    running = [0, 0]
    seen: list[tuple[bytes, bool]] = []
    gate: list[bool] = []

    def work(message: gamqp.Message) -> None:
        running[0] += 1
        running[1] = max(running)
        seen.append((message.body, message.redelivered))
        if message.body == b'1' and not message.redelivered:
            greenlets.wait_until(lambda: gate)
        running[0] -= 1

    channel.subscribe('jobs', work)
    for body in (b'1', b'2'):
        broker.publish('', 'jobs', body)
    greenlets.wait_until(lambda: seen)
    broker.cut()
    program.wait_recovered()
    assert running == [1, 1] and not broker.queue('jobs').consumers
    gate.append(True)
    greenlets.wait_until(lambda: len(seen) == 3)
    assert seen == [(b'1', False), (b'1', True), (b'2', True)] and running[1] == 1


def test_an_iterator_yields_nothing_of_before(broker: testing.Broker, make: Callable[..., Program]) -> None:
    program = make()
    channel = program.connection.channel()
    channel.queue_declare('jobs', durable=True, auto_delete=False)
    for number in range(50):
        broker.publish('', 'jobs', b'%d' % number)
    deliveries = channel.consume('jobs', prefetch=50)
    first = next(deliveries)
    broker.wait_until(lambda: len(broker.queue('jobs').unacked) == 50)
    broker.cut()
    program.wait_recovered()
    got = [next(deliveries) for _ in range(50)]
    first.ack()
    assert [message.body for message in got] == [b'%d' % number for number in range(50)]
    for message in got:
        message.ack()
    broker.wait_until(lambda: not broker.queue('jobs').unacked)
    deliveries.close()


def test_messages_that_need_no_ack_are_handed_out_once(broker: testing.Broker, make: Callable[..., Program]) -> None:
    program = make()
    channel = program.connection.channel()
    channel.queue_declare('jobs', durable=True, auto_delete=False)
    for number in range(500):
        broker.publish('', 'jobs', b'%d' % number)
    deliveries = channel.consume('jobs', no_ack=True)
    broker.wait_until(lambda: not len(broker.queue('jobs')))
    greenlets.wait_until(lambda: deliveries.delivered == 500)
    broker.cut()
    program.wait_recovered()
    broker.publish('', 'jobs', b'500')
    assert [next(deliveries).body for _ in range(501)] == [b'%d' % number for number in range(501)]
    deliveries.close()


@pytest.mark.parametrize('cancelled', ['leave', 'resume'])
def test_a_consumer_that_the_broker_cancels(
    broker: testing.Broker, make: Callable[..., Program], cancelled: str
) -> None:
    program = make(cancelled=cancelled)
    channel = program.connection.channel()
    channel.queue_declare('jobs', durable=True, auto_delete=False)
    got: list[bytes] = []
    consumer = channel.subscribe('jobs', lambda message: got.append(message.body))
    other = greenlets.spawn(consumer.join)
    with gamqp.connect(broker.url) as admin:
        admin.channel().queue_delete('jobs')
        if cancelled == 'leave':
            with pytest.raises(exceptions.ConsumerCancelled):
                other.get()
            return
        admin.channel().queue_declare('jobs', durable=True, auto_delete=False)
    broker.publish('', 'jobs', b'x')
    greenlets.wait_until(lambda: got == [b'x'])
    consumer.cancel()
    other.get()


def test_calls_that_cancel_in_the_outage_return_at_once(broker: testing.Broker, furnished: Program) -> None:
    broker.drop_reply('channel.close')
    broker.cut()
    greenlets.wait_until(lambda: furnished.connection.state == 'recovering')
    furnished.consumer.cancel()
    furnished.deliveries.close()
    furnished.tasks[0].get()
    (tag,) = furnished.channel.callbacks
    furnished.channel.basic_cancel(tag)
    broker.cut()
    assert furnished.wait_recovered().consumers == 0
    assert not any(broker.queue(name).consumers for name in ('handled', 'iterated', 'called'))


def test_a_wrong_password_is_tried_on(broker: testing.Broker, furnished: Program) -> None:
    broker.add_user('guest', 'other')
    broker.cut()
    greenlets.wait_until(
        lambda: isinstance(getattr(furnished.connection.recovery, 'error', None), exceptions.AccessRefused)
    )
    broker.add_user('guest', 'guest')
    furnished.wait_recovered()
    furnished.works(b'after')


def test_a_callable_password_is_asked_at_each_attempt(broker: testing.Broker) -> None:
    secrets = ['A', 'B']
    broker.add_user('me', 'A')
    with gamqp.Connection(
        f'{broker.host}:{broker.port}', 'me', lambda: secrets.pop(0), recover=Recovery(**QUICK)
    ) as connection:
        broker.add_user('me', 'B')
        broker.cut()
        greenlets.wait_until(lambda: connection.stats()['recoveries'])
    assert secrets == []


@pytest.mark.filterwarnings('ignore:Using fork')
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_fork_in_the_outage(broker: testing.Broker, furnished: Program) -> None:
    broker.drop_reply('channel.close')
    broker.cut()
    greenlets.wait_until(lambda: furnished.connection.state == 'recovering')
    furnished.fork()
    broker.cut()
    furnished.wait_recovered()
    furnished.works(b'after')


def test_a_drain_in_the_outage_ends_it(broker: testing.Broker, make: Callable[..., Program]) -> None:
    program = make()
    channel = program.connection.channel()
    channel.queue_declare('jobs', durable=True, auto_delete=False)
    gate: list[bool] = []
    began: list[Any] = []
    channel.subscribe('jobs', lambda message: (began.append(1), greenlets.wait_until(lambda: gate)), concurrency=2)
    for body in (b'1', b'2'):
        broker.publish('', 'jobs', body)
    greenlets.wait_until(lambda: len(began) == 2)
    broker.drop_reply('channel.close', times=None)
    broker.cut()
    greenlets.wait_until(lambda: program.connection.state == 'recovering')
    drain = greenlets.spawn(program.connection.drain, greenlets.PATIENCE)
    greenlets.sleep(0.05)
    assert not drain.done
    gate.append(True)
    assert drain.get() is False
    assert program.connection.state == 'closed' and 'recovered' not in program.names()


def test_callbacks_that_raise_or_take_their_time_hold_nothing_up(
    broker: testing.Broker, furnished: Program, caplog: pytest.LogCaptureFixture
) -> None:
    gate: list[bool] = []
    furnished.connection.on_lost = lambda error: 1 / 0
    furnished.connection.on_recovered = lambda report: greenlets.wait_until(lambda: gate)
    for count in (1, 2):
        broker.cut()
        greenlets.wait_until(lambda count=count: furnished.connection.stats()['recoveries'] == count)  # type: ignore[misc]
    furnished.works(b'after')
    assert 'ZeroDivisionError' in caplog.text
    gate.append(True)


def test_a_name_that_the_program_takes_out_is_not_declared(broker: testing.Broker, furnished: Program) -> None:
    assert furnished.connection.forget('queue', 'called') and not furnished.connection.forget('queue', 'called')
    with pytest.raises(ValueError, match='kind'):
        furnished.connection.forget('queues', 'x')
    furnished.tasks.pop().kill()
    broker.restart(keep='nothing')
    report = furnished.wait_recovered()
    assert sorted(broker.queues()) == ['handled', 'iterated']
    assert [record['queue'] for record, _ in report.skipped] == ['called']  # its consumer waits for the queue


def test_a_pool_replaces_what_it_loses_and_refuses_to_recover(broker: testing.Broker) -> None:
    with pytest.raises(ValueError, match='recover: a Pool replaces'):
        gamqp.Pool(broker.url, recover=True)
    gamqp.Pool(broker.url, recover=False).close()
    pool = gamqp.Pool(lambda: gamqp.connect(broker.url, recover=True))
    with pytest.raises(ValueError, match='recover: a Pool replaces'), pool.channel():
        pass
    pool.close()
    broker.wait_until(lambda: not broker.connections)


def test_kombu_has_its_own_recovery() -> None:
    from gamqp.kombu.channel import Connection as OfTransport

    class Patched(gamqp.Connection):
        _heartbeat_needs_patching = True

    for kind in (Patched, OfTransport):
        with pytest.raises(ValueError, match='recover: not with kombu'):
            kind(recover=True)


def test_a_lost_transaction_is_told_once(broker: testing.Broker, make: Callable[..., Program]) -> None:
    program = make()
    channel = program.connection.channel()
    channel.queue_declare('jobs', durable=True, auto_delete=False)
    channel.tx_select()
    channel.basic_publish(gamqp.Message('before'), routing_key='jobs')
    broker.cut()
    program.wait_recovered()
    channel.basic_publish(gamqp.Message('since'), routing_key='jobs')
    with pytest.raises(gamqp.Lost):
        channel.tx_commit()
    assert not len(broker.queue('jobs'))
    channel.basic_publish(gamqp.Message('next'), routing_key='jobs')
    channel.tx_commit()
    assert [message.text for message in broker.queue('jobs').messages] == ['next']
    broker.cut()
    program.wait_recovered(2)
    channel.tx_commit()  # there was nothing in it
