"""The backend for eventlet, see ``gamqp.green``; it behaves as ``_gevent`` does.

Layer 2. Sockets are the operating system's own and do not block, and every wait uses a listener of the hub, so it
makes no difference what eventlet has patched. Does not belong here: what is waited for.
"""

from __future__ import annotations

import functools
import os
import posix  # has read and write as they are in os before eventlet patches them
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
    'KEEPS_WATCHER',
    'NAME',
    'PATCH',
    'FailureLink',
    'HubWakeup',
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

KEEPS_WATCHER = False  # ``Readiness`` keeps one for its reader, and takes *wake*
NAME = 'eventlet'
PATCH = 'eventlet.monkey_patch()'
NO_GREENDNS = 'EVENTLET_NO_GREENDNS'  # a variable of the environment, which eventlet reads when it is imported
_SELF = sys.modules[__name__]  # the backend argument of a Slot

spawn = eventlet.spawn
sleep = eventlet.sleep


def kill(greenlet: Any) -> None:
    hub().schedule_call_global(0, _throw, greenlet)


def _throw(greenlet: Any) -> None:
    if not greenlet.dead:  # a dead one would raise GreenletExit here, in the hub
        greenlet.throw()


def run_soon(fn: Callable[..., Any], *args: Any) -> None:
    hub().schedule_call_global(0, fn, *args)


def call_later(seconds: float, fn: Callable[[], Any]) -> Any:
    return hub().schedule_call_global(seconds, fn)


def switch_out() -> None:
    hub().switch()


def unpatched() -> list[str]:
    """Which of these are not patched in this process, and block the whole thread."""
    names = {'time.sleep': 'time', 'socket': 'socket'}
    return [name for name, module in names.items() if not eventlet.patcher.is_monkey_patched(module)]


def _original_socket() -> Any:
    return eventlet.patcher.original('socket')


def getaddrinfo(host: str, port: int) -> list[Any]:
    call = _socket.getaddrinfo
    if os.environ.get(NO_GREENDNS, '').lower() == 'yes':
        # eventlet's own resolver is turned off: this is the standard library's function, which blocks the hub.
        call = functools.partial(in_thread, _original_socket().getaddrinfo)
    addresses: list[Any] = call(host, port, 0, _socket.SOCK_STREAM)
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
    """Waits for one file descriptor: to read in a greenlet, to write by a callback.

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

    def wait_readable(self, timeout: float | None = None, wake: None = None) -> bool:
        """Wait until there is something to read. False after *timeout* seconds or ``close``. Switches."""
        return self._wait(hub().READ, timeout)

    def wait_writable(self, timeout: float | None = None) -> bool:
        """The same for room to write; not while ``watch_writable`` is in effect. Used to connect."""
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
        """Call *fn* in the hub whenever there is room to write, until ``unwatch_writable``. Does not switch."""
        if not self._closed and self._writer is None:
            self._writer = self._listen(hub().WRITE, lambda fd: fn())

    def unwatch_writable(self) -> None:
        if self._writer is not None:
            hub().remove(self._writer)
            self._writer = None

    def close(self) -> None:
        """Stop all waiting; to be called before the descriptor is closed. Does not switch.

        In another thread than the hub's the hub is left alone: that thread has ended, or is not in this process.
        """
        if self._closed:
            return
        self._closed = True
        if get_ident() != self._thread:
            return
        # Now, not when the waiting greenlet wakes: by then another socket may have the same descriptor.
        self._forget_waiting()
        self.unwatch_writable()
        if self._slot is not None:
            self._slot.succeed(False)


def _ignore(*exc_info: object) -> None:
    """For eventlet to call when a descriptor was closed. gamqp removes the listeners before it closes one."""


class FailureLink:
    """Calls *fn* when *greenlet* has been killed or has ended by an error; not when it returned.

    fn: a method, held weakly; it must neither switch nor raise. The end of a greenlet that is no
    GreenThread cannot be noticed: then nothing is called.
    """

    __slots__ = ('_fn', '_greenlet')

    def __init__(self, greenlet: Any, fn: Callable[[], Any]) -> None:
        self._greenlet = weakref.ref(greenlet)
        self._fn = weakref.WeakMethod(fn)
        if isinstance(greenlet, eventlet.greenthread.GreenThread):
            greenlet.link(self)

    def __call__(self, greenlet: Any) -> None:
        """Called in that greenlet when it ends."""
        fn = self._fn()
        try:
            greenlet.wait()  # does not wait: the result is there already
        except BaseException:
            if fn is not None:
                fn()

    def cancel(self) -> None:
        """Call nothing. Does not switch."""
        greenlet = self._greenlet()
        if isinstance(greenlet, eventlet.greenthread.GreenThread):
            greenlet.unlink(self)


class HubWakeup:
    """Lets other threads have the hub of this thread call *fn*, by ``send``. Several sends may cause one call.

    fn: a method, held weakly. Its object must hold this one, whose end stops the calls.
    It is a pipe: eventlet has no other way to wake a hub from another thread.
    """

    is_gone = False  # eventlet destroys no hubs

    def __init__(self, fn: Callable[[], Any]) -> None:
        self._ends = os.pipe()
        for end in self._ends:
            os.set_blocking(end, False)
        hub().add(hub().READ, self._ends[0], functools.partial(_call, weakref.WeakMethod(fn)), _ignore, _ignore)
        weakref.finalize(self, _close_pipe, self._ends).atexit = False
        _wakeups.add(self)

    def send(self) -> None:
        """Have the hub call fn. In any thread; does not switch."""
        try:
            posix.write(self._ends[1], b'.')
        except BlockingIOError:
            pass  # the pipe is full of bytes that the hub has still to read, and then it calls fn

    def _renew(self) -> None:
        """In a forked child: put a new pipe under the same descriptors.

        The child would read bytes meant for the parent.
        """
        ends = os.pipe()
        for new, inherited in zip(ends, self._ends, strict=True):
            os.set_blocking(new, False)
            os.dup2(new, inherited, inheritable=False)
            os.close(new)


def _call(ref: weakref.WeakMethod[Callable[[], Any]], fd: int) -> None:
    try:
        posix.read(fd, 4096)
    except BlockingIOError:
        pass
    fn = ref()
    if fn is not None:
        fn()


def _close_pipe(ends: tuple[int, int]) -> None:
    """The HubWakeup was garbage-collected, so nothing can call ``send`` any more."""
    for end in ends:
        os.close(end)


_wakeups: weakref.WeakSet[HubWakeup] = weakref.WeakSet()


def _renew_all_after_fork() -> None:
    for wakeup in list(_wakeups):
        wakeup._renew()


at_fork('wakeups', in_child=_renew_all_after_fork)
