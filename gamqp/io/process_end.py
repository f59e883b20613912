"""The end of the process: closes links that the program did not close, and what becomes of links at a fork.

Layer 2. What is queued is still sent, followed by connection.close, and the answer is waited for: RabbitMQ
drops messages that it has not handled yet when a client hangs up before close-ok. A forked child, on the other
hand, sends nothing on its parent's sockets. Does not belong here: ``Connection.close``; connections that the program
drops while it goes on (``abandoned``).
"""

from __future__ import annotations

import atexit
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any

from .. import exceptions
from ..green import os_threads
from ..green.forking import at_fork
from ..state.lifecycle import Reason
from ..wire import encode_method
from ..wire.spec import Connection as Spec
from .abandoned import is_agreed
from .send_thread import send_thread
from .send_thread_hubs import forget_all

if TYPE_CHECKING:
    from .link import Link, LinkOwner

__all__ = ('EXIT_SILENCE', 'alive', 'expect_end', 'open_links')

# The end of the interpreter waits until every broker has answered. It gives up after EXIT_SILENCE seconds in
# which no broker took or sent a byte, and after EXIT_TOTAL seconds in any case.
EXIT_SILENCE = 3.0
EXIT_TOTAL = 20.0

# Seconds that the hubs of other threads, all together, get to begin to close their links. A hub that waits needs
# a millisecond, one that is blocked may never begin.
OTHERS_PATIENCE = 1.0

# Seconds between two attempts to send or receive while the brokers have not answered.
EXIT_LOOK = 0.002

# The priority with which links are closed at the end of a child of multiprocessing. Finalizers with a higher one
# run before: those of its queues (-5), and those that a program may add.
CHILD_PRIORITY = -100

#: The links that are open.
alive: weakref.WeakSet[Link] = weakref.WeakSet()

# The packages whose finalizers close the links of this process, as far as they need to.
_prepared: set[str] = set()


def open_links() -> list[Link]:
    """The links that are open now. May be called in any thread, while other threads open and lose connections."""
    # Iterating over a WeakSet fails when another thread changes it. Copying the set inside it is one atomic step.
    refs: set[Any] = alive.data.copy()  # type: ignore[attr-defined]
    return [link for ref in refs if (link := ref()) is not None]


def expect_end(link: Link) -> None:
    """Close this link, which has just been opened, when the process ends. Does not switch."""
    alive.add(link)
    for package in ('multiprocessing', 'billiard'):
        process, util = sys.modules.get(f'{package}.process'), sys.modules.get(f'{package}.util')
        if process is None or util is None or package in _prepared:
            continue
        # Child processes of this package end by os._exit, which calls no atexit functions but these finalizers.
        # In the main process atexit is enough, and comes after the finalizers.
        if getattr(process.current_process(), '_parent_pid', None) is not None:
            util.Finalize(None, _close_open_links, exitpriority=CHILD_PRIORITY)
        _prepared.add(package)


class _LinkClose:
    """Sends what is queued on a link and connection.close, and waits for the answer, without a hub."""

    def __init__(self, link: Link) -> None:
        self._transport, self._decoder = link.transport, link.decoder
        link.writer.retire()  # the hub does not run any more, and from here on the sending thread sends nothing either
        close = encode_method(0, Spec.Close, (200, 'the program has ended', 0, 0))
        self._rest = memoryview(link.writer.leftover() + close)
        self.over = False

    def go_on(self) -> bool:
        """Send and receive what is possible without waiting. Returns whether any byte was sent or received."""
        try:
            return self._send() or self._receive()
        except BlockingIOError:
            return False
        except OSError:
            self.over = True  # the socket is broken, so no answer will come
            return True

    def _send(self) -> bool:
        if not (len(self._rest) or self._transport.unsent):
            return False
        self._rest = self._rest[self._transport.send_without_hub(self._rest) :]
        return True

    def _receive(self) -> bool:
        count = self._transport.recv_into(self._decoder.room())
        self.over = not count or is_agreed(self._decoder.commit(count)) or self._decoder.error is not None
        return True


def _close_all(links: list[Link]) -> None:
    """Close all these links at the same time, and block this thread until their brokers have answered.

    To be called in the thread of their hub, or when that thread has ended.
    """
    # No hub runs here, so each link is tried again every EXIT_LOOK seconds.
    links = [link for link in links if link.reason is None]
    waiting = [_LinkClose(link) for link in links]
    nap = os_threads.Lock()
    nap.acquire()
    begun = silent_since = now = time.monotonic()
    while waiting and now - silent_since < EXIT_SILENCE and now - begun < EXIT_TOTAL:
        moved = [closing for closing in waiting if closing.go_on()]
        waiting = [closing for closing in waiting if not closing.over]
        now = time.monotonic()
        if moved:  # at least one broker takes or sends bytes: go on waiting
            silent_since = now
        elif waiting:
            nap.acquire(timeout=EXIT_LOOK)
    reason = Reason(exceptions.RecoverableConnectionError('the program has ended'), clean=True)
    for link in links:
        if link.thread == os_threads.get_ident():
            link.writer.disown()  # what it had queued has been sent by _LinkClose
            link.end(reason)
        else:
            link.reason = reason  # the greenlets that waited for this link ended with their thread
            link.transport.disown()


class _CloseInOtherHub:
    """Has the running hub of another thread close its links: no other thread may touch what belongs to that hub.

    The hub does not run again afterwards. A daemon thread that asks for the interpreter lock while the interpreter
    is being taken down is ended by Python, which unwinds its stack. The stack of a hub's thread consists of parts
    of several greenlets, and some versions of Python crash when they unwind it. So that thread waits for ever.
    """

    def __init__(self, links: list[Link], owner: LinkOwner) -> None:
        self._links = links
        self._owner = owner
        self._begun = False
        self._over = os_threads.Lock()
        self._over.acquire()
        owner._affinity.call_later(self._close)

    def _close(self) -> None:
        """Runs in that hub, and does not return."""
        self._begun = True
        try:
            _close_all(self._links)
        finally:
            # Calls of other threads that wait for this hub get an error instead of waiting for ever.
            self._owner._affinity.stop_hub()
            for_ever = os_threads.Lock()
            for_ever.acquire()
            self._over.release()
            for_ever.acquire()

    def wait(self, seconds: float) -> None:
        """Wait until the links are closed: at most so many seconds if that has not begun by then, else EXIT_TOTAL."""
        if not self._over.acquire(True, seconds) and self._begun:
            self._over.acquire(True, EXIT_TOTAL)


@atexit.register
def _close_open_links() -> None:
    """Close what the program has left open. Links of a hub that does not answer in time are left as they are."""
    ours: list[Link] = []
    others: dict[int, tuple[list[Link], LinkOwner]] = {}
    for link in open_links():
        if link.thread == os_threads.get_ident() or link.life() is None:
            ours.append(link)
        elif (owner := link.owner()) is not None:  # without one, the hub has sent close already, see abandoned
            others.setdefault(link.thread, ([], owner))[0].append(link)
    requests = [_CloseInOtherHub(links, owner) for links, owner in others.values()]
    _close_all(ours)
    until = time.monotonic() + OTHERS_PATIENCE
    for request in requests:
        request.wait(max(0.0, until - time.monotonic()))
    if requests:
        nap = os_threads.Lock()
        nap.acquire()
        nap.acquire(timeout=EXIT_LOOK)  # releases the interpreter lock, so that those threads reach their final wait
    send_thread.stop()


def _disown_all_after_fork() -> None:
    """In a forked child: end every link without touching socket and hub.

    Later use of the connection raises this error.
    """
    send_thread.reset()
    forget_all()
    _prepared.clear()
    text = 'the connection belongs to the process that forked this one'
    for link in open_links():
        link.disown(Reason(exceptions.RecoverableConnectionError(text), clean=True))
    alive.clear()


def _send_before_fork() -> None:
    """Before a fork: send what is queued, since the parent may block until its child ends. End the sending thread."""
    for link in open_links():
        if link.reason is None:
            link.writer.send_without_hub()
    send_thread.stop()


at_fork('links', before=_send_before_fork, in_parent=send_thread.resume, in_child=_disown_all_after_fork)
