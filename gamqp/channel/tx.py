"""Class tx: transactions.

Layer 3. Errors and switching: see ``gamqp.channel``. Does not belong here: waiting for the reply (``request``).
"""

from __future__ import annotations

from collections.abc import Callable

from ..wire.spec import Tx
from .open_state import OpenState

__all__ = ('TxMethods',)


class TxMethods(OpenState):
    """Mixin of Channel. A channel is transactional or in confirm mode, never both.

    The one exception to sharing: RabbitMQ ends the connection (504) when anything
    but a close comes while it works on a commit, so a transactional channel
    belongs to one greenlet.
    """

    _altered: bool
    _begin_close: Callable[..., None]

    def tx_select(self) -> None:
        """Make the channel transactional: publishes and acks count from tx_commit on."""
        self._check(Tx.Select)
        self._altered = True
        self._call(Tx.Select)

    def tx_commit(self) -> None:
        """Carry out what was published and settled since the last commit, and begin again.

        When its caller is killed or runs out of time the channel is closed, and
        whether the commit took place is not known.
        """
        try:
            self._call(Tx.Commit)
        except BaseException:
            if self.is_open and self._replies.due(Tx.CommitOk):
                self._begin_close(0, '', (0, 0), wait=False)
            raise

    def tx_rollback(self) -> None:
        """Forget what was published and settled since the last commit; deliveries stay unacked."""
        self._call(Tx.Rollback)
