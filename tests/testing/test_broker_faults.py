"""Faults on demand: each order does what it says, as often as it says, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import inside
import pytest
from conversations import BrokerTalker

from gamqp import testing


@pytest.fixture
def talk(broker: testing.Broker) -> Iterator[BrokerTalker]:
    talk = BrokerTalker(broker, '')
    talk.open(1, 2)
    talk.ask('queue.declare', queue='q', durable=True)
    yield talk
    talk.close()


def names(events: list[Any]) -> list[str]:
    return [name for _, name, _ in events]


def test_refuse_closes_the_channel_as_often_as_it_says(broker: testing.Broker, talk: BrokerTalker) -> None:
    broker.refuse('queue.declare', 405, 'not now', times=2)
    for _ in range(2):
        _, name, values = talk.ask('queue.declare', queue='q', durable=True)[0]
        assert (name, values['reply_code'], values['reply_text']) == ('channel.close', 405, 'RESOURCE_LOCKED - not now')
    assert names(talk.ask('queue.declare', queue='q', durable=True)) == ['queue.declare-ok']


def test_refuse_closes_the_connection(broker: testing.Broker, talk: BrokerTalker) -> None:
    broker.refuse('basic.publish', 541, 'broken')
    talk.publish('', 'q')
    assert names(talk.settle())[0] == 'connection.close'


def test_refuse_a_login(broker: testing.Broker) -> None:
    broker.refuse('connection.open', 530, 'vhost limit')
    talk = BrokerTalker(broker, '')
    talk.open()
    assert talk.record[-1][2]['reply_text'] == 'NOT_ALLOWED - vhost limit'
    talk.close()


def test_delay_holds_one_channel_only(broker: testing.Broker, talk: BrokerTalker) -> None:
    broker.delay('queue.purge', 3600)
    assert names(talk.ask('queue.purge', queue='q')) == []
    assert names(talk.ask('queue.declare', queue='q', durable=True)) == []
    assert names(talk.ask('queue.purge', 2, queue='q')) == ['queue.purge-ok']
    broker.clock.advance(3601, heartbeats=True)
    assert names(talk.settle()) == ['queue.purge-ok', 'queue.declare-ok']


def test_drop_reply_of_a_method_and_of_a_publish(broker: testing.Broker, talk: BrokerTalker) -> None:
    broker.drop_reply('queue.bind')
    assert talk.ask('queue.bind', queue='q', exchange='amq.direct', routing_key='k') == []
    assert ('amq.direct', 'k') in broker.queue('q').bindings
    talk.ask('confirm.select')
    broker.drop_reply('basic.publish')
    talk.publish('', 'q', b'1')
    assert talk.settle() == []
    talk.publish('', 'q', b'2')
    assert [values['delivery_tag'] for _, _, values in talk.settle()] == [2]
    broker.assert_messages('q', b'1', b'2')


def test_a_dropped_confirm_is_not_covered_by_a_later_one(broker: testing.Broker, talk: BrokerTalker) -> None:
    talk.ask('confirm.select')
    broker.drop_reply('basic.publish', routing_key='elsewhere')
    with inside.broker_lock(broker):  # so that the broker handles all of them in one turn
        for key in ('q', 'q', 'elsewhere', 'q', 'q'):
            talk.publish('', key)
    confirms = [(values['delivery_tag'], values['multiple']) for _, _, values in talk.settle()]
    covered = {one for tag, multiple in confirms for one in (range(1, tag + 1) if multiple else (tag,))}
    assert covered == {1, 2, 4, 5}


def test_only_calls_with_certain_arguments(broker: testing.Broker, talk: BrokerTalker) -> None:
    broker.refuse('queue.declare', 406, 'not this one', times=None, queue='bad')
    for _ in range(2):
        assert names(talk.ask('queue.declare', queue='q', durable=True)) == ['queue.declare-ok']
        assert names(talk.ask('queue.declare', queue='bad', durable=True))[0] == 'channel.close'
    broker.drop_reply('basic.publish', routing_key='q')
    talk.ask('confirm.select')
    talk.publish('', 'elsewhere')
    talk.publish('', 'q')
    assert [values['delivery_tag'] for _, _, values in talk.settle()] == [1]
    broker.clear_faults()
    assert names(talk.ask('queue.declare', queue='bad', durable=True)) == ['queue.declare-ok']
    with pytest.raises(ValueError, match=r"queue.declare has no argument 'name'; it has: arguments, auto_delete"):
        broker.delay('queue.declare', 1, name='q')


@pytest.mark.parametrize('handled', [False, True])
def test_cut_when_a_method_arrives(broker: testing.Broker, talk: BrokerTalker, handled: bool) -> None:
    broker.cut_at('queue.declare', handled=handled, queue='new')
    assert names(talk.ask('queue.declare', queue='q', durable=True)) == ['queue.declare-ok']
    talk.send('queue.declare', queue='new', durable=True)
    assert talk.read(5) == [(0, 'the end', {})]
    assert ('new' in broker.queues()) == handled


def test_confirms_are_held_back(broker: testing.Broker, talk: BrokerTalker) -> None:
    broker.hold_confirms()
    talk.ask('confirm.select')
    for number in range(3):
        talk.publish('', 'q', str(number).encode())
        assert talk.settle() == []
    broker.assert_messages('q', b'0', b'1', b'2')
    broker.release_confirms()
    assert talk.settle() == [(1, 'basic.ack', {'delivery_tag': 3, 'multiple': True})]
    talk.publish('', 'q')
    assert names(talk.settle()) == ['basic.ack']


def test_nack_next(broker: testing.Broker, talk: BrokerTalker) -> None:
    talk.ask('confirm.select')
    broker.nack_next(2)
    for number in range(3):
        talk.publish('', 'q', str(number).encode())
    came = talk.settle()
    assert max(values['delivery_tag'] for _, name, values in came if name == 'basic.nack') == 2
    assert [values['delivery_tag'] for _, name, values in came if name == 'basic.ack'] == [3]
    broker.assert_messages('q', b'2')


def test_block_reads_no_more(broker: testing.Broker, talk: BrokerTalker) -> None:
    broker.block('low on disk')
    assert names(talk.ask('queue.declare', queue='q', durable=True)) == ['queue.declare-ok']
    talk.publish('', 'q', b'held')
    talk.send('queue.purge', queue='q')
    while not (came := talk.read(5)):
        pass
    assert came == [(0, 'connection.blocked', {'reason': 'low on disk'})]
    assert broker.connections[0].blocked and not broker.queue('q').messages
    broker.unblock()
    assert names(talk.settle()) == ['connection.unblocked', 'queue.purge-ok']


def test_cut_and_reset(broker: testing.Broker, talk: BrokerTalker) -> None:
    broker.cut(broker.connections[0], reset=True)
    assert talk.read(5) == [(0, 'the end', {})]
    broker.wait_until(lambda: not broker.connections)


def test_cut_in_the_middle_of_a_frame(broker: testing.Broker, talk: BrokerTalker) -> None:
    received = talk.received
    broker.cut(after=7)
    talk.send('queue.purge', queue='q')
    while talk.read(5) != [(0, 'the end', {})]:
        pass
    assert talk.received - received == 7


def test_stall_and_resume(broker: testing.Broker, talk: BrokerTalker) -> None:
    broker.stall()
    talk.send('queue.purge', queue='q')
    assert talk.read(0.05) is None
    broker.resume()
    assert names(talk.settle()) == ['queue.purge-ok']


def test_cancel_a_consumer(broker: testing.Broker, talk: BrokerTalker) -> None:
    talk.ask('basic.consume', queue='q', consumer_tag='a')
    consumer = broker.queue('q').consumers[0]
    broker.cancel(consumer)
    broker.cancel(consumer)
    assert names(talk.settle()) == ['basic.cancel']
    broker.publish('', 'q', b'stays')
    assert talk.settle() == []


def test_close_connection_and_channel(broker: testing.Broker, talk: BrokerTalker) -> None:
    with pytest.raises(LookupError, match='has no channel 9'):
        broker.close_channel(broker.connections[0], 9)
    broker.close_channel(broker.connections[0], 1, 406, 'timed out')
    assert names(talk.settle()) == ['channel.close', 'channel.open-ok']
    broker.close(broker.connections[0])
    assert talk.settle()[0][2]['reply_text'] == 'CONNECTION_FORCED - Closed via management plugin'


def test_flow_and_raw_bytes(broker: testing.Broker, talk: BrokerTalker) -> None:
    broker.flow(broker.connections[0], 1, False)
    assert talk.settle() == [(1, 'channel.flow', {'active': False})]
    broker.send_raw(b'\x08\0\0\0\0\0\0\xce', broker.connections[0])
    talk.settle()
    assert talk.decoder.heartbeats == 1


def test_faults_can_be_forgotten(broker: testing.Broker, talk: BrokerTalker) -> None:
    broker.refuse('queue.purge', 406)
    broker.stall()
    broker.clear_faults()
    assert names(talk.ask('queue.purge', queue='q')) == ['queue.purge-ok']


def test_time_moves_for_queues_and_not_for_heartbeats(broker: testing.Broker) -> None:
    talk = BrokerTalker(broker, '')
    talk.open(1, tune={'channel_max': 5, 'frame_max': 8192, 'heartbeat': 10})
    talk.ask('queue.declare', queue='unused', durable=True, arguments={'x-expires': 60000})
    broker.clock.advance(59)
    assert 'unused' in broker.queues()
    broker.clock.advance(2)
    assert 'unused' not in broker.queues()
    assert len(broker.connections) == 1
    broker.clock.advance(26, heartbeats=True)
    broker.wait_until(lambda: not broker.connections)
    talk.close()


@pytest.mark.parametrize('fetched', [False, True])
def test_a_late_ack_closes_the_channel_before_4_3(fetched: bool) -> None:
    with testing.Broker('3.10', consumer_timeout=60) as broker:
        talk = BrokerTalker(broker, '')
        talk.open(1, 2)
        talk.ask('queue.declare', queue='q', durable=True)
        broker.publish('', 'q', b'x')
        talk.ask('basic.get' if fetched else 'basic.consume', queue='q')
        broker.clock.advance(59)
        assert talk.settle() == []
        broker.clock.advance(2)
        _, name, values = talk.settle()[0]
        assert (name, values['reply_code']) == ('channel.close', 406)
        assert values['reply_text'].startswith(
            'PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 60000 ms.'
        )
        (message,) = broker.queue('q').messages
        assert message.redelivered
        talk.close()


def test_a_late_ack_means_nothing_to_classic_queues_of_4_3(broker: testing.Broker, talk: BrokerTalker) -> None:
    broker.publish('', 'q', b'x')
    talk.ask('basic.consume', queue='q')
    broker.clock.advance(7200)
    assert talk.settle() == [] and len(broker.queue('q').unacked) == 1


def test_a_chain_of_expiries_happens_in_its_order(broker: testing.Broker, talk: BrokerTalker) -> None:
    later = {'x-message-ttl': 10000, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'second'}
    last = {'x-message-ttl': 20000, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'q'}
    talk.ask('queue.declare', queue='first', durable=True, arguments=later)
    talk.ask('queue.declare', queue='second', durable=True, arguments=last)
    broker.publish('', 'first', b'x')
    begun = broker.clock.now()
    broker.clock.advance(3600)
    (message,) = broker.queue('q').messages
    times = [death['time'].timestamp() - begun for death in message.headers['x-death']]
    assert [death['queue'] for death in message.headers['x-death']] == ['second', 'first']
    assert times == [pytest.approx(30, abs=2), pytest.approx(10, abs=2)]
