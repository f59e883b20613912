"""Class queue: declare, delete, purge, bind, unbind.

Layer 5, pure. Does not belong here: what arguments may be, see ``queue_arguments``.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from ...wire import spec
from . import queue_arguments
from .direct_reply import QUEUE as REPLY_QUEUE
from .direct_reply import find_reply_channel
from .errors import (
    Refusal,
    access_refused,
    deprecated,
    not_found,
    precondition_failed,
    queue_label,
    resource_locked,
    text_of,
)
from .exchange_methods import change_binding, check_exclusive, stripped
from .queue import Queue
from .queue_arguments import described

if TYPE_CHECKING:
    from .channel import ServerChannel

__all__ = ('bind', 'declare', 'delete', 'find', 'purge', 'unbind')

Name = str | bytes


def declare(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """queue.declare"""
    _, name, passive, durable, exclusive, auto_delete, nowait, arguments = args
    name = stripped(name)
    if isinstance(name, str) and name.startswith(REPLY_QUEUE):
        if name != REPLY_QUEUE and find_reply_channel(channel.server, name) is None:
            raise no_queue(channel, name)
        counts = (0, 1)
    elif passive:
        if channel.server.version.passive_permission:
            channel.demand('configure', 'queue', name)
        queue = find(channel, name)
        check_exclusive(channel, queue.name)
        counts = (queue.message_count, len(queue.consumers))
    else:
        queue = _declare(channel, name, durable and not exclusive, exclusive, auto_delete, arguments)
        name = queue.name
        counts = (queue.message_count, len(queue.consumers))
    channel.last_queue = name
    if not nowait:
        channel.reply(spec.Queue.DeclareOk, name, *counts)


def _declare(
    channel: ServerChannel, name: Name, durable: bool, exclusive: bool, auto_delete: bool, arguments: dict[Any, Any]
) -> Queue:
    host = channel.vhost
    if not name:
        kind = arguments.get('x-queue-type')
        if kind in ('quorum', 'stream'):
            raise precondition_failed(f'Cannot declare a server-named queue for type rabbit_{kind}_queue')
        name = _server_named(channel)
    elif text_of(name).startswith('amq.') and name not in host.queues:
        raise access_refused(f"queue name '{text_of(name)}' contains reserved prefix 'amq.*'")
    channel.demand('configure', 'queue', name)
    queue = host.queues.get(name)
    if queue is not None:
        _assert_same(channel, queue, durable, exclusive, auto_delete, arguments)
        queue.touch()
        return queue
    exchange = arguments.get('x-dead-letter-exchange')
    if exchange is not None:
        if not isinstance(exchange, (str, bytes)):
            kind = queue_arguments.type_of(exchange)
            label = queue_label(name, host.name)
            raise precondition_failed(f"invalid type '{kind}' for arg 'x-dead-letter-exchange' in {label}")
        channel.demand('read', 'queue', name)
        channel.demand('write', 'exchange', exchange)
    return _make(channel, name, durable, exclusive, auto_delete, arguments)


def _make(
    channel: ServerChannel, name: Name, durable: bool, exclusive: bool, auto_delete: bool, arguments: dict[Any, Any]
) -> Queue:
    host = channel.vhost
    kind = queue_arguments.kind_of(arguments, name, host.name)
    queue_arguments.check(kind, arguments, name, host.name, host.version)
    if kind != 'classic':
        label = queue_label(name, host.name)
        for what, wrong in (('non-durable', not durable), ('exclusive-owner', exclusive), ('auto-delete', auto_delete)):
            if wrong and not (what == 'non-durable' and exclusive):
                raise precondition_failed(f"invalid property '{what}' for {label}")
    elif not durable and not exclusive and channel.server.refuses_deprecated:
        raise deprecated('transient_nonexcl_queues')
    queue = host.add_queue(name, kind, durable, auto_delete, channel.session if exclusive else None, arguments)
    queue.leader = channel.session.node
    return queue


def _server_named(channel: ServerChannel) -> str:
    return 'amq.gen-' + base64.urlsafe_b64encode(channel.server.random_bytes(16)).decode().rstrip('=')


def _assert_same(
    channel: ServerChannel,
    queue: Queue,
    durable: bool,
    exclusive: bool,
    auto_delete: bool,
    arguments: dict[Any, Any],
) -> None:
    if queue.exclusive or exclusive:
        check_exclusive(channel, queue.name)
        if queue.exclusive != exclusive:
            raise resource_locked(
                f'cannot obtain exclusive access to locked {queue.label}. It could be originally declared on another '
                'connection or the exclusive property value does not match that of the original declaration.'
            )
    for what, wanted, current in (
        ('durable', durable, queue.durable),
        ('auto_delete', auto_delete, queue.auto_delete),
    ):
        if wanted != current:
            raise precondition_failed(
                f"inequivalent arg '{what}' for {queue.label}: "
                f"received '{described(wanted)}' but current is '{described(current)}'"
            )
    here, asked = queue.arguments, arguments
    if queue.host.version.message_containers:  # then every queue has the type that it is of by default
        here, asked = {'x-queue-type': queue.kind, **here}, {'x-queue-type': 'classic', **asked}
    elif asked.get('x-queue-type', 'classic') == queue.kind:
        here, asked = {**here, 'x-queue-type': queue.kind}, {**asked, 'x-queue-type': queue.kind}
    names = queue_arguments.compared(queue.host.version)
    queue_arguments.assert_same(queue.label, here, asked, names, queue.kind)


def delete(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """queue.delete; one that is not there counts as deleted."""
    _, name, if_unused, if_empty, nowait = args
    name = stripped(named(channel, name))
    channel.demand('configure', 'queue', name)
    queue = channel.vhost.queues.get(name)
    count = 0
    if queue is not None:
        check_exclusive(channel, name)
        if if_empty and queue.message_count:
            raise precondition_failed(f'{queue.label} not empty')
        if if_unused and len(queue.consumers):
            raise precondition_failed(f'{queue.label} in use')
        count = channel.vhost.delete_queue(queue)
    if not nowait:
        channel.reply(spec.Queue.DeleteOk, count)


def purge(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """queue.purge"""
    _, name, nowait = args
    name = named(channel, name)
    channel.demand('read', 'queue', name)
    queue = find(channel, name)
    check_exclusive(channel, name)
    count = queue.purge()
    if not nowait:
        channel.reply(spec.Queue.PurgeOk, count)


def bind(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """queue.bind"""
    _, name, exchange, key, nowait, arguments = args
    change_binding(channel, True, 'queue', named(channel, name), exchange, _key(channel, name, key), arguments)
    if not nowait:
        channel.reply(spec.Queue.BindOk)


def unbind(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """queue.unbind"""
    _, name, exchange, key, arguments = args
    change_binding(channel, False, 'queue', named(channel, name), exchange, _key(channel, name, key), arguments)
    channel.reply(spec.Queue.UnbindOk)


def named(channel: ServerChannel, name: Name) -> Name:
    """The name of a queue, where '' is the one that the channel declared last."""
    if name:
        return name
    if not channel.last_queue:
        raise not_found('no previously declared queue')
    return channel.last_queue


def _key(channel: ServerChannel, name: Name, key: Name) -> Name:
    return named(channel, name) if not name and not key else key


def find(channel: ServerChannel, name: Name) -> Queue:
    """The queue of that name. Raises a Refusal if it is not there."""
    queue = channel.vhost.queues.get(name)
    if queue is None:
        raise no_queue(channel, name)
    channel.server.check_leader(queue)
    return queue


def no_queue(channel: ServerChannel, name: Name) -> Refusal:
    """The error for a queue that is not there."""
    return not_found(f'no {queue_label(name, channel.vhost.name)}')
