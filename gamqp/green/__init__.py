"""The few things gamqp needs of a greenlet library, the same for gevent and eventlet.

Layer 2. Everything above says ``green.backend()`` once per connection and works
with what it gets; only the modules of this package know the names gevent and
eventlet. Which one is decided at first use, not at import, because a program
may patch itself after importing us. What must not enter: AMQP.

A backend (``_gevent``, ``_eventlet``) has

    NAME                        'gevent' or 'eventlet'
    PATCH                       how to patch the process
    unpatched()                 what blocks the whole thread, for it is not patched: of 'time.sleep', 'socket'
    spawn(fn, *args)            a new greenlet; returns it, does not switch
    kill(greenlet)              GreenletExit is thrown into it at the next pass of the hub
    run_soon(fn, *args)         fn runs in the hub's next pass; it must not block
    call_later(seconds, fn)     the same after a while; returns something with ``cancel()``
    switch_out()                gives control to the hub until somebody switches back
    sleep(seconds)              cooperative; 0 lets everybody else run once
    hub()                       the hub of this thread: two equal hubs, one thread
    Readiness(fd)               waits and watches for one socket
    Doorbell(fn)                ``ring()``, from any thread, has the hub of this thread call fn, a method held weakly
    FailureLink(greenlet, fn)   has fn, a method held weakly, called when the greenlet was killed or raised
    getaddrinfo(host, port)     cooperative name resolution
    socket_class()              the operating system's own socket, whatever was patched
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from .gates import Event, Gate
from .waiting import Deadline, Slot, waking_nobody

__all__ = ('Deadline', 'Event', 'Gate', 'Slot', 'backend', 'is_patched', 'use', 'waking_nobody')

_chosen: ModuleType | None = None


def use(name: str) -> None:
    """Choose the greenlet library for connections made from now on: 'gevent' or 'eventlet'.

    Only needed where the automatic choice is wrong: eventlet when it has patched
    the process, gevent otherwise. Raises ValueError for another name and
    ImportError when the library is not installed. Does not switch greenlets.
    """
    global _chosen
    if name not in ('gevent', 'eventlet'):
        raise ValueError(f"gamqp.green.use: 'gevent' or 'eventlet', not {name!r}")
    _chosen = importlib.import_module(f'{__name__}._{name}')


def backend() -> ModuleType:
    """The backend in force, chosen now if nobody has chosen before."""
    if _chosen is None:
        use('eventlet' if _eventlet_has_patched() else 'gevent')
    assert _chosen is not None
    return _chosen


def is_patched() -> bool:
    """Whether gevent or eventlet has patched this process, so that what waits for a socket lets the hub run."""
    monkey = sys.modules.get('gevent.monkey')
    return _eventlet_has_patched() or (monkey is not None and bool(monkey.is_module_patched('socket')))


def _eventlet_has_patched() -> bool:
    # Asked of eventlet only when it is loaded already: importing it has effects.
    patcher = sys.modules.get('eventlet.patcher')
    return patcher is not None and any(patcher.is_monkey_patched(name) for name in ('socket', 'thread', 'select'))
