"""What is known of queues, and which calls are refused for it, by the version of the broker."""

from __future__ import annotations

from typing import Any

import pytest

from gamqp import exceptions
from gamqp.state.queue_types import REMEMBERED, QueueTypes

STREAM = {'x-queue-type': 'stream'}
QUORUM = {'x-queue-type': 'quorum'}
VERSIONS = [(), (3, 10), (3, 13), (4, 2), (4, 3)]


def known(version: tuple[int, ...]) -> QueueTypes:
    types = QueueTypes(version)
    types.declare('s', STREAM)
    types.declare('q', QUORUM)
    types.declare('c', {'x-queue-type': 'classic'})
    return types


def consume(types: QueueTypes, queue: str, **arguments: Any) -> None:
    types.check_consume(
        **{'queue': queue, 'no_ack': False, 'prefetch': 5, 'channel_limit': False, 'arguments': None, **arguments}
    )


@pytest.mark.parametrize('version', VERSIONS, ids=str)
def test_a_call_is_refused_only_to_a_type_that_does_not_know_it(version: tuple[int, ...]) -> None:
    types = known(version)
    for queue in ('q', 'c', 'unknown', ''):
        types.check_get(queue)
        types.check_purge(queue)
        consume(types, queue, prefetch=0)
        consume(types, queue, no_ack=True)
        consume(types, queue, arguments={'x-priority': 5})
    for queue in ('s', 'c', 'unknown', ''):
        types.check_delete(queue, True, True)
    types.check_delete('q', False, False)
    consume(types, 's')


@pytest.mark.parametrize('version', VERSIONS[1:], ids=str)
def test_what_each_version_of_rabbitmq_refuses(version: tuple[int, ...]) -> None:
    types = known(version)
    for call in (
        lambda: types.check_get('s'),
        lambda: types.check_purge('s'),
        lambda: types.check_delete('q', True, False),
        lambda: types.check_delete('q', False, True),
    ):
        with pytest.raises(exceptions.AMQPNotImplementedError):
            call()
    for wrong in ({'no_ack': True}, {'prefetch': 0}, {'arguments': {'x-priority': 5}}):
        with pytest.raises(ValueError):
            consume(types, 's', **wrong)
    for queue in ('q', 'c'):
        with pytest.raises(ValueError, match='x-stream-offset'):
            consume(types, queue, arguments={'x-stream-offset': 5})


@pytest.mark.parametrize(('version', 'refused'), [((3, 10), True), ((4, 2), True), ((4, 3), False), ((), False)])
def test_a_limit_for_a_channel(version: tuple[int, ...], refused: bool) -> None:
    types = known(version)
    for queue in ('s', 'q'):
        if refused:
            with pytest.raises(exceptions.AMQPNotImplementedError, match='a_global=False'):
                consume(types, queue, channel_limit=True)
        else:
            consume(types, queue, channel_limit=True, prefetch=0)
    consume(types, 'c', channel_limit=True)


def test_a_broker_of_another_make_is_asked_itself() -> None:
    types = known(())
    types.check_get('s')
    types.check_purge('s')
    types.check_delete('q', True, True)
    consume(types, 's', no_ack=True, prefetch=0, arguments={'x-stream-offset': None})
    assert not types.streams_refuse_nack
    assert not types.takes_nack_of_any


@pytest.mark.parametrize(('version', 'refuses'), [((3, 10), True), ((3, 12), True), ((3, 13), False), ((4, 3), False)])
def test_nacks_of_a_stream(version: tuple[int, ...], refuses: bool) -> None:
    types = QueueTypes(version)
    assert types.streams_refuse_nack is refuses
    assert types.takes_nack_of_any is not refuses


def test_what_a_declaration_without_a_type_says() -> None:
    """Since 3.11 a virtual host has a default, which only the broker knows."""
    old, new = QueueTypes((3, 10)), QueueTypes((3, 11))
    for types in (old, new):
        types.declare('x', STREAM)
        types.declare('x', None)
    assert old.type_of('x') == 'classic'
    assert new.type_of('x') == ''


def test_a_queue_that_was_deleted_is_not_known() -> None:
    types = known((4, 3))
    for queue in ('s', 'q', 'c'):
        types.forget(queue)
        assert types.type_of(queue) == ''


def test_a_stream_that_its_messages_show() -> None:
    types = QueueTypes((4, 3))
    types.is_stream('x')
    with pytest.raises(exceptions.AMQPNotImplementedError):
        types.check_get('x')
    types.is_stream('')  # a queue whose name is not known
    types.check_get('')


def test_classic_queues_are_remembered_up_to_a_number() -> None:
    types = QueueTypes((3, 10))
    for number in range(REMEMBERED + 10):
        types.declare(f'reply.{number}', None)
    assert types.type_of('reply.9') == ''
    assert types.type_of('reply.10') == 'classic'
