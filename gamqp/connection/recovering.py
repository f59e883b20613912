"""What a program sees of a connection that is opened again after a loss.

Layer 4, a base class of Connection, without state. Does not belong here: how that is done (``gamqp.recovery``).
"""

from __future__ import annotations

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

    def _await_open(self) -> None:
        """``_check_open``, which waits first while the connection recovers. Switches then."""
        if self._life.state == lifecycle.RECOVERING:
            assert self._recovery is not None  # nothing else leads to that state
            self._affinity.check()
            self._recovery.wait(green.Deadline(self.rpc_timeout))
        self._check_open()
