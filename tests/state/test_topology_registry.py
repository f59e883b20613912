"""What a connection remembers of its declarations, and forgets with what the broker deletes by itself."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from gamqp import exceptions
from gamqp.state.topology_records import RecordedConsumer, arguments_key
from gamqp.state.topology_registry import SHARED_ARGUMENTS, TopologyRegistry


def exchange(registry: TopologyRegistry, name: str, auto_delete: bool = False, recover: bool = True) -> None:
    done = registry.exchange_declare(name, 'topic', False, auto_delete, None, recover)
    assert done is not None
    done(())


def queue(
    registry: TopologyRegistry, name: str, reply: str = '', arguments: Any = None, recover: bool = True, **how: bool
) -> None:
    flags = [how.get(flag, False) for flag in ('durable', 'exclusive', 'auto_delete')]
    registry.queue_declare(name, *flags, arguments, recover)((reply or name, 0, 0))


def consume(
    registry: TopologyRegistry,
    queue: str,
    tag: str = 't',
    channel: int = 1,
    recover: bool = True,
    arguments: Any = None,
) -> RecordedConsumer:
    record = registry.consume(channel, queue, tag, False, False, False, arguments, 10, recover)
    assert record is not None
    registry.consumer_started(record)
    return record


def names(registry: TopologyRegistry) -> list[str]:
    """Each record in a word: exchange 'e', queue 'q', binding 'e>q', consumer 'q:tag'."""
    words = {
        'exchange': lambda record: record['exchange'],
        'queue': lambda record: record['queue'],
        'binding': lambda record: f'{record["source"]}>{record["destination"]}',
        'consumer': lambda record: f'{record["queue"]}:{record["consumer_tag"]}',
    }
    return [words[record['kind']](record) for record in registry.topology()]


@pytest.fixture
def registry() -> TopologyRegistry:
    return TopologyRegistry()


def test_nothing_is_recorded_before_the_reply(registry: TopologyRegistry) -> None:
    done = registry.queue_declare('q', True, False, False, None, True)
    bound = registry.queue_bind('q', 'e', 'k', None, True)
    assert registry.topology() == []
    done(('q', 0, 0))
    bound(())
    assert names(registry) == ['q', 'e>q']


def test_what_the_broker_has_by_itself_is_not_recorded(registry: TopologyRegistry) -> None:
    assert registry.exchange_declare('amq.topic', 'topic', True, False, None, True) is None
    assert registry.exchange_declare('', 'direct', True, False, None, True) is None
    assert registry.consume(1, 'amq.rabbitmq.reply-to', 't', False, True, False, None, 0, False) is None
    queue(registry, 'q')
    registry.queue_bind('q', 'amq.topic', 'k', None, True)(())
    assert names(registry) == ['q', 'amq.topic>q']


def test_what_is_not_to_be_restored_is_not_shown_and_yet_known(registry: TopologyRegistry) -> None:
    exchange(registry, 'e', auto_delete=True)
    queue(registry, 'q', recover=False)
    consume(registry, 'q', recover=False)
    registry.queue_bind('q', 'e', '1', None, True)(())
    registry.queue_bind('q', 'e', '2', None, False)(())
    assert names(registry) == ['e', 'e>q']
    registry.queue_unbind('q', 'e', '1', None)(())
    assert names(registry) == ['e']  # the broker has another binding of it
    registry.queue_unbind('q', 'e', '2', None)(())
    assert names(registry) == []


def test_the_newest_declaration_counts_and_keeps_its_place(registry: TopologyRegistry) -> None:
    for name in 'ab':
        queue(registry, name)
    queue(registry, 'a', durable=True, arguments={'x-max-length': 1})
    queue(registry, 'b', recover=False)
    assert registry.topology() == [
        {
            'kind': 'queue',
            'queue': 'a',
            'durable': True,
            'exclusive': False,
            'auto_delete': False,
            'arguments': {'x-max-length': 1},
            'server_named': False,
        }
    ]
    queue(registry, 'b')
    assert names(registry) == ['a', 'b']


def test_arguments_are_copies_in_both_directions(registry: TopologyRegistry) -> None:
    given: dict[str, Any] = {'x': [1, {'y': bytearray(b'z')}], 'l': (1, 2)}
    queue(registry, 'q', arguments=given)
    given['x'][1]['y'] += b'!'
    given['new'] = 1
    expected = {'x': [1, {'y': b'z'}], 'l': [1, 2]}
    assert registry.topology()[0]['arguments'] == expected
    registry.topology()[0]['arguments']['x'].append(2)
    assert registry.topology()[0]['arguments'] == expected


def test_bindings_differ_by_type_and_value_of_arguments_and_not_by_their_order(registry: TopologyRegistry) -> None:
    for table in ({'a': 1, 'b': 2}, {'b': 2, 'a': 1}, {'a': True, 'b': 2}, {}, None):
        registry.queue_bind('q', 'e', 'k', table, True)(())
    assert [binding.arguments for binding in registry.bindings('queue')] == [
        {'a': 1, 'b': 2},
        {'a': True, 'b': 2},
        None,
    ]
    registry.queue_unbind('q', 'e', 'k', {'b': 2, 'a': 1})(())
    registry.queue_unbind('q', 'e', 'k', {})(())
    assert [binding.arguments for binding in registry.bindings('queue')] == [{'a': True, 'b': 2}]
    with pytest.raises(exceptions.EncodeError, match=r"\['a'\]"):
        registry.queue_bind('q', 'e', 'k', {'a': object()}, True)
    with pytest.raises(exceptions.EncodeError, match='table'):
        arguments_key([1])  # type: ignore[arg-type]


def test_a_deleted_queue_takes_its_bindings_and_an_exchange_those_on_both_sides(registry: TopologyRegistry) -> None:
    for name in 'abc':
        exchange(registry, name)
    for name in 'qr':
        queue(registry, name)
        registry.queue_bind(name, 'b', '', None, True)(())
    registry.exchange_bind('b', 'a', '', None, True)(())
    registry.exchange_bind('c', 'b', '', None, True)(())
    assert names(registry) == ['a', 'b', 'c', 'a>b', 'b>c', 'q', 'r', 'b>q', 'b>r']
    registry.queue_delete('q')(())
    assert names(registry) == ['a', 'b', 'c', 'a>b', 'b>c', 'r', 'b>r']
    registry.exchange_delete('b')(())
    assert names(registry) == ['a', 'c', 'r']


def test_three_levels_of_auto_delete_go_with_the_last_consumer(registry: TopologyRegistry) -> None:
    """Each exchange goes with its last binding, and that with the queue or exchange it leads to."""
    for name in 'ab':
        exchange(registry, name, auto_delete=True)
    queue(registry, 'q', auto_delete=True)
    registry.exchange_bind('b', 'a', '', None, True)(())
    registry.queue_bind('q', 'b', '', None, True)(())
    for tag in 'tu':
        consume(registry, 'q', tag)
    registry.consumer_ended(1, 't')
    assert names(registry) == ['a', 'b', 'a>b', 'q', 'b>q', 'q:u']
    registry.consumer_ended(1, 'u')
    assert registry.topology() == []
    assert repr(registry) == '<TopologyRegistry 0 exchanges, 0 queues, 0 bindings, 0 consumers>'


def test_a_long_chain_of_exchanges_goes_at_once(registry: TopologyRegistry) -> None:
    for number in range(5000):
        exchange(registry, f'{number}', auto_delete=True)
        registry.exchange_bind(f'{number}', f'{number - 1}', '', None, True)(())
    registry.exchange_delete('4999')(())
    assert registry.topology() == []


def test_a_closed_channel_takes_its_consumers_alone(registry: TopologyRegistry) -> None:
    queue(registry, 'q', auto_delete=True)
    queue(registry, 'r', auto_delete=True)
    exchange(registry, 'e')
    consume(registry, 'q')
    consume(registry, 'r', 'u')
    consume(registry, 'r', channel=2)
    registry.channel_closed(1)
    assert names(registry) == ['e', 'r', 'r:t']
    registry.drop_consumers(2)
    assert names(registry) == ['e', 'r']


def test_a_queue_that_was_consumed_before_it_was_declared_goes_with_its_last_consumer(
    registry: TopologyRegistry,
) -> None:
    consume(registry, 'q', 't')
    queue(registry, 'q', auto_delete=True)
    consume(registry, 'q', 'u')
    registry.consumer_ended(1, 'u')
    assert names(registry) == ['q', 'q:t']
    registry.consumer_ended(1, 't')
    assert names(registry) == []


@pytest.mark.parametrize(
    ('how', 'stays'),
    [
        ({'durable': True}, True),
        ({'exclusive': True}, True),
        ({}, False),
        ({'durable': True, 'auto_delete': True}, False),
        ({'exclusive': True, 'auto_delete': True}, False),
    ],
)
@pytest.mark.parametrize('resume', [False, True])
def test_a_consumer_that_the_broker_cancels(how: dict[str, bool], stays: bool, resume: bool) -> None:
    registry = TopologyRegistry(resume)
    queue(registry, 'q', **how)
    record = consume(registry, 'q')
    registry.consumer_cancelled(1, 't')
    registry.consumer_cancelled(1, 'never')
    assert names(registry) == ['q'] * stays + ['q:t'] * resume
    assert (registry.holds(record), record.waiting) == (resume, resume)


def test_a_cancel_for_a_queue_that_has_been_declared_anew_leaves_the_new_one(registry: TopologyRegistry) -> None:
    queue(registry, 'q')
    consume(registry, 'q')
    registry.queue_delete('q')(())
    queue(registry, 'q')
    consume(registry, 'q', 'u')
    registry.consumer_cancelled(1, 't')
    assert names(registry) == ['q', 'q:u']


def test_a_resumed_consumer_counts_for_the_queue_that_was_declared_anew() -> None:
    registry = TopologyRegistry(resume=True)
    queue(registry, 'q', auto_delete=True)
    record = consume(registry, 'q')
    registry.consumer_cancelled(1, 't')
    queue(registry, 'q', auto_delete=True)
    consume(registry, 'q', 'u')
    registry.consumer_started(record)
    registry.consumer_ended(1, 'u')
    assert names(registry) == ['q', 'q:t']
    registry.consumer_ended(1, 't')
    assert names(registry) == []


# -- queues that the broker names ------------------------------------------------------


def test_a_new_name_reaches_bindings_and_consumers(registry: TopologyRegistry) -> None:
    queue(registry, '', 'amq.gen-1')
    record = registry.queue('amq.gen-1')
    assert record is not None
    assert record.request()[1][1] == ''
    for source in 'ab':
        registry.queue_bind('amq.gen-1', source, '', None, True)(())
    consumer = consume(registry, 'amq.gen-1')
    queue(registry, 'last')
    for number in range(2, 6):
        registry.queue_renamed(record, f'amq.gen-{number}')
        assert names(registry) == [
            *(name.format(number) for name in ('amq.gen-{}',)),
            'last',
            *(f'{source}>amq.gen-{number}' for source in 'ab'),
            f'amq.gen-{number}:t',
        ]
        assert consumer.request()[1][1] == f'amq.gen-{number}'
    assert [registry.queue_name(name) for name in ('amq.gen-1', 'amq.gen-4', 'amq.gen-5', 'last', 'never')] == [
        *['amq.gen-5'] * 3,
        'last',
        'never',
    ]
    registry.queue_unbind('amq.gen-5', 'a', '', None)(())
    registry.queue_delete('amq.gen-1')(())  # there is no such queue any more
    assert names(registry) == ['amq.gen-5', 'last', 'b>amq.gen-5', 'amq.gen-5:t']
    registry.queue_delete('amq.gen-5')(())
    assert names(registry) == ['last', 'amq.gen-5:t']
    assert registry.queue_name('amq.gen-1') == 'amq.gen-1'
    registry.queue_renamed(record, 'amq.gen-6')
    assert names(registry) == ['last', 'amq.gen-5:t']


def test_a_queue_of_which_nobody_knows_the_name_is_not_recorded(registry: TopologyRegistry) -> None:
    registry.queue_declare('', False, True, False, None, True)(())  # nowait: there is no reply
    registry.queue_bind('', 'e', '', None, True)(())
    assert registry.consume(1, '', 't', False, False, False, None, 0, True) is None
    assert names(registry) == []


# -- by hand, and at a loss -------------------------------------------------------------


def test_forgetting_by_hand(registry: TopologyRegistry) -> None:
    exchange(registry, 'e', auto_delete=True)
    exchange(registry, 'f')
    queue(registry, 'q')
    registry.exchange_bind('e', 'f', '', None, True)(())
    registry.queue_bind('q', 'e', '', None, True)(())
    consume(registry, 'q')
    consume(registry, 'q', channel=2)
    assert registry.forget('queue', 'q')
    assert names(registry) == ['e', 'f', 'f>e', 'q:t', 'q:t']  # at the broker e still has its binding
    assert registry.forget('exchange', 'e')
    assert names(registry) == ['f', 'q:t', 'q:t']
    assert registry.forget('consumer', 't')
    assert names(registry) == ['f']
    assert not any(registry.forget(kind, name) for kind, name in (('queue', 'q'), ('exchange', 'e'), ('consumer', 't')))
    with pytest.raises(ValueError, match="kind: one of 'exchange', 'queue', 'consumer', not 'que'"):
        registry.forget('que', 'q')


def test_a_consumer_that_was_forgotten_by_hand_still_keeps_its_queue(registry: TopologyRegistry) -> None:
    queue(registry, 'q', auto_delete=True)
    for tag in 'tu':
        consume(registry, 'q', tag)
    registry.forget('consumer', 't')
    registry.consumer_ended(1, 'u')
    assert names(registry) == ['q']
    registry.consumer_ended(1, 't')
    assert names(registry) == []


def test_a_loss_ends_what_is_not_restored(registry: TopologyRegistry) -> None:
    exchange(registry, 'e', auto_delete=True)
    exchange(registry, 'hidden', recover=False)
    queue(registry, 'q')
    queue(registry, 'mine', exclusive=True, recover=False)
    queue(registry, 'ours', durable=True, recover=False)
    for name in ('q', 'mine', 'ours'):
        registry.queue_bind(name, 'e', '', None, True)(())
        consume(registry, name, name)
    registry.queue_bind('q', 'e', 'not', None, False)(())
    consume(registry, 'q', 'not', recover=False)
    registry.connection_lost()
    assert names(registry) == ['e', 'q', 'e>q', 'e>ours', 'q:q', 'mine:mine', 'ours:ours']
    assert repr(registry) == '<TopologyRegistry 1 exchanges, 1 queues, 2 bindings, 3 consumers>'
    registry.connection_lost()
    assert len(names(registry)) == 7


def test_holds_says_what_is_still_to_be_restored(registry: TopologyRegistry) -> None:
    exchange(registry, 'e')
    queue(registry, 'q')
    registry.queue_bind('q', 'e', '', None, True)(())
    consume(registry, 'q')
    records = [*registry.exchanges(), *registry.queues(), *registry.bindings('queue'), *registry.consumers()]
    assert all(map(registry.holds, records))
    assert repr(records) == (
        "[<exchange exchange='e' type='topic'>, <queue queue='q'>, "
        "<binding source='e' destination='q' destination_type='queue'>, "
        "<consumer channel=1 queue='q' consumer_tag='t' prefetch=10>]"
    )
    registry.queue_delete('q')(())
    registry.exchange_delete('e')(())
    registry.consumer_ended(1, 't')
    assert not any(map(registry.holds, records))
    queue(registry, 'q')
    assert not registry.holds(records[1])


# -- what it costs ---------------------------------------------------------------------


@pytest.mark.parametrize('queues', [1, 10_000])
def test_a_consumer_takes_less_than_200_bytes(queues: int) -> None:
    """10,000 on 20 channels: on one queue, or each on one of its own that others have declared."""
    tags = [f'gamqp.{number % 20}.{number}' for number in range(10_000)]  # the consumer has its tag and queue anyway
    names = [f'q{number % queues}' for number in range(10_000)]
    registry = TopologyRegistry()
    tracemalloc.start()
    for number, (tag, name) in enumerate(zip(tags, names, strict=True)):
        consume(registry, name, tag, channel=number % 20, arguments={'x-priority': 5})
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used / 10_000 < 200


def test_memory_does_not_grow_with_what_comes_and_goes(registry: TopologyRegistry) -> None:
    def come_and_go(number: int) -> None:
        name = f'amq.gen-{number}'
        exchange(registry, f'{number}', auto_delete=True)
        queue(registry, '', name, auto_delete=True, arguments={'x-expires': number % (3 * SHARED_ARGUMENTS)})
        registry.queue_bind(name, f'{number}', '', None, True)(())
        consume(registry, name, name)
        record = registry.queue(name)
        assert record is not None
        for again in range(3):
            registry.queue_renamed(record, f'{name}.{again}')
        registry.consumer_ended(1, name)

    for number in range(3000):
        come_and_go(number)
    tracemalloc.start()
    for number in range(3000, 6000):
        come_and_go(number)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert registry.topology() == []
    assert grown < 400_000  # the shared tables of arguments, at most 1000
