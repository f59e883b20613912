"""What a program sees of a connection that is opened again after a loss.

Layer 4, a base class of Connection, without state. Does not belong here: how that is done (``gamqp.recovery``).
"""

from __future__ import annotations

from typing import Any

from .. import green
from ..recovery.outage import Outage
from ..state import lifecycle
from ..state.argument_checks import optional_timeout
from .liveness import Liveness

__all__ = ('Recovering',)


class Recovering(Liveness):
    """Its state, and waiting until it is open."""

    @property
    def state(self) -> str:
        """'new', 'opening', 'open', 'recovering', 'closing' or 'closed'. Does not switch."""
        return self._life.state

    @property
    def recovery(self) -> Outage | None:
        """The outage that the connection recovers from, None while it is open or closed. Does not switch."""
        return None if self._recovery is None else self._recovery.outage

    def wait_open(self, timeout: float | None = None) -> None:
        """Wait until the connection is open. Switches greenlets.

        timeout: seconds, None for as long as it recovers. Returns at once if it is open. Raises TimeoutError, and why
        the connection will not be open: it was closed, or given up, or nobody has called ``connect``.
        """
        self._affinity.check()
        deadline = green.Deadline(optional_timeout('timeout', timeout))
        if self._recovery is not None:
            self._recovery.wait(deadline, patient=True)
        self._check_open()

    def topology(self) -> list[dict[str, Any]]:
        """What would be declared and started again after a loss, in that order, as new dicts. Does not switch.

        Each has its 'kind' ('exchange', 'queue', 'binding', 'consumer') and the arguments of the call that made it.
        Empty without recover.
        """
        return [] if self._topology is None else self._topology.topology()

    def forget(self, kind: str, name: str) -> bool:
        """Take something out of ``topology``; the broker is not asked. Returns whether it was there. Does not switch.

        kind: 'exchange' or 'queue', with its bindings, or 'consumer', whose *name* is its tag. Raises ValueError for
        another kind.
        """
        self._affinity.check()
        return self._topology is not None and self._topology.forget(kind, name)

    def queue_name(self, name: str) -> str:
        """The present name of a queue that the broker has named, and has named anew after a loss. Does not switch.

        name: an earlier one, as queue_declare returned it; every other name is returned as it is.
        """
        return name if self._topology is None else self._topology.queue_name(name)

    def _await_open(self) -> None:
        """``_check_open``, which waits first while the connection recovers. Switches then."""
        if self._life.state == lifecycle.RECOVERING:
            assert self._recovery is not None  # nothing else leads to that state
            self._affinity.check()
            self._recovery.wait(green.Deadline(self.rpc_timeout))
        self._check_open()
