"""The backend for gevent, see ``gamqp.green``. Works whether the process is patched early, late or not at all.

Layer 2. Nothing here depends on monkey-patching: sockets are the operating system's own and do not block,
and every wait uses a watcher of the hub's loop. Does not belong here: what is waited for.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

import gevent
import gevent.monkey
import gevent.socket
from gevent import get_hub as hub
from greenlet import getcurrent

from .os_threads import get_ident
from .waiting import Slot, wakes

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

KEEPS_WATCHER = True  # ``Readiness`` keeps one for its reader, and takes *wake*
NAME = 'gevent'
PATCH = 'gevent.monkey.patch_all()'
_SELF = sys.modules[__name__]  # the backend argument of a Slot

spawn = gevent.spawn
sleep = gevent.sleep


def kill(greenlet: Any) -> None:
    greenlet.kill(block=False)


def run_soon(fn: Callable[..., Any], *args: Any) -> None:
    hub().loop.run_callback(fn, *args)


def switch_out() -> None:
    hub().switch()


class _Timer:
    __slots__ = ('_timer',)

    def __init__(self, seconds: float, fn: Callable[[], Any]) -> None:
        self._timer = hub().loop.timer(seconds)
        # update: after a long callback the loop's stored time is old, and without this the timer would
        # fire early by that difference.
        self._timer.start(fn, update=True)

    def cancel(self) -> None:
        self._timer.close()


call_later = _Timer


def unpatched() -> list[str]:
    """Which of these are not patched in this process, and block the whole thread."""
    names = {'time.sleep': ('time', 'sleep'), 'socket': ('socket', 'socket')}
    return [name for name, place in names.items() if not gevent.monkey.is_object_patched(*place)]


def getaddrinfo(host: str, port: int) -> list[Any]:
    addresses: list[Any] = gevent.socket.getaddrinfo(host, port, 0, gevent.socket.SOCK_STREAM)
    return addresses


def gethostbyaddr(address: str) -> Any:
    return gevent.socket.gethostbyaddr(address)


def in_thread(fn: Callable[..., Any], *args: Any) -> Any:
    """Call fn in a thread of the operating system; only the calling greenlet waits for its result."""
    return hub().threadpool.apply(fn, args)


def socket_class() -> Any:
    return gevent.monkey.get_original('socket', 'socket')


class Readiness:
    """Waits for one file descriptor: to read in a greenlet, to write by a callback.

    After ``close`` a waiting reader wakes with False and the callback is never called.

    A greenlet that waits to read without a timeout is the connection's reader, which comes back each time: its watcher
    stays active between its waits, and switches straight to it.
    """

    __slots__ = ('_closed', '_has_input', '_read', '_reader', '_slot', '_thread', '_watches_input', '_write')

    def __init__(self, fd: int) -> None:
        loop = hub().loop
        self._read = loop.io(fd, 1)
        self._write = loop.io(fd, 2)
        self._slot: Slot | None = None
        self._reader: Any = None  # the greenlet that waits to read without a timeout
        self._has_input = False
        self._watches_input = False  # the watcher is active for that greenlet, which may be somewhere else
        self._thread = get_ident()
        self._closed = False

    def wait_readable(self, timeout: float | None = None, wake: Slot | None = None) -> bool:
        """Wait until there is something to read. False after *timeout* seconds or ``close``. Switches.

        wake: a settled slot; the greenlet that waits there runs at once. Without a timeout only.
        """
        if timeout is not None:
            self._watches_input = False  # the next line takes the watcher over
            return self._wait(self._read, timeout)
        if self._reader is not None:
            raise RuntimeError('two greenlets wait to read from one socket')
        self._reader = getcurrent()
        try:
            if not self._watches_input and not self._closed:
                self._watches_input = True
                self._read.start(self._on_input)
            self._has_input = False
            if wake is not None:
                wake.wake()
            # A loop, because code outside gamqp may switch to this greenlet at any time.
            while not self._has_input and not self._closed:
                switch_out()
        finally:
            self._reader = None
        return not self._closed

    def _on_input(self) -> None:
        if self._reader is not None:
            self._has_input = True
            self._reader.switch()
        else:
            # It does not read at present. The hub would call this in each of its passes.
            self._watches_input = False
            self._read.stop()

    def _wake_reader(self) -> None:
        if self._reader is not None:
            self._reader.switch()

    def wait_writable(self, timeout: float | None = None) -> bool:
        """The same for room to write; not while ``watch_writable`` is in effect. Used to connect."""
        return self._wait(self._write, timeout)

    def _wait(self, watcher: Any, timeout: float | None) -> bool:
        if self._closed:
            return False
        slot = self._slot = Slot(_SELF)
        watcher.start(slot.fire, True)
        try:
            return slot.wait(timeout) and slot.result()
        finally:
            self._slot = None
            if not self._closed:
                watcher.stop()

    def watch_writable(self, fn: Callable[[], Any]) -> None:
        """Call *fn* in the hub whenever there is room to write, until ``unwatch_writable``. Does not switch."""
        if not self._closed:
            self._write.start(fn)

    def unwatch_writable(self) -> None:
        if not self._closed:
            self._write.stop()

    def close(self) -> None:
        """Stop all waiting; to be called before the descriptor is closed. Does not switch.

        In another thread than the hub's the watchers are left alone: that thread has ended, or is not in this process.
        """
        if self._closed:
            return
        self._closed = True
        if get_ident() != self._thread:
            return
        self._read.close()
        self._write.close()
        if self._slot is not None:
            self._slot.succeed(False)
        if self._reader is not None and wakes():
            run_soon(self._wake_reader)


class FailureLink:
    """Calls *fn* in the hub when *greenlet* has been killed or has ended by an error; not when it returned.

    fn: a method, held weakly; it must neither switch nor raise. The end of a greenlet that is no
    gevent.Greenlet cannot be noticed: then nothing is called.
    """

    __slots__ = ('_fn', '_greenlet')

    def __init__(self, greenlet: Any, fn: Callable[[], Any]) -> None:
        self._greenlet = weakref.ref(greenlet)
        self._fn = weakref.WeakMethod(fn)
        if isinstance(greenlet, gevent.Greenlet):
            greenlet.rawlink(self)

    def __call__(self, greenlet: Any) -> None:
        fn = self._fn()
        if fn is not None and (greenlet.exception is not None or isinstance(greenlet.value, gevent.GreenletExit)):
            fn()

    def cancel(self) -> None:
        """Call nothing. Does not switch."""
        greenlet = self._greenlet()
        if isinstance(greenlet, gevent.Greenlet):
            greenlet.unlink(self)


class HubWakeup:
    """Lets other threads have the hub of this thread call *fn*, by ``send``. Several sends may cause one call.

    fn: a method, held weakly. Its object must hold this one, whose end stops the calls.
    """

    def __init__(self, fn: Callable[[], Any]) -> None:
        self._hub = hub()
        # Not the loop's run_callback_threadsafe: it needs the interpreter lock at places where libev does not hold it.
        self._watcher = self._hub.loop.async_(ref=False)
        # A started watcher keeps itself, its callback and the loop with its descriptors alive until it is closed.
        self._watcher.start(_call, weakref.WeakMethod(fn))
        weakref.finalize(self, _close_watcher, self._hub, self._watcher).atexit = False

    @property
    def is_gone(self) -> bool:
        """Whether the hub has been destroyed."""
        return self._hub.dead or self._hub.loop is None

    def send(self) -> None:
        """Have the hub call fn. In any thread; does not switch, does nothing when the hub is gone."""
        if not self.is_gone:
            self._watcher.send()


def _call(ref: weakref.WeakMethod[Callable[[], Any]]) -> None:
    fn = ref()
    if fn is not None:
        fn()


def _close_watcher(hub: Any, watcher: Any) -> None:
    """The HubWakeup was garbage-collected, so nothing can call ``send`` any more."""
    if hub.loop is not None:
        watcher.close()
