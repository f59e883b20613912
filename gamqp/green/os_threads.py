"""Threads and locks of the operating system, whatever gevent or eventlet has patched.

Layer 2. gevent and eventlet replace the names of ``threading`` and ``_thread`` by versions for greenlets. Here are
the originals, looked up when this module is imported; patching later changes nothing here. They are for
code that runs in other threads, and for telling threads apart. Does not belong here: hubs and greenlets.

But ``eventlet.monkey_patch()`` replaces each RLock that it finds, in modules and from there in the ``__dict__`` of
objects, in dicts and in lists, by one for greenlets, for which another thread must not wait. So an RLock of ours is
kept in a slot.
"""

from __future__ import annotations

import importlib
import sys
import weakref
from types import SimpleNamespace
from typing import Any

__all__ = (
    'HiddenRLock',
    'Lock',
    'RLock',
    'get_ident',
    'get_native_id',
    'life_of_this_thread',
    'local',
    'original',
    'start_new_thread',
)

_NAMES = ('RLock', '_local', 'allocate_lock', 'get_ident', 'get_native_id', 'start_new_thread')


def _originals() -> Any:
    # Neither library is imported for this: if none is loaded, nothing is patched.
    patcher, monkey = sys.modules.get('eventlet.patcher'), sys.modules.get('gevent.monkey')
    if patcher is not None and patcher.is_monkey_patched('thread'):
        return patcher.original('_thread')
    if monkey is not None:
        return SimpleNamespace(**{name: monkey.get_original('_thread', name) for name in _NAMES})
    return importlib.import_module('_thread')


_thread = _originals()


def original(module: str, name: str) -> Any:
    """The attribute *name* of a module from before gevent or eventlet patched or removed it; None if it had none."""
    patcher, monkey = sys.modules.get('eventlet.patcher'), sys.modules.get('gevent.monkey')
    if patcher is not None and patcher.is_monkey_patched(module):
        return getattr(patcher.original(module), name, None)
    if monkey is not None:
        try:
            return monkey.get_original(module, name)
        except AttributeError:
            return None
    return getattr(importlib.import_module(module), name, None)


#: The originals of ``threading``. Waiting for one blocks the whole thread, and so its hub.
Lock = _thread.allocate_lock
RLock = _thread.RLock
local = _thread._local
#: The number of the running thread, about 30 ns.
get_ident = _thread.get_ident
#: The system's number of the running thread.
get_native_id = _thread.get_native_id
#: start_new_thread(fn, args) starts a thread that does not keep the process alive.
start_new_thread = _thread.start_new_thread


class HiddenRLock:
    """Holds an RLock, where eventlet does not find it."""

    __slots__ = ('_made',)

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    @property
    def lock(self) -> Any:
        """It is made when it is first asked for: eventlet complains on stderr of each that it could not replace."""
        # In one step: another thread may ask at the same time, and the garbage collector may ask meanwhile.
        return self._made.get('lock') or self._made.setdefault('lock', RLock())


class _Life:
    __slots__ = ('__weakref__',)


_here = local()


def life_of_this_thread() -> weakref.ref[Any]:
    """A weak reference that returns None once the running thread has ended; on PyPy some time later."""
    life = getattr(_here, 'life', None)
    if life is None:
        life = _here.life = _Life()
    return weakref.ref(life)
