"""A connection that the program has dropped without closing it: its link is closed all the same.

Layer 2. The garbage collector may drop a connection at any moment, in any thread. connection.close is sent behind what
is queued, and the answer is waited for, since RabbitMQ drops messages that it has not handled yet when a client hangs
up before close-ok. Does not belong here: links that are open when the process ends (``process_end``).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from .. import exceptions
from ..green import os_threads
from ..wire import encode_method
from ..wire.spec import Connection as Spec

if TYPE_CHECKING:
    from .link import Link

__all__ = ('abandon', 'is_agreed')

# Seconds that the link of a collected connection gets to send what is queued and to receive close-ok.
PATIENCE = 10.0


def abandon(link: Link) -> None:
    """Send close for a link whose connection was garbage-collected; the link ends later. Does not switch.

    Does nothing in another thread than that of the link's hub.
    """
    if link.reason is not None or link.abandoned or os_threads.get_ident() != link.thread:
        return
    # Set before anything is sent: the reader and the heartbeat greenlet both call this when they find no owner.
    link.abandoned = True
    link.resume()  # the reader paused for the program to take messages, which it will not do any more
    link.writer.send(encode_method(0, Spec.Close, (200, 'abandoned', 0, 0)))
    error = exceptions.RecoverableConnectionError('the connection was abandoned')
    # A timer and not a wait: the garbage collector may be the caller, and it must not switch greenlets.
    link.end_after(PATIENCE, functools.partial(link.lose, error))


def is_agreed(events: list[Any]) -> bool:
    """Whether these events hold close-ok, or the peer's own close."""
    return any(type(event) is tuple and event[1] in (Spec.Close, Spec.CloseOk) for event in events)
