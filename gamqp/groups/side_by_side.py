"""One call for each of several connections, in a greenlet each.

Layer 5. Does not belong here: what is called, and for which connections (``group``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .. import green

if TYPE_CHECKING:
    from ..connection.connection import Connection

__all__ = ('side_by_side',)


def side_by_side(call: Callable[[Connection], Any], connections: Iterable[Connection]) -> list[Any]:
    """Call it for all at once; what the calls return, in order. Switches greenlets.

    Raises what a call raises, when all have ended. A caller that is interrupted leaves them going on.
    """
    backend = green.backend()
    slots = []
    for connection in connections:
        slot = green.Slot(backend)
        slots.append(slot)
        backend.spawn(_settle, slot, call, connection)
    for slot in slots:
        slot.wait()
    return [slot.result() for slot in slots]


def _settle(slot: green.Slot, call: Callable[[Connection], Any], connection: Connection) -> None:
    try:
        slot.succeed(call(connection))
    except BaseException as exc:
        error = exc.with_traceback(None)
        slot.fail(lambda: error)
