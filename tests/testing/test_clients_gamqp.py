"""gamqp on ``gamqp.testing.Broker``: what its users do every day."""

from __future__ import annotations

import pytest

import gamqp
from gamqp import testing


def test_gamqp_publishes_and_iterates(broker: testing.Broker) -> None:
    with gamqp.connect(broker.url) as connection:
        channel = connection.channel()
        channel.queue_declare('q', durable=True, auto_delete=False)
        channel.confirm_select()
        for number in range(100):
            receipt = channel.publish(str(number).encode(), routing_key='q')
        receipt.wait(5)
        got = []
        for message in channel.consume('q', prefetch=10):
            got.append(int(message.body))
            message.ack()
            if len(got) == 100:
                break
        assert got == list(range(100))
        broker.wait_until(lambda: not broker.queue('q').unacked)


def test_gamqp_is_told_of_the_end(broker: testing.Broker) -> None:
    with gamqp.connect(broker.url) as connection:
        channel = connection.channel()
        broker.close(code=320, text='maintenance')
        with pytest.raises(gamqp.exceptions.ConnectionForced, match='maintenance'):
            channel.queue_declare('q', durable=True, auto_delete=False)


def test_gamqp_refused_delayed_and_forgotten(broker: testing.Broker) -> None:
    with gamqp.connect(broker.url, rpc_timeout=0.2) as connection:
        broker.refuse('queue.declare', 406, 'because')
        with pytest.raises(gamqp.exceptions.PreconditionFailed, match='because'):
            connection.channel().queue_declare('q', durable=True, auto_delete=False)
        channel = connection.channel()
        broker.drop_reply('queue.declare')
        with pytest.raises(OSError):
            channel.queue_declare('q', durable=True, auto_delete=False)
        assert broker.queue('q').durable


def test_gamqp_does_not_know_of_a_message_whose_confirm_is_lost(broker: testing.Broker) -> None:
    with gamqp.connect(broker.url) as connection:
        channel = connection.channel()
        channel.queue_declare('q', durable=True, auto_delete=False)
        channel.confirm_select()
        broker.cut_at('basic.publish', handled=True, routing_key='q')
        receipt = channel.publish(b'taken', routing_key='q')
        with pytest.raises(gamqp.RecoverableConnectionError):
            receipt.wait(10)
    broker.assert_messages('q', b'taken')
