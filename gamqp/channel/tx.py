"""Class tx: transactions.

Layer 3. Errors and switching: see ``gamqp.channel``. Does not belong here: waiting for the reply (``request``).
"""

from __future__ import annotations

from collections.abc import Callable

from .. import exceptions
from ..state.unacked import Unacked, WideUnacked
from ..wire.spec import Tx
from .open_state import OpenState
from .waiting_for_confirms import ChannelConfirms

__all__ = ('TxMethods',)

INHERITED = (
    'an earlier lease of this channel has published with receipts; call tx_select before the lease gets messages, '
    'or have a pool for transactions alone'
)


class TxMethods(OpenState):
    """Mixin of Channel. A channel is transactional or in confirm mode, never both.

    The one exception to sharing: RabbitMQ ends the connection (504) when anything
    but a close comes while it works on a commit, so a transactional channel
    belongs to one greenlet.
    """

    _altered: bool
    _begin_close: Callable[..., None]
    _confirms: ChannelConfirms | None
    _leave_inherited_confirms: Callable[[], None]
    _unacked: Unacked | WideUnacked

    def tx_select(self) -> None:
        """Make the channel transactional: publishes and acks count from tx_commit on.

        A channel in confirm mode is refused (PreconditionFailed). Where an earlier user of a pool's channel has turned
        that on, it is turned off first, unless there are consumers or unacked deliveries.
        """
        self._check(Tx.Select)
        self._leave_inherited_confirms()
        self._altered = True
        self._unacked.never_combine()  # a rollback would make deliveries unacked again that are settled here
        # Asked before the call: a channel that the broker closes over it has no confirm mode any more.
        inherited = self._confirms if self._confirms is not None and self._confirms.is_inherited else None
        try:
            self._call(Tx.Select)
        except exceptions.PreconditionFailed as exc:
            if inherited is not None:
                inherited.was_in_the_way = True
                exc.hint = INHERITED
            raise

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
