"""Class tx: publishes and acks that take effect together.

Layer 5, pure. Does not belong here: confirms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...wire import spec
from .errors import precondition_failed, undeliverable
from .publishing import Publish, PublishConfirms, carry_out
from .queue import Outcome, Queue

if TYPE_CHECKING:
    from .channel import Delivery, ServerChannel

__all__ = ('Transaction', 'commit', 'confirm_select', 'rollback', 'select')


class Transaction:
    """What waits for the commit."""

    def __init__(self) -> None:
        self.publishes: list[Publish] = []
        self.outcomes: list[tuple[Outcome, list[Delivery]]] = []

    def settled(self) -> list[Delivery]:
        """The deliveries whose ack waits for the commit."""
        return [delivery for _, deliveries in self.outcomes for delivery in deliveries]


def select(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """tx.select"""
    if channel.confirms is not None:
        raise precondition_failed('cannot switch from confirm to tx mode')
    if channel.transaction is None:
        channel.transaction = Transaction()
    channel.reply(spec.Tx.SelectOk)


def commit(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """tx.commit"""
    transaction = _transaction(channel)
    channel.transaction = Transaction()
    publishes: list[Publish] = []
    lost = None
    for one in transaction.publishes:
        lost = _look_up_again(channel, one)
        if lost is not None:
            break  # RabbitMQ has carried out what stands before it
        publishes.append(one)
    # What goes back to the client goes before what queues deliver.
    publishes.sort(key=lambda one: bool(one.queues))
    accepted = [carry_out(channel, publish) for publish in publishes]
    if lost is not None:
        raise undeliverable(lost.name, channel.vhost.name)
    for outcome, deliveries in transaction.outcomes:
        channel.settle(deliveries, outcome)
    if not all(accepted):
        raise precondition_failed('partial tx completion')
    channel.reply(spec.Tx.CommitOk)


def _look_up_again(channel: ServerChannel, publish: Publish) -> Queue | None:
    """Find the queues of a publish as they are at its commit. Returns one that is gone where that is an error."""
    now = channel.vhost.queues
    if channel.server.version.commits_to_names:
        publish.queues = [now[queue.name] for queue in publish.queues if queue.name in now]
        return None
    # A classic queue that has taken the place of a deleted one is not that one, other kinds are.
    replaced = [queue if queue.kind == 'classic' else now.get(queue.name, queue) for queue in publish.queues]
    gone = [queue for queue in publish.queues if queue.name not in now]
    publish.queues = replaced
    return gone[0] if gone else None


def rollback(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """tx.rollback: acks are undone, the messages stay with the consumers."""
    transaction = _transaction(channel)
    channel.transaction = Transaction()
    again = {delivery.tag: delivery for delivery in transaction.settled()}
    channel.unacked = dict(sorted({**channel.unacked, **again}.items()))
    channel.reply(spec.Tx.RollbackOk)


def _transaction(channel: ServerChannel) -> Transaction:
    if channel.transaction is None:
        raise precondition_failed('channel is not transactional')
    return channel.transaction


def confirm_select(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """confirm.select"""
    if channel.transaction is not None:
        raise precondition_failed('cannot switch from tx to confirm mode')
    if channel.confirms is None:
        channel.confirms = PublishConfirms()
    if not args[0]:
        channel.reply(spec.Confirm.SelectOk)
