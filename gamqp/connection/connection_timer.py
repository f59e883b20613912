"""A timer of one open connection, which ends with it and does not keep it.

Layer 4, base class of what looks at a connection, or does something for it, every now and then. Does not belong
here: what is done. Nothing here switches greenlets.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..green.os_threads import get_ident

if TYPE_CHECKING:
    from .dispatch import Dispatch

__all__ = ('ConnectionTimer',)

C = TypeVar('C', bound='Dispatch')  # the class of the connection


class ConnectionTimer(ABC, Generic[C]):
    """Made in the thread of the connection's hub. Derived classes have ``_due(connection)``, called in the hub."""

    def __init__(self, connection: C) -> None:
        # Weak: the hub holds the timer, and the timer this object. A strong reference would keep a connection that
        # the program has dropped.
        self._connection_ref = weakref.ref(connection, self._dropped)
        self._green = connection._green
        # The thread of the hub. Only there the timer may be cancelled, and the garbage collector may run in any
        # thread.
        self._thread = get_ident()
        # None while no timer runs. So stop() cancels what is pending, and may be called twice.
        self._timer: Any = None

    def stop(self) -> None:
        """The connection has ended. Does not switch."""
        if self._timer is not None:
            # A timer that the hub is just running is None here already; its _due asks by itself whether the link has
            # ended.
            self._timer.cancel()
            self._timer = None

    def _dropped(self, ref: object) -> None:
        if get_ident() == self._thread:  # else the timer finds out itself: it belongs to the hub
            self.stop()

    def _arm(self, seconds: float) -> None:
        # One at a time: derived classes arm it again only when it has rung.
        self._timer = self._green.call_later(seconds, self._ring)

    def _ring(self) -> None:
        # First, so that _due may arm it again.
        self._timer = None
        connection = self._connection_ref()
        if connection is not None:
            self._due(connection)

    @abstractmethod
    def _due(self, connection: C) -> None:
        """The time is up; must not switch."""
