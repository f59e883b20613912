"""A clock for limits that a busy machine must not break. Job: that alone; standard library only."""

from __future__ import annotations

import time

__all__ = ('own_time',)


def own_time() -> float:
    """Seconds on a clock that stands still while this thread is ready to run and others have the processors.

    It goes on while the thread computes and while it sleeps or is blocked. Where the system does not tell (it is
    Linux's /proc/thread-self/schedstat), it is the usual clock.
    """
    try:
        with open('/proc/thread-self/schedstat') as file:
            waited = int(file.read().split()[1])
    except (OSError, IndexError, ValueError):
        waited = 0
    return time.monotonic() - waited / 1e9
