"""How other threads get a call into the hub of a connection: ``Connection.run_in_hub``.

Layer 4. A thread hands in its call and really waits; the hub runs it in a greenlet. There is one place to hand in for
each hub, shared by its connections. Does not belong here: who belongs to which thread (``thread_affinity``).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .. import exceptions, green
from ..green import os_threads
from ..state.durations import in_seconds

if TYPE_CHECKING:
    from .thread_affinity import ThreadAffinity

__all__ = ('HubCall', 'HubCalls', 'OneWayCall', 'RunInHub', 'hub_calls_of_this_thread')

# Seconds between two looks of a waiting thread at whether the hub is still there to answer.
HUB_CHECK_INTERVAL = 0.5

T = TypeVar('T')


class RunInHub:
    """Mixin of Connection."""

    _affinity: ThreadAffinity

    def run_in_hub(self, fn: Callable[..., T], *args: object, timeout: float | None = None) -> T:
        """Call ``fn(*args)`` in a new greenlet of this connection's hub, from any thread. Returns what it returns.

        The calling thread really waits, at most *timeout* seconds (None: as long
        as the hub is there): if it has a hub of its own, that stands still. In the
        connection's own thread, it is an ordinary call in the running greenlet.

        Raises what *fn* raises; TimeoutError when time is up: then a call that has
        not begun never will, and one that has goes on unheard; and
        RecoverableConnectionError when there is no hub to run it: the connection
        was never opened, or the thread it was opened in has ended. A connection
        that has ended still has its hub; there *fn* will hear the reason.
        """
        return self._affinity.run(fn, args, timeout)


# Both kinds of calls have ``start``, which the hub calls: it must neither switch nor raise.
class OneWayCall:
    """A call of which nobody wants to know what it returns."""

    def __init__(self, fn: Callable[[], Any]) -> None:
        self.start = fn


class HubCall(Generic[T]):
    """One call of another thread."""

    def __init__(self, backend: ModuleType, fn: Callable[..., T], args: tuple[object, ...]) -> None:
        self._green, self._fn, self._args = backend, fn, args
        # Never released: whoever takes it first has decided for good. The greenlet in the hub takes it to begin, the
        # waiting thread takes it to give up.
        self._begun = os_threads.Lock()  # taken by the one who decides: it begins, or it never will
        # Taken here and released when the call has returned: the thread waits by taking it. A lock of the operating
        # system, since the thread may have no hub, and must not run its own meanwhile.
        self._over = os_threads.Lock()
        self._over.acquire()
        # Written in the hub before _over is released, and read by the thread after it has taken that. So neither
        # needs a lock of its own; _greenlet alone is read while the call runs.
        self._greenlet: Any = None
        self._result: Any = None  # a T, when the call has returned
        self._error: BaseException | None = None

    def start(self) -> None:
        """In the hub."""
        # Else the thread has given up, and a greenlet would be started for nothing.
        if not self._begun.locked():
            self._greenlet = self._green.spawn(self._run)

    def _run(self) -> None:
        # Asked again: the thread may have given up between the start of this greenlet and its first turn.
        if not self._begun.acquire(False):
            return
        try:
            self._result = self._fn(*self._args)
        except BaseException as exc:
            self._error = exc
            if not isinstance(exc, Exception):
                raise  # the hub has to know of those, too
        finally:
            # Also when the greenlet is killed in the middle: the thread gets GreenletExit as its error.
            self._over.release()

    @property
    def is_killed(self) -> bool:
        """Whether its greenlet ended before it had begun."""
        # _run has never begun then, and so _over is never released. Only this look finds it.
        return self._greenlet is not None and bool(self._greenlet.dead) and not self._begun.locked()

    def wait(self, seconds: float) -> bool:
        return bool(self._over.acquire(True, seconds))

    def give_up(self) -> bool:
        """Have it never begin. Returns whether it has not."""
        return bool(self._begun.acquire(False))

    def result(self) -> T:
        try:
            if self._error is not None:
                raise self._error
            result: T = self._result
            return result
        finally:
            self._error = None  # it refers to the frames it came through, and those to us


class HubCalls:
    """Where other threads hand in calls for the hub of the thread that makes it."""

    def __init__(self, backend: ModuleType) -> None:
        self.green = backend
        self.hub = backend.hub()
        # Threads append, the hub pops. Both are one atomic step of a deque, so there is no lock.
        self._calls: deque[HubCall[Any] | OneWayCall] = deque()
        # Held by this object alone; when that is collected the hub has nothing to wake for any more.
        self._wakeup = backend.HubWakeup(self._answer)
        # A weak reference that becomes None with the thread. Its ident would not do: the system uses that again.
        self._alive = os_threads.life_of_this_thread()
        self.is_shut = False  # the hub will not run again
        self._in_main_thread = os_threads.get_ident() == threading.main_thread().ident

    def take(self, call: HubCall[Any] | OneWayCall) -> None:
        # In this order: the hub may look as soon as it is woken.
        self._calls.append(call)
        self._wakeup.send()

    def pass_in(self, call: HubCall[T], timeout: float | None) -> T:
        deadline = green.Deadline(timeout)
        self.take(call)
        # The thread looks up every half second: a hub that is gone wakes nobody.
        while not call.wait(HUB_CHECK_INTERVAL if timeout is None else min(HUB_CHECK_INTERVAL, deadline.left() or 0.0)):
            # The call may begin at this very moment: whoever gets the lock of its beginning decides.
            if deadline.passed:
                begun = '' if call.give_up() else '; it goes on'
                raise TimeoutError(f'run_in_hub: the call was not over within {in_seconds(timeout)}{begun}')
            if self._is_gone or call.is_killed:
                # Should the hub run once more after all, the call must not begin behind the caller's back.
                call.give_up()
                raise exceptions.RecoverableConnectionError(
                    'run_in_hub: the thread of the connection, or the greenlet of the call, has ended'
                )
        return call.result()

    def _answer(self) -> None:
        """In the hub, once for one ring or several."""
        # Threads may append meanwhile. What they add is taken, too, and the ring for it then finds nothing.
        while self._calls:
            self._calls.popleft().start()

    @property
    def _is_gone(self) -> bool:
        # The main thread outlives its hub: it waits for the other threads, and perhaps for this one.
        # (Where threads are patched its ident is another, and then it waits in its hub.)
        over = self._in_main_thread and not threading.main_thread().is_alive()
        return over or self.is_shut or self._alive() is None or bool(self._wakeup.is_gone)


# Of the real thread, also where the names of threading are patched: one hub belongs to one real thread.
_here = os_threads.local()


def hub_calls_of_this_thread(backend: ModuleType) -> HubCalls:
    """One for each hub: threads do not come often."""
    calls: HubCalls | None = getattr(_here, 'calls', None)
    # Another hub: the program has destroyed the first one (gevent), or uses both libraries in one thread.
    if calls is None or calls.hub is not backend.hub():
        calls = _here.calls = HubCalls(backend)
    return calls
