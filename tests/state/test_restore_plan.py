"""What is declared again after a loss, in which order, and what becomes of what the broker refuses."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from simulated_broker import SimulatedBroker
from simulated_restore import Attempt, Lost, frozen

from gamqp import exceptions
from gamqp.state.prefetch import Prefetch
from gamqp.state.restore_channels import ChannelPlan
from gamqp.state.restore_errors import Blame, treatment
from gamqp.state.restore_plan import DeclarationPlan, choose
from gamqp.state.topology_records import Record, RecordedConsumer, Request
from gamqp.state.topology_registry import TopologyRegistry
from gamqp.wire.spec import Basic, Exchange, Queue


class Topology(TopologyRegistry):
    """A registry in which a test declares things in short."""

    def declare_exchange(self, name: str, durable: bool = True, auto_delete: bool = False) -> None:
        done = self.exchange_declare(name, 'topic', durable, auto_delete, None, True)
        assert done is not None
        done(())

    def declare_queue(
        self, name: str, durable: bool = True, exclusive: bool = False, auto_delete: bool = False, named: str = ''
    ) -> None:
        self.queue_declare(name, durable, exclusive, auto_delete, None, True)((named or name, 0, 0))

    def bind_queue(self, queue: str, exchange: str, key: str = '') -> None:
        self.queue_bind(queue, exchange, key, None, True)(())

    def bind_exchange(self, destination: str, source: str) -> None:
        self.exchange_bind(destination, source, '', None, True)(())

    def start(self, queue: str, tag: str, channel: int = 1, prefetch: int = 0) -> RecordedConsumer:
        record = self.consume(channel, queue, tag, False, False, False, None, prefetch, True)
        assert record is not None
        self.consumer_started(record)
        return record


@pytest.fixture
def registry() -> Topology:
    return Topology()


@pytest.fixture
def broker() -> SimulatedBroker:
    """Empty, as after a loss of everything."""
    return SimulatedBroker()


def refusing(code: int, *what: object) -> Callable[[Request], int | None]:
    """Refuses requests that have one of these in them: a method, or a name."""
    return lambda request: code if any(one == request[0] or one in request[1] for one in what) else None


def words(records: list[Any]) -> list[str]:
    """Each record in a word."""
    return [
        {
            'exchange': lambda: record.name,  # noqa: B023
            'queue': lambda: record.name,  # noqa: B023
            'binding': lambda: f'{record.source}>{record.destination}',  # noqa: B023
            'consumer': lambda: record.tag,  # noqa: B023
        }[record.kind]()
        for record in records
    ]


# -- which, and in which order ----------------------------------------------------------


def furnish(registry: Topology) -> None:
    registry.declare_queue('q')
    registry.declare_exchange('e')
    registry.bind_queue('q', 'e')
    registry.declare_exchange('f', durable=False)
    registry.bind_exchange('f', 'e')
    registry.declare_queue('mine', exclusive=True)
    registry.declare_queue('gone', auto_delete=True)
    registry.bind_queue('mine', 'e')
    registry.bind_queue('q', 'f')
    registry.start('q', 't')


@pytest.mark.parametrize(
    ('topology', 'declared', 'consumers', 'without'),
    [
        ('all', ['e', 'f', 'e>f', 'q', 'mine', 'gone', 'e>q', 'e>mine', 'f>q'], ['t'], []),
        ('transient', ['f', 'e>f', 'mine', 'gone', 'e>mine', 'f>q'], ['t'], []),
        ('consumers', [], ['t'], []),
        ('none', [], [], ['t']),
    ],
)
def test_what_is_chosen(
    registry: Topology, topology: Any, declared: list[str], consumers: list[str], without: list[str]
) -> None:
    furnish(registry)
    assert tuple(map(words, choose(registry, topology))) == (declared, consumers, without)


def test_the_program_chooses(registry: Topology) -> None:
    """Nothing is bound to an exclusive queue that it leaves out, which is gone for certain."""
    furnish(registry)
    seen: list[Record] = []

    def keep(record: Record) -> bool:
        seen.append(record)
        return record.kind == 'binding' or getattr(record, 'name', '') == 'e'

    assert tuple(map(words, choose(registry, 'all', keep))) == (['e', 'e>f', 'e>q', 'f>q'], [], ['t'])
    assert [record.kind for record in seen].count('consumer') == 1


def test_all_is_there_again(registry: Topology, broker: SimulatedBroker) -> None:
    furnish(registry)
    before = registry.topology()
    attempt = Attempt(registry, broker).run()
    assert registry.topology() == before
    assert (attempt.skipped, attempt.retry, attempt.channels_opened) == ([], [], 1)
    assert [sig for sig, _ in attempt.sent] == [
        *[Exchange.Declare] * 2,
        Exchange.Bind,
        *[Queue.Declare] * 3,
        *[Queue.Bind] * 3,
        Basic.Consume,
    ]
    assert broker.queues['mine'] == (True, True, False, frozen(None))
    assert broker.consumers == {('mine', 1, 't'): 'q'}


def test_requests_go_ahead_of_the_replies_and_not_without_a_limit(registry: Topology) -> None:
    for number in range(10):
        registry.declare_queue(f'q{number}')
    plan = DeclarationPlan(registry, registry.queues(), ahead=4)
    assert [plan.next() for _ in range(5)] == [*registry.queues()[:4], None]
    assert repr(plan) == '<DeclarationPlan 6 to send, 4 sent>'
    assert plan.answered(('q0', 0, 0)) is registry.queues()[0]
    assert [plan.next(), plan.next()] == [registry.queues()[4], None]
    assert plan.unanswered == registry.queues()[1:5]


def test_what_is_taken_out_meanwhile_is_not_declared(registry: Topology) -> None:
    furnish(registry)
    plan = DeclarationPlan(registry, choose(registry).declared, ahead=1)
    assert words([plan.next()]) == ['e']
    registry.queue_delete('q')(())
    registry.exchange_delete('f')(())
    plan.answered(())
    declared = []
    while (record := plan.next()) is not None:
        declared += words([record])
        plan.answered((getattr(record, 'name', ''), 0, 0))
    assert (declared, plan.done) == (['mine', 'gone', 'e>mine'], True)
    channel = ChannelPlan(registry, registry.consumers(), Prefetch())
    registry.consumer_ended(1, 't')
    assert (channel.next(), channel.done) == (None, True)


# -- queues that the broker names -------------------------------------------------------


def test_a_queue_gets_one_new_name_which_its_bindings_and_consumers_have(
    registry: Topology, broker: SimulatedBroker
) -> None:
    for exchange in 'ab':
        registry.declare_exchange(exchange)
    registry.declare_queue('', exclusive=True, named='old')
    registry.declare_queue('q')
    for exchange in 'ab':
        registry.bind_queue('old', exchange)
    registry.start('old', 't')
    attempt = Attempt(registry, broker).run()
    assert attempt.plan.renamed == {'old': 'amq.gen-0'}
    assert registry.queue_name('old') == 'amq.gen-0'
    assert set(broker.queues) == {'amq.gen-0', 'q'}
    assert broker.bindings == {('queue', source, 'amq.gen-0', '', frozen(None)) for source in 'ab'}
    assert broker.consumers == {('mine', 1, 't'): 'amq.gen-0'}
    again = Attempt(registry, SimulatedBroker()).run()
    assert again.plan.renamed == {}  # by chance the same
    third = SimulatedBroker()
    third.names = iter(range(7, 9))  # type: ignore[assignment]
    assert Attempt(registry, third).run().plan.renamed == {'amq.gen-0': 'amq.gen-7'}
    assert {registry.queue_name(name) for name in ('old', 'amq.gen-0', 'amq.gen-7')} == {'amq.gen-7'}


def test_bindings_wait_for_the_new_name_alone(registry: Topology) -> None:
    registry.declare_queue('', named='old')
    registry.declare_queue('q')
    registry.bind_queue('q', 'e')
    registry.bind_queue('old', 'e')
    registry.bind_queue('q', 'f')
    plan = DeclarationPlan(registry, choose(registry).declared)
    assert words([plan.next(), plan.next(), plan.next()]) == ['old', 'q', 'e>q']
    assert plan.next() is None
    plan.answered(('new', 0, 0))
    assert words([plan.next(), plan.next()]) == ['e>new', 'f>q']


# -- what is refused ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ('record', 'error', 'expected'),
    [
        ('queue', exceptions.PreconditionFailed, 'skip'),
        ('queue', exceptions.AccessRefused, 'skip'),
        ('queue', exceptions.NotFound, 'retry'),
        ('queue', exceptions.ResourceLocked, 'retry'),
        ('exclusive', exceptions.ResourceLocked, 'wait'),
        ('exclusive', exceptions.PreconditionFailed, 'skip'),
        ('exchange', exceptions.AccessRefused, 'skip'),
        ('binding', exceptions.NotFound, 'skip'),
        ('consumer', exceptions.NotFound, 'retry'),
        ('consumer', exceptions.AccessRefused, 'retry'),
        ('consumer', exceptions.ResourceLocked, 'retry'),
        ('queue', exceptions.InternalError, 'fail'),
        ('consumer', exceptions.NotAllowed, 'fail'),
        ('consumer', TimeoutError, 'fail'),
        ('queue', OSError, 'fail'),
    ],
)
def test_what_follows_from_an_error(registry: Topology, record: str, error: Any, expected: str) -> None:
    registry.declare_exchange('e')
    registry.declare_queue('q')
    registry.declare_queue('x', exclusive=True)
    registry.bind_queue('q', 'e')
    registry.start('q', 't')
    exchange, queue, exclusive, binding, consumer = [*choose(registry).declared, *registry.consumers()]
    records = {'exchange': exchange, 'queue': queue, 'exclusive': exclusive, 'binding': binding, 'consumer': consumer}
    assert treatment(records[record], error()) == expected
    assert treatment(records[record], error(), 'stop') == 'stop'
    for answer in ('skip', 'retry'):
        assert treatment(records[record], error(), answer) == ('fail' if expected == 'fail' else answer)


def test_other_arguments_at_the_broker_skip_the_queue_and_not_its_consumer(
    registry: Topology, broker: SimulatedBroker
) -> None:
    for name in 'abc':
        registry.declare_queue(name)
        registry.start(name, name)
    broker.queue_declare('b', False, False, False, frozen({'x': 1}))
    attempt = Attempt(registry, broker).run()
    assert words(attempt.skipped) == ['b']
    assert set(broker.consumers.values()) == {'a', 'b', 'c'}
    assert registry.holds(attempt.skipped[0])  # and is tried again at the next outage


def test_without_permission_to_configure_the_consumers_run(registry: Topology, broker: SimulatedBroker) -> None:
    furnish(registry)
    broker.exchanges |= dict.fromkeys('ef', ('topic', True, False, frozen(None)))
    broker.queues |= dict.fromkeys(['q', 'mine', 'gone'], (True, False, False, frozen(None)))
    attempt = Attempt(registry, broker, refusing(403, Exchange.Declare, Queue.Declare)).run()
    assert words(attempt.skipped) == ['e', 'f', 'q', 'mine', 'gone']
    assert broker.consumers == {('mine', 1, 't'): 'q'}
    assert len(broker.bindings) == 4


def test_what_stands_behind_a_refused_one_is_sent_again_and_nothing_else(
    registry: Topology, broker: SimulatedBroker
) -> None:
    for number in range(300):
        registry.declare_queue(f'q{number}')
    attempt = Attempt(registry, broker, refusing(403, 'q150', 'q151', 'q299')).run()
    assert words(attempt.skipped) == ['q150', 'q151', 'q299']
    assert attempt.channels_opened == 4
    # A simulated broker takes no notice of what stands behind, so only what it did is in the list.
    assert [request[1][1] for request in attempt.sent] == [f'q{number}' for number in range(300)]


def test_a_queue_that_is_gone_leaves_the_other_consumers_of_its_channel(
    registry: Topology, broker: SimulatedBroker
) -> None:
    for name in 'abc':
        registry.start(name, f'of {name}')
        broker.queue_declare(name, True, False, False, frozen(None))
    broker.queue_delete('b')
    attempt = Attempt(registry, broker).run()
    assert words(attempt.retry) == ['of b']
    assert set(broker.consumers.values()) == {'a', 'c'}
    waiting = registry.consumer(1, 'of b')
    assert waiting is not None
    assert waiting.waiting
    broker.queue_declare('b', True, False, False, frozen(None))
    assert Attempt(registry, broker).run().retry == []
    assert not waiting.waiting


def test_however_many_queues_are_gone_no_consumer_is_started_more_than_twice(
    registry: Topology, broker: SimulatedBroker
) -> None:
    for number in range(200):
        registry.start(f'q{number}', f't{number}')
        if number % 2:
            broker.queue_declare(f'q{number}', True, False, False, frozen(None))
    attempt = Attempt(registry, broker).run()
    assert len(broker.consumers) == len(attempt.retry) == 100
    assert len(attempt.sent) <= 300


def test_the_refused_consumer_is_found_by_its_queue_where_a_reply_is_lost(registry: Topology) -> None:
    """consume-ok of the one before may be lost with the channel."""
    a, b = registry.start('a', 't'), registry.start('b', 'u')
    plan = ChannelPlan(registry, [a, b], Prefetch())
    assert plan.next() == (a.request(), a)
    assert plan.next() == (b.request(), b)
    assert (repr(plan), plan.unanswered) == ('<ChannelPlan 0 to start, 2 sent>', [a, b])
    assert plan.refused("NOT_FOUND - no queue 'b' in vhost '/'") is b
    assert plan.next() == (a.request(), a)
    assert plan.refused('no reason') is a
    assert plan.refused() is None
    assert plan.done


def test_each_consumer_has_its_prefetch_again_and_the_channel_its_own(
    registry: Topology, broker: SimulatedBroker
) -> None:
    limits = [10, 20, 20, 30, 0, 10]
    for number, limit in enumerate(limits):
        registry.start('q', f't{number}', prefetch=limit)
    broker.queue_declare('q', True, False, False, frozen(None))
    attempt = Attempt(registry, broker).run({1: Prefetch(wanted=5, sent=5, of_channel=50)})
    assert [attempt.limits[f't{number}'] for number in range(6)] == limits
    plan = ChannelPlan(registry, [], Prefetch(wanted=5, sent=5, of_channel=50))
    asked = []
    while (step := plan.next()) is not None:
        asked.append(step)
        plan.answered()
    assert asked == [((Basic.Qos, (0, 50, True)), None), ((Basic.Qos, (0, 5, False)), None)]
    assert plan.done


def test_a_consumer_that_is_cancelled_while_it_is_started_is_given_back(registry: Topology) -> None:
    consumer = registry.start('q', 't')
    plan = ChannelPlan(registry, [consumer], Prefetch())
    plan.next()
    registry.consumer_ended(1, 't')
    assert plan.answered('t') is consumer
    assert not registry.holds(consumer)


# -- queues that are locked --------------------------------------------------------------


def test_exclusive_queues_wait_until_the_broker_has_noticed_the_end(
    registry: Topology, broker: SimulatedBroker
) -> None:
    """Whatever their number, each try costs one channel; and what needs none of them does not wait."""
    registry.declare_exchange('e')
    for number in range(20):
        registry.declare_queue(f'x{number}', exclusive=True)
        registry.bind_queue(f'x{number}', 'e')
        registry.start(f'x{number}', f't{number}')
    registry.declare_queue('last')
    registry.bind_queue('last', 'e')
    tries = []

    def note() -> None:
        tries.append((set(broker.queues), len(broker.bindings)))

    def refuse(request: Request) -> int | None:
        return 405 if len(tries) < 3 and request[0] == Queue.Declare and request[1][4] else None

    attempt = Attempt(registry, broker, refuse, locked_once=note).run()
    assert tries == [({'last'}, 1)] * 3
    assert (attempt.retry, attempt.skipped, attempt.channels_opened) == ([], [], 4)
    assert (len(broker.queues), len(broker.bindings), len(broker.consumers)) == (21, 21, 20)


def test_a_queue_that_stays_locked_waits_with_what_depends_on_it(registry: Topology, broker: SimulatedBroker) -> None:
    registry.declare_exchange('e')
    for name in ('mine', 'other'):
        registry.declare_queue(name, exclusive=True)
        registry.bind_queue(name, 'e')
        registry.start(name, f'of {name}')
    attempt = Attempt(registry, broker, refusing(405, 'mine'))
    tries = []

    def once() -> None:
        tries.append(1)
        if len(tries) == 3:
            attempt.plan.defer_locked()

    attempt.locked_once = once
    attempt.run()
    assert words(attempt.plan.deferred[0]) == ['mine', 'e>mine']
    assert words(attempt.retry) == ['of mine', 'mine', 'e>mine']
    assert broker.consumers == {('mine', 1, 'of other'): 'other'}
    assert broker.bindings == {('queue', 'e', 'other', '', frozen(None))}


# -- what costs the connection -----------------------------------------------------------


@pytest.mark.parametrize('replies_lost', [0, 1, 1000])
@pytest.mark.parametrize('ahead', [1, 100])
def test_what_the_broker_closes_the_connection_over_is_last_and_then_skipped(
    registry: Topology, replies_lost: int, ahead: int
) -> None:
    """The third attempt does without it, whatever replies were lost; and so is the first of the next outage short."""
    registry.declare_exchange('e')
    for number in range(10):
        registry.declare_queue(f'q{number}')
        registry.bind_queue(f'q{number}', 'e')
        registry.start(f'q{number}', f't{number}')
    blame = Blame()

    def poison(request: Request) -> int | None:
        return 541 if request[0] == Queue.Declare and request[1][1] == 'q4' else None

    def attempt(refuse: Any = poison) -> Attempt:
        broker = SimulatedBroker()
        broker.queue_declare('q4', True, False, False, frozen(None))  # somebody else's
        return Attempt(registry, broker, refuse, blame, ahead, replies_lost)

    with pytest.raises(Lost):
        attempt().run()
    second = attempt()
    with pytest.raises(Lost):
        second.run()
    assert set(second.broker.queues) >= {f'q{number}' for number in range(4)}
    assert second.sent[-1][1][1] == 'q4'
    third = attempt().run()
    assert (len(third.broker.queues), len(third.broker.bindings), len(third.broker.consumers)) == (10, 10, 10)
    assert repr(blame) == '<Blame 1 suspects, 0 skipped>'
    with pytest.raises(Lost):
        attempt().run()
    attempt().run()
    attempt(lambda request: None).run()
    assert repr(blame) == '<Blame 0 suspects, 0 skipped>'


def test_a_consumer_may_be_the_culprit(registry: Topology) -> None:
    for number in range(5):
        registry.start('q', f't{number}')
    blame = Blame()

    def attempt() -> Attempt:
        broker = SimulatedBroker()
        broker.queue_declare('q', True, False, False, frozen(None))
        return Attempt(registry, broker, refusing(530, 't2'), blame)

    for _ in range(2):
        with pytest.raises(Lost):
            attempt().run()
    assert {tag for _, _, tag in attempt().run().broker.consumers} == {'t0', 't1', 't3', 't4'}


def test_what_only_took_too_long_is_last_and_never_skipped(registry: Topology) -> None:
    registry.declare_queue('slow')
    registry.declare_queue('q')
    slow, other = registry.queues()
    blame = Blame()
    for _ in range(5):
        blame.timed_out(slow)
    assert (blame.is_suspect(slow), blame.skips(slow), blame.split([slow, other])) == (True, False, ([other], [slow]))
    assert blame.connection_refused([slow]) is None
    assert blame.connection_refused([slow]) is slow
    assert (blame.skips(slow), blame.split([slow, other])) == (True, ([other], []))


def test_the_method_that_the_broker_names_leaves_fewer_suspects(registry: Topology) -> None:
    registry.declare_queue('q')
    registry.declare_queue('r')
    registry.bind_queue('q', 'e')
    q, r, binding = choose(registry).declared
    blame = Blame()
    assert blame.connection_refused([q, binding], Queue.Bind) is None
    assert blame.split([q, r, binding]) == ([q, r], [binding])
    assert blame.connection_refused([q, r], Queue.Bind) is None
    assert blame.split([q, r, binding]) == ([], [q, r, binding])


# -- at random ----------------------------------------------------------------------------


@pytest.mark.parametrize('seed', range(10))
def test_whatever_is_refused_all_else_is_restored(seed: int) -> None:
    """Each record is at the broker at the end, or was refused; what is refused costs a channel, once."""
    draw = random.Random(seed)
    registry, broker = Topology(), SimulatedBroker()
    for name in 'abcdef':
        registry.declare_exchange(name)
    for number in range(60):
        registry.declare_queue('', named=f'old{number}') if number % 7 == 0 else registry.declare_queue(f'q{number}')
    names = [queue.name for queue in registry.queues()]
    for number in range(150):
        registry.bind_queue(draw.choice(names), draw.choice('abcdef'), draw.choice('xyz'))
        registry.start(draw.choice(names), f't{number}', draw.randrange(1, 5), draw.choice([0, 10, 20]))
    refused: set[str] = set()

    def refuse(request: Request) -> int | None:
        if draw.random() < 0.05:
            refused.add(repr(request))
            return draw.choice([403, 404, 406])
        return None

    attempt = Attempt(registry, broker, refuse, ahead=draw.choice([1, 3, 100])).run()
    lost = [*attempt.skipped, *attempt.retry]
    everything = [*choose(registry).declared, *registry.consumers()]
    restored = [record for record in everything if record not in lost]
    assert set(broker.queues) >= {record.name for record in restored if record.kind == 'queue'}  # type: ignore[attr-defined]
    assert len(broker.bindings) == sum(record.kind == 'binding' for record in restored)
    assert len(broker.consumers) == sum(record.kind == 'consumer' for record in restored)
    assert len(set(map(id, lost))) == len(lost)
    assert len(refused) > 3
