"""Which function handles which method on an open channel.

Layer 5, pure. Does not belong here: the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...wire import encode_method, spec
from . import basic_methods, exchange_methods, queue_methods, transactions
from .errors import Refusal

if TYPE_CHECKING:
    from .channel import ServerChannel

__all__ = ('handle', 'handle_closing')


def _open(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    raise Refusal(504, "second 'channel.open' seen")


def _close(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    channel.session.flush_confirms()
    channel.shut()
    channel.closing = True
    channel.session.channels.pop(channel.id, None)
    channel.reply(spec.Channel.CloseOk)


def _nothing(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """An answer that asks for nothing."""


def _access(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    channel.reply(spec.Access.RequestOk, 1)


_HANDLERS: dict[spec.Sig, Callable[[ServerChannel, tuple[Any, ...]], None]] = {
    spec.Channel.Open: _open,
    spec.Channel.Close: _close,
    spec.Channel.CloseOk: _nothing,
    spec.Channel.Flow: basic_methods.flow,
    spec.Channel.FlowOk: _nothing,
    spec.Access.Request: _access,
    spec.Exchange.Declare: exchange_methods.declare,
    spec.Exchange.Delete: exchange_methods.delete,
    spec.Exchange.Bind: exchange_methods.bind,
    spec.Exchange.Unbind: exchange_methods.unbind,
    spec.Queue.Declare: queue_methods.declare,
    spec.Queue.Delete: queue_methods.delete,
    spec.Queue.Purge: queue_methods.purge,
    spec.Queue.Bind: queue_methods.bind,
    spec.Queue.Unbind: queue_methods.unbind,
    spec.Basic.Qos: basic_methods.qos,
    spec.Basic.Consume: basic_methods.consume,
    spec.Basic.Cancel: basic_methods.cancel,
    spec.Basic.CancelOk: _nothing,
    spec.Basic.Get: basic_methods.get,
    spec.Basic.Ack: basic_methods.ack,
    spec.Basic.Nack: basic_methods.nack,
    spec.Basic.Reject: basic_methods.reject,
    spec.Basic.Recover: basic_methods.recover,
    spec.Basic.RecoverAsync: basic_methods.recover_async,
    spec.Confirm.Select: transactions.confirm_select,
    spec.Tx.Select: transactions.select,
    spec.Tx.Commit: transactions.commit,
    spec.Tx.Rollback: transactions.rollback,
}


def handle(channel: ServerChannel, sig: spec.Sig, args: tuple[Any, ...]) -> None:
    """Handle a method without content. Raises a Refusal."""
    handler = _HANDLERS.get(sig)
    if handler is None:
        raise Refusal(503, 'unimplemented method')
    handler(channel, args)


def handle_closing(channel: ServerChannel, sig: spec.Sig) -> None:
    """A method on a channel that the broker has closed: all is ignored until the client has answered."""
    if sig == spec.Channel.CloseOk:
        channel.session.channels.pop(channel.id, None)
    elif sig == spec.Channel.Close:
        channel.session.send(encode_method(channel.id, spec.Channel.CloseOk, ()))
