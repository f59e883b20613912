"""Waiting of one greenlet for one result (Slot), and a total time limit for several waits (Deadline).

Layer 2. Uses three functions of a backend (switch_out, run_soon, call_later), so that waiting is the same with gevent
and eventlet. Only ``Slot.wait`` and ``Slot.fire`` switch greenlets. Setting a result with ``succeed`` or ``fail``
does not, so the reader can do it in the middle of a batch. A greenlet that is killed or times out while it
waits leaves nothing behind: a wake-up that is already queued finds no waiting greenlet and does nothing.
Does not belong here: many greenlets that wait for the same thing, see ``gates``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import greenlet

from ..state.argument_checks import LONGEST, given_timeout
from .kept_timers import KeptTimers

__all__ = ('Batch', 'Deadline', 'Slot', 'wakes', 'waking_nobody')

_waking = True


@contextlib.contextmanager
def waking_nobody() -> Iterator[None]:
    """Inside the block, settling a slot wakes no greenlet.

    For a forked child: the waiting greenlets belong to threads that the child does not have. Nothing in the
    block may switch greenlets, and no other thread may run yet.
    """
    global _waking
    _waking = False
    try:
        yield
    finally:
        _waking = True


def wakes() -> bool:
    """Whether settling a slot wakes the greenlet that waits there, see ``waking_nobody``."""
    return _waking


class Deadline:
    """A total time limit for several waits.

    seconds: from now; None for no limit. ``left()`` returns the seconds that are left, 0.0 when it has passed.
    Raises TypeError or ValueError for what is no number of seconds from 0 on; the errors call it *timeout*.
    """

    __slots__ = ('at', 'seconds')

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        if seconds is None:
            self.at: float | None = None
            return
        # Checked here, since most are floats and need no call.
        if not (seconds.__class__ is float and 0.0 <= seconds <= LONGEST):
            given_timeout('timeout', seconds)
        self.at = time.monotonic() + seconds

    def left(self) -> float | None:
        if self.at is None:
            return None
        return max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        return self.at is not None and time.monotonic() >= self.at


class Batch:
    """What the reader does in one step. If that wakes one greenlet, the reader then switches to it, and not to the hub.

    green: the backend. opens: what ``is_open`` is when a step begins; False with eventlet, whose hub has no watcher
    that could stay. is_open: whether the step lasts, in which nothing switches greenlets, and no more than one was
    woken. only: the slot where that greenlet waits. timers: of those who wait for the reader.
    """

    __slots__ = ('_green', 'is_open', 'only', 'opens', 'timers')

    def __init__(self, green: ModuleType) -> None:
        self._green = green
        self.opens: bool = green.KEEPS_WATCHER
        self.is_open = False
        self.only: Slot | None = None
        self.timers = KeptTimers(green)

    def wake_later(self) -> None:
        """The hub switches to that greenlet, if there is one."""
        only, self.only = self.only, None
        if only is not None:
            self._green.run_soon(only.wake)


class Slot:
    """The place where one greenlet waits for one result.

    ``succeed(value)`` or ``fail(make_error)`` settles it, once; later calls are
    ignored. ``make_error()`` must make a new exception each time it is called,
    so that no two greenlets raise the same object and share its traceback.

    batch: of the reader that settles the slot, see ``Batch``; None where it is somebody else.
    """

    __slots__ = ('_expired', '_green', '_make_error', '_value', '_waiter', 'batch', 'done')

    def __init__(self, green: ModuleType) -> None:
        self._green = green
        self._waiter: Any = None
        self._value: Any = None
        self._make_error: Any = None
        self._expired = False
        self.batch: Batch | None = None
        self.done = False

    def succeed(self, value: Any = None) -> None:
        if self.done:
            return
        self.done = True
        self._value = value
        if self._waiter is not None and _waking:
            batch = self.batch
            # As in _wake_later, without another call: mostly a step of the reader wakes one greenlet.
            if batch is not None and batch.is_open and batch.only is None:
                batch.only = self
            else:
                self._wake_later()

    def fail(self, make_error: Any) -> None:
        if not self.done:
            self.done = True
            self._make_error = make_error
            if self._waiter is not None and _waking:
                self._wake_later()

    def fire(self, value: Any = None) -> None:
        """``succeed`` for a callback of the hub: switches to the waiting greenlet at once, not in the next pass."""
        if not self.done:
            self.done = True
            self._value = value
            self.wake()

    @property
    def awaited(self) -> bool:
        """Whether a greenlet is waiting here right now."""
        return self._waiter is not None

    def result(self) -> Any:
        """The value, or raise the error, with which the slot was settled."""
        if self._make_error is not None:
            raise self._make_error()
        return self._value

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until settled, at most *timeout* seconds (None: for ever). Returns whether it is.

        Switches greenlets. Raises RuntimeError when another greenlet waits here already, and whatever is
        thrown into this greenlet meanwhile (GreenletExit, gevent.Timeout).
        """
        if self.done or (timeout is not None and timeout <= 0):
            return self.done
        if self._waiter is not None:
            raise RuntimeError('two greenlets wait on one slot')
        self._expired = False
        self._waiter = greenlet.getcurrent()
        timer: Any = None
        try:
            if timeout is not None:
                batch = self.batch
                if batch is None:
                    timer = self._green.call_later(timeout, self.expire)
                else:
                    timer = batch.timers.begin(self, timeout)
            # A loop, because code outside gamqp may switch to this greenlet at any time.
            while not self.done and not self._expired:
                self._green.switch_out()
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        return self.done

    def _wake_later(self) -> None:
        batch = self.batch
        if batch is not None and batch.is_open:
            if batch.only is None:
                batch.only = self
                return
            batch.is_open = False
            batch.wake_later()  # before this one: greenlets run in the order in which they were woken
        self._green.run_soon(self.wake)

    def wake(self) -> None:
        """Switch to the greenlet that waits, if it still does. For callbacks of the hub, and the reader."""
        if self._waiter is not None:
            self._waiter.switch()

    def expire(self) -> None:
        """Time is up: ``wait`` returns. For timers."""
        self._expired = True
        self.wake()
