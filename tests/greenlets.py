"""What is alive: greenlets and sockets, counted before and after each test.

For the tests only. The greenlet library under test comes from GAMQP_TEST_GREEN
(gevent by default); tests spawn and wait through ``gamqp.green``, so that each
of them runs under both.
"""

from __future__ import annotations

import gc
import os
import stat
import sys
import threading
import traceback
import warnings
import weakref
from typing import Any

import greenlet

from gamqp import green

GREEN = os.environ.get('GAMQP_TEST_GREEN') or 'gevent'
with warnings.catch_warnings():
    # eventlet says at import that it is in maintenance; warnings are errors here.
    warnings.simplefilter('ignore')
    green.use(GREEN)
backend = green.backend()

# Seconds until what should happen counts as failed. Only a test that fails ever waits so long; on a machine that does
# much else what takes a moment may take many.
PATIENCE = 60.0

# How many turns of the hub, and then how often and how long in seconds each time, a test's last greenlets and sockets
# may need to be gone.
SETTLE_TURNS = 3
SETTLE_TRIES = 200
SETTLE_PAUSE = 0.01


def spawn(fn: Any, *args: Any) -> Task:
    """Run fn in a greenlet; the Task gives its result or raises its error."""
    return Task(fn, args)


class Task:
    """A greenlet whose outcome can be waited for."""

    def __init__(self, fn: Any, args: tuple[Any, ...] = ()) -> None:
        self._slot = green.Slot(backend)
        self.greenlet = backend.spawn(self._run, fn, args)

    def _run(self, fn: Any, args: tuple[Any, ...]) -> None:
        try:
            self._slot.succeed(fn(*args))
        except BaseException as exc:
            error = exc
            self._slot.fail(lambda: error)

    def get(self, timeout: float = PATIENCE) -> Any:
        if not self._slot.wait(timeout):
            raise AssertionError(f'{self.greenlet!r} did not end within {timeout} s')
        return self._slot.result()

    @property
    def done(self) -> bool:
        return self._slot.done

    def kill(self) -> None:
        backend.kill(self.greenlet)


def sleep(seconds: float = 0) -> None:
    backend.sleep(seconds)


def wait_until(condition: Any, timeout: float = PATIENCE, what: str = '') -> Any:
    """Look every few milliseconds until *condition()* is true; for what has no event to wait for."""
    deadline = green.Deadline(timeout)
    while True:
        value = condition()
        if value:
            return value
        if deadline.passed:
            raise AssertionError(f'not true within {timeout} s: {what or condition}')
        backend.sleep(0.003)


class Census:
    """Greenlets and sockets alive now; ``leaked()`` tells what is alive later and was not then."""

    def __init__(self) -> None:
        self._greenlets: Any = weakref.WeakSet(living_greenlets())
        self._sockets = open_sockets()

    def leaked(self) -> str:
        """'' when everything has gone, if need be after a moment; else a description."""
        for attempt in range(SETTLE_TURNS + SETTLE_TRIES):
            if not self._more():
                return ''
            if attempt < SETTLE_TURNS:  # mostly greenlets that have been ended and need a turn for it
                backend.sleep(0)
            else:
                gc.collect()
                backend.sleep(SETTLE_PAUSE)
        return self._describe()

    def _more(self) -> bool:
        if open_sockets() - self._sockets:
            return True
        known = self._greenlets
        return any(one not in known for one in living_greenlets())

    def _describe(self) -> str:
        lines = [f'socket {name}' for name in sorted(open_sockets() - self._sockets)]
        for one in living_greenlets():
            if one not in self._greenlets:
                stack = ''.join(traceback.format_stack(one.gr_frame)[-4:]) if one.gr_frame else '(not started)'
                lines.append(f'greenlet {one!r}\n{stack}')
        return '\n'.join(lines)


def living_greenlets() -> list[Any]:
    """Greenlets of tests and library: those that could still run, without hubs and their pools."""
    return [one for one in gc.get_objects() if isinstance(one, greenlet.greenlet) and not one.dead and _ours(one)]


def _ours(one: Any) -> bool:
    if one is greenlet.getcurrent() or one.parent is None:
        return False
    name = f'{type(one).__module__}.{type(one).__name__}'
    if 'hub' in name.lower() or 'threadpool' in name or 'Worker' in name:
        return False
    hubs = sys.modules.get('eventlet.hubs')
    if hubs is not None:
        hub = getattr(hubs._threadlocal, 'hub', None)
        if hub is not None and one is hub.greenlet:
            return False
    return getattr(one, 'thread_id', None) in (None, threading.get_ident())


def open_sockets() -> set[str]:
    names = set()
    for fd in os.listdir('/proc/self/fd'):
        try:
            if stat.S_ISSOCK(os.stat(f'/proc/self/fd/{fd}').st_mode):
                names.add(f'{fd} {os.readlink(f"/proc/self/fd/{fd}")}')
        except OSError:
            pass
    return names
