"""Class tx: transactions. Errors and switching: see ``gamqp.methods``."""

from __future__ import annotations

from ..calls import Caller
from ..wire.spec import Tx

__all__ = ('TxMethods',)


class TxMethods(Caller):
    """Mixin of Channel. A channel is transactional or in confirm mode, never both."""

    def tx_select(self) -> None:
        """Make the channel transactional: publishes and acks count from tx_commit on."""
        self._call(Tx.Select)

    def tx_commit(self) -> None:
        """Carry out what was published and settled since the last commit, and begin again."""
        self._call(Tx.Commit)

    def tx_rollback(self) -> None:
        """Forget what was published and settled since the last commit; deliveries stay unacked."""
        self._call(Tx.Rollback)
