"""What gamqp needs of a greenlet library, in the same form for gevent and eventlet; waiting; threads; forks.

Layer 2, below everything but ``gamqp.state`` and ``gamqp.wire``. Only this package imports gevent and eventlet.
A connection calls ``backend()`` once and uses the module that it returns. The library is chosen at first use, not
at import, because a program may patch itself after it has imported gamqp. Does not belong here: AMQP.
Public: ``use``.

A backend (``_gevent``, ``_eventlet``) has

    NAME                        'gevent' or 'eventlet'
    KEEPS_WATCHER               whether ``Readiness`` keeps a watcher for the reader, and switches to whom that woke
    PATCH                       the call that patches the process, as text
    unpatched()                 which of 'time.sleep' and 'socket' are not patched, and so block the whole thread
    spawn(fn, *args)            starts a new greenlet and returns it; does not switch
    kill(greenlet)              throws GreenletExit into it at the next pass of the hub; does not switch
    run_soon(fn, *args)         calls fn in the hub's next pass; fn must not switch
    call_later(seconds, fn)     the same after so many seconds; returns an object with ``cancel()``
    switch_out()                switches to the hub, until something switches back to this greenlet
    sleep(seconds)              lets other greenlets run for so long; 0: each that is ready runs once
    hub()                       the hub of this thread; one hub per thread
    Readiness(fd)               waits until one socket can be read or written
    HubWakeup(fn)               ``send()``, in any thread, has the hub of this thread call fn, a method held weakly
    FailureLink(greenlet, fn)   calls fn, a method held weakly, when the greenlet was killed or raised
    getaddrinfo(host, port)     resolves a name; only the calling greenlet waits
    gethostbyaddr(address)      the same for the name of an address
    in_thread(fn, *args)        calls fn in a thread of the operating system; only the calling greenlet waits
    socket_class()              the operating system's own socket class, whatever was patched
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from .gates import Event, Gate, wait_at_both
from .waiting import Batch, Deadline, Slot, waking_nobody

__all__ = (
    'Batch',
    'Deadline',
    'Event',
    'Gate',
    'Slot',
    'backend',
    'is_patched',
    'use',
    'wait_at_both',
    'waking_nobody',
)

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
    """The backend module, chosen now if it has not been chosen yet. Raises ImportError as ``use`` does."""
    if _chosen is None:
        use('eventlet' if _eventlet_has_patched() else 'gevent')
    assert _chosen is not None
    return _chosen


def is_patched() -> bool:
    """Whether the sockets of this process are patched, so that code that waits for one lets the hub run."""
    monkey = sys.modules.get('gevent.monkey')
    return _eventlet_has_patched() or (monkey is not None and bool(monkey.is_module_patched('socket')))


def _eventlet_has_patched() -> bool:
    # Not imported for this question: importing eventlet has side effects, and without it nothing is patched.
    patcher = sys.modules.get('eventlet.patcher')
    return patcher is not None and any(patcher.is_monkey_patched(name) for name in ('socket', 'thread', 'select'))
