"""The consumers of a channel that read a stream, and what the broker refuses because of them."""

from __future__ import annotations

import pytest

from gamqp import exceptions
from gamqp.state.queue_types import QueueTypes
from gamqp.state.stream_consumers import StreamConsumers
from gamqp.state.unacked import Unacked
from gamqp.wire.spec import Basic

OLD, NEW = (3, 10, 0), (3, 13, 0)


def reading(version: tuple[int, ...], **deliveries: str) -> tuple[StreamConsumers, Unacked]:
    """A channel whose consumer 's' reads a stream. deliveries: t1='s' is delivery 1 to consumer s."""
    consumers, unacked = StreamConsumers(QueueTypes(version)), Unacked()
    consumers.enter('s')
    for tag, consumer in deliveries.items():
        unacked[int(tag[1:])] = (consumer, 0.0)
    return consumers, unacked


def refused(consumers: StreamConsumers, unacked: Unacked, tag: int, multiple: bool = False) -> bool:
    try:
        consumers.check_refusing(unacked, tag, multiple, Basic.Nack)
    except exceptions.AMQPNotImplementedError as error:
        assert f'delivery {tag}: a stream takes nothing back' in str(error)
        return True
    return False


def test_a_delivery_of_a_stream_is_not_refused_and_one_of_another_queue_is():
    consumers, unacked = reading(OLD, t1='s', t2='q')
    assert refused(consumers, unacked, 1)
    assert not refused(consumers, unacked, 2)
    assert refused(consumers, unacked, 3)  # not known: perhaps of a stream whose consumer has ended


def test_a_multiple_is_looked_at_as_a_whole():
    consumers, unacked = reading(OLD, t1='q', t2='s', t3='q')
    assert not refused(consumers, unacked, 1, multiple=True)
    assert refused(consumers, unacked, 3, multiple=True)
    assert refused(consumers, unacked, 0, multiple=True)


def test_what_a_consumer_left_unacked_counts_when_it_has_ended():
    consumers, unacked = reading(OLD, t2='q')
    consumers.leave('s')
    assert not refused(consumers, unacked, 2, multiple=True)
    consumers.check_recovering(7, Basic.Recover)
    consumers.note_left_unacked()
    assert refused(consumers, unacked, 2, multiple=True)
    with pytest.raises(exceptions.AMQPNotImplementedError, match='channel 7 reads a stream'):
        consumers.check_recovering(7, Basic.Recover)


def test_newer_brokers_take_everything():
    consumers, unacked = reading(NEW, t1='s')
    assert not refused(consumers, unacked, 1)
    assert not refused(consumers, unacked, 0, multiple=True)
    consumers.check_recovering(7, Basic.Recover)


def test_a_channel_that_reads_a_stream_is_not_recovered():
    consumers, _ = reading(OLD)
    with pytest.raises(exceptions.AMQPNotImplementedError, match='channel 7 reads a stream'):
        consumers.check_recovering(7, Basic.Recover)
