"""A timer of one open connection, which ends with it and does not keep it.

Layer 3, base class of what looks at a connection, or does something for it, every now and then. Does not belong
here: what is done. Nothing here switches greenlets.
"""

from __future__ import annotations

import weakref
from typing import Any

from .green.native import get_ident

__all__ = ('ConnectionTimer',)


class ConnectionTimer:
    """Made in the thread of the connection's hub. Derived classes have ``_due(root)``, called in the hub."""

    def __init__(self, root: Any) -> None:
        self._root = weakref.ref(root, self._dropped)
        self._green = root.green
        self._thread = get_ident()
        self._timer: Any = None

    def stop(self) -> None:
        """The connection has ended. Does not switch."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _dropped(self, ref: Any) -> None:
        if get_ident() == self._thread:  # else the timer finds out itself: it belongs to the hub
            self.stop()

    def _arm(self, seconds: float) -> None:
        self._timer = self._green.call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._timer = None
        root = self._root()
        if root is not None:
            self._due(root)

    def _due(self, root: Any) -> None:
        """The time is up; must not switch."""
        raise NotImplementedError
