"""Threads of the operating system, whatever has been patched: for what must go on, or be told apart, without a hub.

Layer 2. gevent and eventlet replace these names by greenlet versions of the same
names; here are the originals, found at import: what is patched later does not
matter any more. What must not enter: hubs and greenlets.
"""

from __future__ import annotations

import importlib
import sys
import weakref
from types import SimpleNamespace
from typing import Any

__all__ = (
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
    # Asked of modules that are loaded already: where neither is, nothing can have been patched.
    patcher, monkey = sys.modules.get('eventlet.patcher'), sys.modules.get('gevent.monkey')
    if patcher is not None and patcher.is_monkey_patched('thread'):
        return patcher.original('_thread')
    if monkey is not None:
        return SimpleNamespace(**{name: monkey.get_original('_thread', name) for name in _NAMES})
    return importlib.import_module('_thread')


_thread = _originals()


def original(module: str, name: str) -> Any:
    """What a module had by this name before gevent or eventlet patched or removed it; None if it had none."""
    patcher, monkey = sys.modules.get('eventlet.patcher'), sys.modules.get('gevent.monkey')
    if patcher is not None and patcher.is_monkey_patched(module):
        return getattr(patcher.original(module), name, None)
    if monkey is not None:
        try:
            return monkey.get_original(module, name)
        except AttributeError:
            return None
    return getattr(importlib.import_module(module), name, None)


#: These are ``threading``'s. Each blocks its thread, and with it the hub.
Lock = _thread.allocate_lock
RLock = _thread.RLock
local = _thread._local
#: The number of the running thread, about 30 ns.
get_ident = _thread.get_ident
#: The system's number of the running thread.
get_native_id = _thread.get_native_id
#: A thread that neither keeps the process alive nor is waited for: start_new_thread(fn, args).
start_new_thread = _thread.start_new_thread


class _Life:
    __slots__ = ('__weakref__',)


_here = local()


def life_of_this_thread() -> weakref.ref[Any]:
    """A reference that is dead (gives None) once the running thread has ended; PyPy takes its time."""
    life = getattr(_here, 'life', None)
    if life is None:
        life = _here.life = _Life()
    return weakref.ref(life)
