"""The end of links that nobody closed: their connection was dropped, or the program ends.

Layer 2. What was handed over still goes out, and the broker is told: RabbitMQ
drops what it has not handled when its client hangs up before close-ok. A forked
child, on the other hand, must not say a word on its parent's socket.
"""

from __future__ import annotations

import atexit
import functools
import os
import weakref
from typing import Any

from .. import exceptions
from ..green import native
from ..state.lifecycle import Reason
from ..wire import encode_method
from ..wire.spec import Connection as Spec
from .pacemaker import pacemaker

__all__ = ('abandon', 'alive', 'is_agreed')

# Seconds of silence of a peer for which the interpreter waits at its end.
EXIT_PATIENCE = 5.0

# Seconds that an abandoned link has to send what is left and to hear close-ok.
ABANDON_PATIENCE = 10.0

#: The links that are open.
alive: weakref.WeakSet[Any] = weakref.WeakSet()


def abandon(link: Any) -> None:
    """Close a link whose connection was garbage-collected, in the background. Does not switch.

    From another thread than the hub's it does nothing; reader or heartbeat will come here.
    """
    if link.reason is not None or link.abandoned or native.get_ident() != link.thread:
        return
    link.abandoned = True
    link.resume()  # nobody is there to catch up
    link.writer.send(encode_method(0, Spec.Close, (200, 'abandoned', 0, 0)))
    error = exceptions.RecoverableConnectionError('the connection was abandoned')
    link.end_after(ABANDON_PATIENCE, functools.partial(link.lose, error))


def is_agreed(events: list[Any]) -> bool:
    """Whether the peer has answered our close, or closes itself."""
    return any(type(event) is tuple and event[1] in (Spec.Close, Spec.CloseOk) for event in events)


def _farewell(link: Any) -> None:
    """Send what is queued and a close, and wait for the answer, blocking the process. Raises OSError."""
    transport, decoder = link.transport, link.decoder
    link.writer.stop_beating()  # the socket will block now
    transport.block(EXIT_PATIENCE)
    rest = memoryview(link.writer.leftover() + encode_method(0, Spec.Close, (200, 'the program has ended', 0, 0)))
    while len(rest) or transport.unsent:
        rest = rest[transport.send(rest) :]
    while decoder.error is None:
        count = transport.recv_into(decoder.room())
        if not count or is_agreed(decoder.commit(count)):
            break


@atexit.register
def _say_goodbye() -> None:
    """For programs that end without closing."""
    for link in list(alive):
        if link.reason is None:
            try:
                _farewell(link)
            except OSError:
                pass  # the peer is gone; there is nobody left to tell
            link.writer.disown()  # it is sent
            link.end(Reason(exceptions.RecoverableConnectionError('the program has ended'), clean=True))


def _disown_all() -> None:
    """A child sends nothing of its parent's, nor stops the watchers they share; who uses the connection is told."""
    pacemaker.reset()
    text = 'the connection belongs to the process that forked this one'
    for link in list(alive):
        link.disown(Reason(exceptions.RecoverableConnectionError(text)))
    alive.clear()


os.register_at_fork(after_in_child=_disown_all)
