"""What becomes of a connection's things at a loss that is recovered from.

Layer 4. All that belongs to the socket ends in one step, without a switch: calls get ``Lost``, and publishes without
their confirm. What the program holds stays: channels, consumers, iterators. Also run for the socket of an attempt that
has failed. Does not belong here: what becomes of one channel (``recovering_channel``), and what is done next
(``engine``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import TYPE_CHECKING

from .. import exceptions
from ..state.lifecycle import Reason
from .outage import LostCounts

if TYPE_CHECKING:
    from ..connection.connection import Connection

__all__ = ('count_lost', 'end_socket', 'reason_for_waiters')


def count_lost(connection: Connection, unsent: Mapping[int, Sized]) -> LostCounts:
    """What the loss cuts off, counted before it does. unsent: publishes, by channel. Does not switch."""
    channels = list(connection.channels.values())
    return LostCounts(
        receipts=sum(channel.unconfirmed for channel in channels),
        unsent=sum(map(len, unsent.values())),
        unsettled=sum(channel.unsettled for channel in channels),
        calls=len(connection._replies) + sum(len(channel._replies) for channel in channels),
    )


def end_socket(connection: Connection, reason: Reason, in_use: bool) -> None:
    """End what belongs to the present socket, if there is one. Does not switch, never raises.

    in_use: the program has used it; else it is one of an attempt, on which nobody but the engine waits.
    """
    link = connection._link
    if link is not None:
        link.end(reason)  # which comes here by itself; then this does nothing
    connection._while_open.end_socket()
    # The program's event loop has nothing to poll until it asks for the next socket.
    connection._event_queue.forget_loss()
    connection._end_waits(reason_for_waiters(reason) if in_use else reason)


def reason_for_waiters(reason: Reason) -> Reason:
    """What those get who waited for something on that socket."""
    cause = reason.make_error()
    error = exceptions.Lost(str(cause))
    error.__cause__ = cause
    return Reason(error)
