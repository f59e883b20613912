"""The one thread a connection belongs to.

Layer 4. A connection lives in the hub of the thread that connected it, and hubs know no other threads: a call from
one would corrupt what it touches, sooner or later. So such a call is an error before it has changed anything, and
``run_in_hub`` is the only way in. Does not belong here: how a call gets there (``run_in_hub``); AMQP.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType
from typing import TypeVar

from .. import exceptions
from ..green import os_threads
from ..state import argument_checks
from .run_in_hub import HubCall, HubCalls, OneWayCall, hub_calls_of_this_thread

__all__ = ('NOWHERE', 'ThreadAffinity')

T = TypeVar('T')


class ThreadAffinity:
    """Of one connection, from one ``connect`` to the next. Never changes; may be asked in any thread.

    backend: makes it in the running thread, to which the connection belongs from now on; None before it is connected.
    thread: the ident of that thread, None before.
    """

    __slots__ = ('_hub_calls', 'thread')

    def __init__(self, backend: ModuleType | None) -> None:
        self.thread = None if backend is None else os_threads.get_ident()
        # It keeps the way into the hub, also after the connection has ended: run_in_hub is still allowed then.
        self._hub_calls: HubCalls | None = None if backend is None else hub_calls_of_this_thread(backend)

    def is_here(self) -> bool:
        """Whether this is that thread. Does not switch."""
        # The number of the real thread, also where threads are patched: greenlets of one hub have the same.
        return bool(self.thread == os_threads.get_ident())

    def check(self) -> None:
        """Raise WrongThread if this is another thread than the one it belongs to. Does not switch."""
        # 30 ns: methods that are called for each message do it, or compare the number themselves.
        if self.thread is not None and os_threads.get_ident() != self.thread:
            raise exceptions.WrongThread(
                f'this connection belongs to the hub of {name_of_thread(self.thread)}, and was used in '
                f'{name_of_thread(os_threads.get_ident())}; Connection.run_in_hub calls a function over there'
            )

    def run(self, fn: Callable[..., T], args: tuple[object, ...], timeout: float | None) -> T:
        """``Connection.run_in_hub``."""
        # Before anything is queued, and also where it is not used: a bad argument fails in every thread.
        argument_checks.optional_timeout('timeout', timeout)
        if self._hub_calls is None:
            raise exceptions.RecoverableConnectionError('the connection has no hub before it is connected')
        # Not by the queue: the hub cannot run while this greenlet waits for it without switching.
        if self.is_here():
            return fn(*args)
        return self._hub_calls.pass_in(HubCall(self._hub_calls.green, fn, args), timeout)

    def call_later(self, fn: Callable[[], object]) -> None:
        """Have the hub call *fn*, which must neither switch nor raise, in its next pass. From any thread, at once."""
        # Else the connection was never opened, and nothing of it is in a hub.
        if self._hub_calls is not None:
            self._hub_calls.take(OneWayCall(fn))

    def stop_hub(self) -> None:
        """The program ends, and this thread's hub will not run again: threads that wait for it are to get an error."""
        if self._hub_calls is not None:
            # Threads that wait see it at their next look, within HUB_CHECK_INTERVAL.
            self._hub_calls.is_shut = True


#: Of a connection that was never connected.
NOWHERE = ThreadAffinity(None)


def name_of_thread(thread: int) -> str:
    # Only for the text of an error. A thread that threading does not know, or that has ended, has a number alone.
    for one in threading.enumerate():
        if one.ident == thread:
            return f'thread {thread} ({one.name})'
    return f'thread {thread}'
