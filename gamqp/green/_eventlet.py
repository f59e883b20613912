"""eventlet behind the verbs of ``gamqp.green``: the same behaviour as ``_gevent``.

Sockets are the operating system's own, non-blocking, and every wait is a
listener of the hub, so it makes no difference what eventlet has patched.
"""

from __future__ import annotations

import functools
import os
import posix  # what os.read and os.write are before eventlet patches them
import sys
import weakref
from collections.abc import Callable
from typing import Any

import eventlet
import eventlet.green.socket
import eventlet.greenthread
import eventlet.hubs
import eventlet.patcher
import eventlet.tpool
from eventlet.hubs import get_hub as hub

from .forking import at_fork
from .os_threads import get_ident
from .waiting import Slot

# Its names come from the standard library's socket at run time, which type checkers do not see.
_socket: Any = eventlet.green.socket

__all__ = (
    'NAME',
    'PATCH',
    'Doorbell',
    'FailureLink',
    'Readiness',
    'call_later',
    'getaddrinfo',
    'gethostbyaddr',
    'hub',
    'in_thread',
    'kill',
    'run_soon',
    'sleep',
    'socket_class',
    'spawn',
    'switch_out',
    'unpatched',
)

NAME = 'eventlet'
PATCH = 'eventlet.monkey_patch()'
_SELF = sys.modules[__name__]  # what a Slot takes for its backend

spawn = eventlet.spawn
sleep = eventlet.sleep


def kill(greenlet: Any) -> None:
    hub().schedule_call_global(0, _throw, greenlet)


def _throw(greenlet: Any) -> None:
    if not greenlet.dead:  # thrown into a dead one, GreenletExit would come out in the hub
        greenlet.throw()


def run_soon(fn: Callable[..., Any], *args: Any) -> None:
    hub().schedule_call_global(0, fn, *args)


def call_later(seconds: float, fn: Callable[[], Any]) -> Any:
    return hub().schedule_call_global(seconds, fn)


def switch_out() -> None:
    hub().switch()


def unpatched() -> list[str]:
    """What still blocks the whole thread in this process, of what handlers use."""
    names = {'time.sleep': 'time', 'socket': 'socket'}
    return [name for name, module in names.items() if not eventlet.patcher.is_monkey_patched(module)]


def getaddrinfo(host: str, port: int) -> list[Any]:
    addresses: list[Any] = _socket.getaddrinfo(host, port, 0, _socket.SOCK_STREAM)
    return addresses


def gethostbyaddr(address: str) -> Any:
    return _socket.gethostbyaddr(address)


def in_thread(fn: Callable[..., Any], *args: Any) -> Any:
    """Call fn in a thread of the operating system; only the calling greenlet waits for its result."""
    return eventlet.tpool.execute(fn, *args)


def socket_class() -> Any:
    original: Any = eventlet.patcher.original('socket')
    return original.socket


class Readiness:
    """Waits for one file descriptor: its reader in a greenlet, its writer by a callback.

    After ``close`` a waiting reader wakes with False and the callback is never called.
    """

    __slots__ = ('_closed', '_fd', '_slot', '_thread', '_waiting', '_writer')

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._slot: Slot | None = None
        self._waiting: Any = None
        self._writer: Any = None
        self._thread = get_ident()
        self._closed = False

    def wait_readable(self, timeout: float | None = None) -> bool:
        """Whether there is something to read; False after *timeout* seconds or ``close``. Switches."""
        return self._wait(hub().READ, timeout)

    def wait_writable(self, timeout: float | None = None) -> bool:
        """The same for room to write; only used while nothing is watched, i.e. to connect."""
        return self._wait(hub().WRITE, timeout)

    def _wait(self, kind: str, timeout: float | None) -> bool:
        if self._closed:
            return False
        slot = self._slot = Slot(_SELF)
        self._waiting = self._listen(kind, lambda fd: slot.fire(True))
        try:
            return slot.wait(timeout) and slot.result()
        finally:
            self._slot = None
            self._forget_waiting()

    def _forget_waiting(self) -> None:
        if self._waiting is not None:
            hub().remove(self._waiting)
            self._waiting = None

    def _listen(self, kind: str, fn: Callable[[int], Any]) -> Any:
        return hub().add(kind, self._fd, fn, _ignore, _ignore)

    def watch_writable(self, fn: Callable[[], Any]) -> None:
        """Call fn in the hub whenever there is room to write, until ``unwatch_writable``."""
        if not self._closed and self._writer is None:
            self._writer = self._listen(hub().WRITE, lambda fd: fn())

    def unwatch_writable(self) -> None:
        if self._writer is not None:
            hub().remove(self._writer)
            self._writer = None

    def close(self) -> None:
        """Stop everything; must come before the descriptor itself is closed. Does not switch.

        From another thread, the hub's being gone (or in the process that forked this one), it touches nothing.
        """
        if self._closed:
            return
        self._closed = True
        if get_ident() != self._thread:
            return
        # Now, not when the waiter wakes: by then the descriptor may be somebody else's.
        self._forget_waiting()
        self.unwatch_writable()
        if self._slot is not None:
            self._slot.succeed(False)


def _ignore(*exc_info: object) -> None:
    """eventlet calls it when it finds the descriptor closed; we close it only after the listeners are gone."""


class FailureLink:
    """Calls *fn* when *greenlet* has been killed or has ended by an error; not when it returned.

    fn: a method, whose object is not kept; it must neither switch nor raise. A greenlet
    that is no GreenThread tells nobody of its end: then nothing is called.
    """

    __slots__ = ('_fn', '_greenlet')

    def __init__(self, greenlet: Any, fn: Callable[[], Any]) -> None:
        self._greenlet = weakref.ref(greenlet)
        self._fn = weakref.WeakMethod(fn)
        if isinstance(greenlet, eventlet.greenthread.GreenThread):
            greenlet.link(self)

    def __call__(self, greenlet: Any) -> None:
        """In that greenlet, as the last thing it does."""
        fn = self._fn()
        try:
            greenlet.wait()  # its result is there already
        except BaseException:
            if fn is not None:
                fn()

    def cancel(self) -> None:
        """Call nothing. Does not switch."""
        greenlet = self._greenlet()
        if isinstance(greenlet, eventlet.greenthread.GreenThread):
            greenlet.unlink(self)


class Doorbell:
    """Has the hub of this thread call *fn* after ``ring``. Several rings may be one call. For as long as the hub is.

    fn: a method, whose object is to keep the bell, and is not kept by it. A pipe:
    eventlet has nothing else that wakes a hub from another thread.
    """

    is_cut = False  # eventlet destroys no hubs

    def __init__(self, fn: Callable[[], Any]) -> None:
        self._ends = os.pipe()
        for end in self._ends:
            os.set_blocking(end, False)
        hub().add(hub().READ, self._ends[0], functools.partial(_heard, weakref.WeakMethod(fn)), _ignore, _ignore)
        weakref.finalize(self, _close_all, self._ends).atexit = False
        _bells.add(self)

    def ring(self) -> None:
        """From any thread; does not switch."""
        try:
            posix.write(self._ends[1], b'.')
        except BlockingIOError:
            pass  # the hub has not heard the last thousands

    def _renew(self) -> None:
        """In a forked child: under the same numbers a pipe of its own, to take nothing from its parent."""
        ends = os.pipe()
        for mine, theirs in zip(ends, self._ends, strict=True):
            os.set_blocking(mine, False)
            os.dup2(mine, theirs, inheritable=False)
            os.close(mine)


def _heard(ref: weakref.WeakMethod[Callable[[], Any]], fd: int) -> None:
    try:
        posix.read(fd, 4096)
    except BlockingIOError:
        pass
    fn = ref()
    if fn is not None:
        fn()


def _close_all(ends: tuple[int, int]) -> None:
    """A bell is gone, and with it whoever could ring; who could hear it has ended, or has another hub by now."""
    for end in ends:
        os.close(end)


_bells: weakref.WeakSet[Doorbell] = weakref.WeakSet()


def _renew_all_after_fork() -> None:
    for bell in list(_bells):
        bell._renew()


at_fork('wakeups', in_child=_renew_all_after_fork)
