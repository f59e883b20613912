"""Class exchange: declare, delete, bind, unbind; and the checks that bindings of queues share.

Layer 5, pure. Does not belong here: routing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...wire import spec
from . import queue_arguments
from .errors import (
    Refusal,
    access_refused,
    exchange_label,
    not_found,
    precondition_failed,
    queue_label,
    text_of,
)
from .exchange import Exchange, check_type
from .queue_arguments import described

if TYPE_CHECKING:
    from .channel import ServerChannel

__all__ = ('bind', 'change_binding', 'declare', 'delete', 'stripped', 'unbind')

Name = str | bytes


def declare(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """exchange.declare"""
    _, name, kind, passive, durable, auto_delete, internal, nowait, arguments = args
    name = stripped(name)
    host = channel.vhost
    if passive:
        _not_default(name)
        if channel.server.version.passive_permission:
            channel.demand('configure', 'exchange', name)
        if name not in host.exchanges:
            raise no_exchange(channel, name)
    else:
        _check_type(channel, kind)
        _not_default(name)
        channel.demand('configure', 'exchange', name)
        exchange = host.exchanges.get(name)
        if exchange is None:
            _check_new(channel, name, arguments)
            host.add_exchange(name, kind, durable, auto_delete, internal, arguments)
        else:
            _assert_same(exchange, text_of(kind), durable, auto_delete, internal, arguments)
    if not nowait:
        channel.reply(spec.Exchange.DeclareOk)


def _check_type(channel: ServerChannel, kind: Name) -> None:
    try:
        check_type(kind, channel.server.version)
    except Refusal as refusal:
        if channel.server.version.soft_exchange_type:
            raise precondition_failed(refusal.reply_text.partition(' - ')[2]) from None
        raise


def _check_new(channel: ServerChannel, name: Name, arguments: dict[Any, Any]) -> None:
    if text_of(name).startswith('amq.'):
        raise access_refused(f"exchange name '{text_of(name)}' contains reserved prefix 'amq.*'")
    alternate = arguments.get('alternate-exchange')
    if alternate is None:
        return
    if not isinstance(alternate, (str, bytes)):
        kind = queue_arguments.type_of(alternate)
        label = exchange_label(name, channel.vhost.name)
        raise precondition_failed(f"invalid type '{kind}' for arg 'alternate-exchange' in {label}")
    channel.demand('read', 'exchange', name)
    channel.demand('write', 'exchange', alternate)


def _assert_same(
    exchange: Exchange, kind: str, durable: bool, auto_delete: bool, internal: bool, arguments: dict[Any, Any]
) -> None:
    for what, wanted, current in (
        ('type', kind, exchange.type),
        ('durable', described(durable), described(exchange.durable)),
        ('auto_delete', described(auto_delete), described(exchange.auto_delete)),
        ('internal', described(internal), described(exchange.internal)),
    ):
        if wanted != current:
            raise precondition_failed(
                f"inequivalent arg '{what}' for {exchange.label}: received '{wanted}' but current is '{current}'"
            )
    queue_arguments.assert_same(exchange.label, exchange.arguments, arguments, ('alternate-exchange',))


def delete(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """exchange.delete; one that is not there counts as deleted."""
    _, name, if_unused, nowait = args
    name = stripped(name)
    _not_default(name)
    if text_of(name).startswith('amq.'):
        label = exchange_label(name, channel.vhost.name)
        raise access_refused(f'deletion of system {label} not allowed')
    channel.demand('configure', 'exchange', name)
    exchange = channel.vhost.exchanges.get(name)
    if exchange is not None:
        if if_unused and exchange.bindings:
            raise precondition_failed(f'{exchange.label} in use')
        channel.vhost.delete_exchange(exchange)
    if not nowait:
        channel.reply(spec.Exchange.DeleteOk)


def bind(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """exchange.bind"""
    _, destination, source, key, nowait, arguments = args
    change_binding(channel, True, 'exchange', destination, source, key, arguments)
    if not nowait:
        channel.reply(spec.Exchange.BindOk)


def unbind(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """exchange.unbind"""
    _, destination, source, key, nowait, arguments = args
    change_binding(channel, False, 'exchange', destination, source, key, arguments)
    if not nowait:
        channel.reply(spec.Exchange.UnbindOk)


def change_binding(
    channel: ServerChannel, add: bool, kind: str, destination: Name, source: Name, key: Name, arguments: dict[Any, Any]
) -> None:
    """Add or take away a binding, after all checks. kind: of the destination, 'queue' or 'exchange'."""
    source, destination = stripped(source), stripped(destination)
    host = channel.vhost
    channel.demand('write', kind, destination)
    if kind == 'exchange':
        _not_default(destination)
    _not_default(source)
    channel.demand('read', 'exchange', source)
    exchange = host.exchanges.get(source)
    if exchange is not None:
        channel.demand_topic('read', exchange, key)
    there = destination in (host.queues if kind == 'queue' else host.exchanges)
    if not add:
        if exchange is not None and there:
            if kind == 'queue':
                check_exclusive(channel, destination)
            host.unbind(exchange, kind, destination, key, arguments)
        return
    if exchange is None:
        raise no_exchange(channel, source)
    if not there:
        label = queue_label if kind == 'queue' else exchange_label
        raise not_found(f'no {label(destination, host.name)}')
    if kind == 'queue':
        check_exclusive(channel, destination)
    host.bind(exchange, kind, destination, key, arguments)


def check_exclusive(channel: ServerChannel, name: Name) -> None:
    """Raise a Refusal if the queue belongs to another connection."""
    queue = channel.vhost.queues[name]
    if queue.exclusive and queue.owner is not channel.session:
        raise Refusal(
            405,
            f'cannot obtain exclusive access to locked {queue.label}. It could be originally declared on another '
            'connection or the exclusive property value does not match that of the original declaration.',
        )


def no_exchange(channel: ServerChannel, name: Name) -> Refusal:
    """The error for an exchange that is not there."""
    return not_found(f'no {exchange_label(name, channel.vhost.name)}')


def _not_default(name: Name) -> None:
    if not name:
        raise access_refused('operation not permitted on the default exchange')


def stripped(name: Name) -> Name:
    """A name without line ends, as RabbitMQ takes it."""
    if isinstance(name, bytes):
        return name.replace(b'\n', b'').replace(b'\r', b'')
    return name.replace('\n', '').replace('\r', '') if '\n' in name or '\r' in name else name
