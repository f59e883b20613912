"""The end of links that nobody closed: their connection was dropped, or the program ends.

Layer 2. What was handed over still goes out, and the broker is told: RabbitMQ
drops what it has not handled when its client hangs up before close-ok. A forked
child, on the other hand, must not say a word on its parent's socket.
"""

from __future__ import annotations

import atexit
import functools
import sys
import time
import weakref
from typing import Any

from .. import exceptions
from ..green import os_threads
from ..green.forking import at_fork
from ..state.lifecycle import Reason
from ..wire import encode_method
from ..wire.spec import Connection as Spec
from .hub_writers import forget_all
from .send_thread import send_thread

__all__ = ('EXIT_SILENCE', 'abandon', 'alive', 'expect_end', 'is_agreed', 'open_links')

# The end of the interpreter waits until every broker has answered, or for so many seconds in
# which none of them takes or says anything, and so many in all.
EXIT_SILENCE = 3.0
EXIT_TOTAL = 20.0

# Seconds that the hubs of other threads, all together, get to begin with it. One that waits for
# something needs a millisecond, one that is held up may need for ever.
OTHERS_PATIENCE = 1.0

# Seconds between two looks at brokers that have not answered yet.
EXIT_LOOK = 0.002

# Seconds that an abandoned link has to send what is left and to hear close-ok.
ABANDON_PATIENCE = 10.0

# When the goodbye is said in a child of multiprocessing: after its queues (-5) and whatever a program may add.
CHILD_PRIORITY = -100

#: The links that are open.
alive: weakref.WeakSet[Any] = weakref.WeakSet()

# Packages that have been asked, in this process, to have the goodbye said at its end.
_asked: set[str] = set()


def open_links() -> list[Any]:
    """Those that are open now. From any thread, while others open and lose connections."""
    # A WeakSet that another thread changes cannot be walked over; the set inside it is copied in one step.
    refs: set[Any] = alive.data.copy()  # type: ignore[attr-defined]
    return [link for ref in refs if (link := ref()) is not None]


def expect_end(link: Any) -> None:
    """It is open: say goodbye for it when the process ends."""
    alive.add(link)
    for package in ('multiprocessing', 'billiard'):
        process, util = sys.modules.get(f'{package}.process'), sys.modules.get(f'{package}.util')
        if process is None or util is None or package in _asked:
            continue
        # Its children end by os._exit, without what atexit knows. Its parents do not, and there we come later.
        if getattr(process.current_process(), '_parent_pid', None) is not None:
            util.Finalize(None, _say_goodbye, exitpriority=CHILD_PRIORITY)
        _asked.add(package)


def abandon(link: Any) -> None:
    """Close a link whose connection was garbage-collected, in the background. Does not switch.

    To be called in the hub's thread; from another one it does nothing.
    """
    if link.reason is not None or link.abandoned or os_threads.get_ident() != link.thread:
        return
    link.abandoned = True
    link.resume()  # nobody is there to catch up
    link.writer.send(encode_method(0, Spec.Close, (200, 'abandoned', 0, 0)))
    error = exceptions.RecoverableConnectionError('the connection was abandoned')
    link.end_after(ABANDON_PATIENCE, functools.partial(link.lose, error))


def is_agreed(events: list[Any]) -> bool:
    """Whether the peer has answered our close, or closes itself."""
    return any(type(event) is tuple and event[1] in (Spec.Close, Spec.CloseOk) for event in events)


class _LinkClose:
    """What is queued on a link, a close, and the wait for the answer."""

    def __init__(self, link: Any) -> None:
        self._transport, self._decoder = link.transport, link.decoder
        link.writer.retire()  # its hub stands still, and the sending thread stays away
        close = encode_method(0, Spec.Close, (200, 'the program has ended', 0, 0))
        self._rest = memoryview(link.writer.leftover() + close)
        self.over = False

    def go_on(self) -> bool:
        """Do what is possible now, without waiting. Returns whether anything went or came."""
        try:
            return self._send() or self._hear()
        except BlockingIOError:
            return False
        except OSError:
            self.over = True  # the peer is gone; there is nobody left to tell
            return True

    def _send(self) -> bool:
        if not (len(self._rest) or self._transport.unsent):
            return False
        self._rest = self._rest[self._transport.send_aside(self._rest) :]
        return True

    def _hear(self) -> bool:
        count = self._transport.recv_into(self._decoder.room())
        self.over = not count or is_agreed(self._decoder.commit(count)) or self._decoder.error is not None
        return True


def _leave(links: list[Any]) -> None:
    """Say goodbye for all these at the same time, blocking the process: in the hub's thread, or after its end."""
    links = [link for link in links if link.reason is None]
    waiting = [_LinkClose(link) for link in links]
    nap = os_threads.Lock()
    nap.acquire()
    begun = silent_since = now = time.monotonic()
    while waiting and now - silent_since < EXIT_SILENCE and now - begun < EXIT_TOTAL:
        moved = [farewell for farewell in waiting if farewell.go_on()]
        waiting = [farewell for farewell in waiting if not farewell.over]
        now = time.monotonic()
        if moved:
            silent_since = now
        elif waiting:
            nap.acquire(timeout=EXIT_LOOK)
    reason = Reason(exceptions.RecoverableConnectionError('the program has ended'), clean=True)
    for link in links:
        if link.thread == os_threads.get_ident():
            link.writer.disown()  # it is sent
            link.end(reason)
        else:
            link.reason = reason  # nobody is left who could be told
            link.transport.disown()


class _CloseInOtherHub:
    """That the hub of another thread, which lives, say goodbye: from here nothing of its may be touched.

    That hub does not run again afterwards. Python ends a daemon thread that asks for the interpreter lock
    while the interpreter is being taken down, by unwinding its stack; that of a hub is pieced
    together by greenlets, and some versions crash over it. So the thread stays where it is.
    """

    def __init__(self, links: list[Any], owner: Any) -> None:
        self._links = links
        self._owner = owner
        self._begun = False
        self._over = os_threads.Lock()
        self._over.acquire()
        owner.call_in_hub_later(self._grant)

    def _grant(self) -> None:
        """In that hub."""
        self._begun = True
        try:
            _leave(self._links)
        finally:
            self._owner.stop_hub()
            for_ever = os_threads.Lock()
            for_ever.acquire()
            self._over.release()
            for_ever.acquire()

    def wait(self, seconds: float) -> None:
        if not self._over.acquire(True, seconds) and self._begun:
            self._over.acquire(True, EXIT_TOTAL)


@atexit.register
def _say_goodbye() -> None:
    """For programs that end without closing. Whoever does not get to say it in time is left as it is."""
    ours: list[Any] = []
    others: dict[int, list[Any]] = {}
    for link in open_links():
        if link.thread == os_threads.get_ident() or link.life() is None:
            ours.append(link)
        elif link.owner() is not None:  # else its hub has said it already
            others.setdefault(link.thread, []).append(link)
    requests = [_CloseInOtherHub(links, links[0].owner()) for links in others.values()]
    _leave(ours)
    until = time.monotonic() + OTHERS_PATIENCE
    for request in requests:
        request.wait(max(0.0, until - time.monotonic()))
    if requests:
        nap = os_threads.Lock()
        nap.acquire()
        nap.acquire(timeout=EXIT_LOOK)  # without the interpreter lock, so that those threads come to their stop
    send_thread.stop()


def _disown_all_after_fork() -> None:
    """A child sends nothing of its parent's, nor stops the watchers they share; who uses the connection is told."""
    send_thread.reset()
    forget_all()
    _asked.clear()
    text = 'the connection belongs to the process that forked this one'
    for link in open_links():
        link.disown(Reason(exceptions.RecoverableConnectionError(text), clean=True))
    alive.clear()


def _send_before_fork() -> None:
    """What was handed over goes out now: the parent may wait for its child. And a fork is safe with one thread only."""
    for link in open_links():
        if link.reason is None:
            link.writer.send_aside()
    send_thread.stop()


at_fork('links', before=_send_before_fork, in_parent=send_thread.resume, in_child=_disown_all_after_fork)
