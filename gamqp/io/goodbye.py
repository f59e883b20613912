"""The end of links that nobody closed: their connection was dropped, or the program ends.

Layer 2. What was handed over still goes out, and the broker is told: RabbitMQ
drops what it has not handled when its client hangs up before close-ok. A forked
child, on the other hand, must not say a word on its parent's socket.
"""

from __future__ import annotations

import atexit
import functools
import os
import time
import weakref
from typing import Any

from .. import exceptions
from ..green import native
from ..state.lifecycle import Reason
from ..wire import encode_method
from ..wire.spec import Connection as Spec
from .send_thread import send_thread

__all__ = ('abandon', 'alive', 'is_agreed')

# Seconds of silence of a peer for which the interpreter waits at its end.
EXIT_PATIENCE = 5.0

# Seconds that the hubs of other threads, all together, get to begin with it. One that waits for
# something needs a millisecond, one that is held up may need for ever.
OTHERS_PATIENCE = 1.0

# Seconds that an abandoned link has to send what is left and to hear close-ok.
ABANDON_PATIENCE = 10.0

#: The links that are open.
alive: weakref.WeakSet[Any] = weakref.WeakSet()


def abandon(link: Any) -> None:
    """Close a link whose connection was garbage-collected, in the background. Does not switch.

    To be called in the hub's thread; from another one it does nothing.
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
    link.writer.retire()  # the socket will block now
    transport.block(EXIT_PATIENCE)
    rest = memoryview(link.writer.leftover() + encode_method(0, Spec.Close, (200, 'the program has ended', 0, 0)))
    while len(rest) or transport.unsent:
        rest = rest[transport.send(rest) :]
    while decoder.error is None:
        count = transport.recv_into(decoder.room())
        if not count or is_agreed(decoder.commit(count)):
            break


def _leave(link: Any) -> None:
    """In the thread of the link's hub, or when that has ended."""
    if link.reason is not None:
        return
    try:
        _farewell(link)
    except OSError:
        pass  # the peer is gone; there is nobody left to tell
    reason = Reason(exceptions.RecoverableConnectionError('the program has ended'), clean=True)
    if link.thread == native.get_ident():
        link.writer.disown()  # it is sent
        link.end(reason)
    else:
        link.reason = reason  # nobody is left who could be told
        link.transport.disown()


class _Request:
    """That the hub of another thread, which lives, say goodbye: from here nothing of its may be touched."""

    def __init__(self, link: Any, owner: Any) -> None:
        self._link = link
        self._begun = False
        self._over = native.Lock()
        self._over.acquire()
        owner.leave_word(self._grant)

    def _grant(self) -> None:
        """In that hub, which stands still meanwhile."""
        self._begun = True
        try:
            _leave(self._link)
        finally:
            self._over.release()

    def wait(self, seconds: float) -> None:
        if not self._over.acquire(True, seconds) and self._begun:
            self._over.acquire(True, EXIT_PATIENCE)


@atexit.register
def _say_goodbye() -> None:
    """For programs that end without closing. Whoever does not get to say it in time is left as it is."""
    ours, requests = [], []
    for link in list(alive):
        owner = link.owner()
        if link.thread == native.get_ident() or link.life() is None:
            ours.append(link)
        elif owner is not None:  # else its hub has said it already
            requests.append(_Request(link, owner))
    for link in ours:
        _leave(link)
    until = time.monotonic() + OTHERS_PATIENCE
    for request in requests:
        request.wait(max(0.0, until - time.monotonic()))


def _disown_all() -> None:
    """A child sends nothing of its parent's, nor stops the watchers they share; who uses the connection is told."""
    send_thread.reset()
    text = 'the connection belongs to the process that forked this one'
    for link in list(alive):
        link.disown(Reason(exceptions.RecoverableConnectionError(text)))
    alive.clear()


def _send_before_fork() -> None:
    """What was handed over goes out now: the parent may wait for its child. And a fork is safe with one thread only."""
    for link in list(alive):
        if link.reason is None:
            link.writer.send_aside()
    send_thread.stop()


os.register_at_fork(before=_send_before_fork, after_in_parent=send_thread.resume, after_in_child=_disown_all)
