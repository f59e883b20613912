"""Waiting a moment, or for a condition, in whatever kind of program a test is.

Layer 5. In a hub of gevent or eventlet only the calling greenlet waits, so that the client under test goes on; patched
or not. Neither library is imported for that: without it there is no hub. Does not belong here: what is waited for.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ...green.os_threads import original

__all__ = ('pause', 'wait_until')

_T = TypeVar('_T')


def pause(seconds: float) -> None:
    """Wait so long. Switches greenlets where there is a hub. Raises RuntimeError in a running asyncio loop."""
    asyncio = sys.modules.get('asyncio')
    if asyncio is not None and asyncio._get_running_loop() is not None:
        raise RuntimeError(
            'waiting here would block the event loop and the client under test: '
            'use `await asyncio.to_thread(broker.wait_until, ...)`'
        )
    _sleep()(seconds)


def wait_until(condition: Callable[[], _T], timeout: float, every: float, situation: Callable[[], str]) -> _T:
    """Look at *condition* until it returns something true, and return that; one that raises LookupError is not true.

    timeout, every: seconds in all, and between two looks. Switches greenlets as ``pause`` does, and raises what it
    raises. An AssertionError when it takes too long, which ends with what *situation* returns.
    """
    deadline = time.monotonic() + timeout
    while True:
        failure = None
        try:
            value = condition()
            if value:
                return value
        except LookupError as exc:
            failure = exc
        if time.monotonic() >= deadline:
            raise AssertionError(f'not within {timeout} s{situation()}') from failure
        pause(every)


def _sleep() -> Any:
    hub_local = sys.modules.get('gevent._hub_local')
    if hub_local is not None and hub_local.get_hub_if_exists() is not None:
        return sys.modules['gevent'].sleep
    hubs = sys.modules.get('eventlet.hubs')
    if hubs is not None and getattr(hubs._threadlocal, 'hub', None) is not None:
        return sys.modules['eventlet'].sleep
    return original('time', 'sleep')
