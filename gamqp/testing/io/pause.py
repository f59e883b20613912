"""Waiting a moment in whatever kind of program a test is.

Layer 5. In a hub of gevent or eventlet only the calling greenlet waits, so that the client under test goes on; patched
or not. Neither library is imported for that: without it there is no hub. Does not belong here: conditions.
"""

from __future__ import annotations

import sys
from typing import Any

from ...green.os_threads import original

__all__ = ('pause',)


def pause(seconds: float) -> None:
    """Wait so long. Switches greenlets where there is a hub. Raises RuntimeError in a running asyncio loop."""
    asyncio = sys.modules.get('asyncio')
    if asyncio is not None and asyncio._get_running_loop() is not None:
        raise RuntimeError(
            'waiting here would block the event loop and the client under test: '
            'use `await asyncio.to_thread(broker.wait_until, ...)`'
        )
    _sleep()(seconds)


def _sleep() -> Any:
    hub_local = sys.modules.get('gevent._hub_local')
    if hub_local is not None and hub_local.get_hub_if_exists() is not None:
        return sys.modules['gevent'].sleep
    hubs = sys.modules.get('eventlet.hubs')
    if hubs is not None and getattr(hubs._threadlocal, 'hub', None) is not None:
        return sys.modules['eventlet'].sleep
    return original('time', 'sleep')
