"""What RabbitMQ usually answers without promising it, so that no scene can ask it again and again.

Does not belong here: what it always answers, see ``scenes``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conversations import BrokerTalker

from gamqp import testing
from gamqp.testing.state.errors import undeliverable


@pytest.fixture
def talk(like: str) -> Iterator[BrokerTalker]:
    with testing.Broker(like) as broker:
        talk = BrokerTalker(broker, '')
        talk.open(1, 2)
        yield talk
        talk.close()


def answers(talk: BrokerTalker, what: str, ch: int | None = None, **args: Any) -> list[Any]:
    """The texts of the errors, and what was asked for of everything else."""
    came = talk.ask(what, ch, **args)
    return [values.get('reply_text') or values.get('body') or name for _, name, values in came]


def test_queues_get_a_message_in_the_order_of_their_names(talk: BrokerTalker) -> None:
    for name in 'bca':
        talk.ask('queue.declare', queue=name, exclusive=True)
        talk.ask('queue.bind', queue=name, exchange='amq.fanout', routing_key='')
        talk.ask('basic.consume', queue=name, consumer_tag=name, no_ack=True)
    talk.publish('amq.fanout', '')
    assert [values['consumer_tag'] for _, _, values in talk.settle()] == ['a', 'b', 'c']


def in_transaction(talk: BrokerTalker, queue: str) -> None:
    """Publish to a queue, which is then deleted."""
    talk.ask('queue.declare', queue=queue, exclusive=True)
    talk.ask('tx.select', 2)
    for key in (queue, 'nowhere'):
        talk.publish('', key, key.encode(), ch=2, mandatory=True)
    talk.ask('queue.delete', queue=queue)


def test_a_commit_whose_queue_is_gone(talk: BrokerTalker, like: str) -> None:
    in_transaction(talk, 'q')
    if like == '3.10':
        assert answers(talk, 'tx.commit', 2) == ['NO_ROUTE', 'NO_ROUTE', 'tx.commit-ok']
        assert [values['body'] for _, name, values in talk.record if name == 'basic.return'] == [b'q', b'nowhere']
    else:
        text = 'RESOURCE_ERROR - failed to deliver message: {not_found,{resource,<<"/">>,queue,<<"q">>}}'
        assert answers(talk, 'tx.commit', 2)[0] == text


@pytest.mark.parametrize(
    ('length', 'text'),
    [
        (8, '{not_found,{resource,<<"/">>,queue,<<"QUEUE">>}}'),
        (9, '{not_found,\n/{resource,<<"/">>,queue,<<"QUEUE">>}}'),
        (15, '{not_found,\n/{resource,<<"/">>,queue,<<"QUEUE">>}}'),
        (16, '{not_found,\n/{resource,<<"/">>,queue,\n/    <<"QUEUE">>}}'),
    ],
)
def test_long_lines_of_an_error_are_broken(length: int, text: str) -> None:
    name = 'q' * length
    expected = text.replace('\n/', '\n' + ' ' * 31).replace('QUEUE', name)
    assert undeliverable(name, '/').reply_text == f'RESOURCE_ERROR - failed to deliver message: {expected}'


def test_a_commit_whose_queue_is_replaced(talk: BrokerTalker, like: str) -> None:
    in_transaction(talk, 'q')
    talk.ask('queue.declare', queue='q', exclusive=True)
    if like == '3.10':
        assert answers(talk, 'tx.commit', 2) == ['NO_ROUTE', 'tx.commit-ok']
        assert answers(talk, 'basic.get', queue='q', no_ack=True) == [b'q']
    else:
        assert answers(talk, 'tx.commit', 2)[:2] == ['NO_ROUTE', 'PRECONDITION_FAILED - partial tx completion']
        assert answers(talk, 'basic.get', queue='q', no_ack=True) == ['basic.get-empty']
