"""Class confirm: turn publisher confirms on, and wait for them.

Layer 3. Errors and switching: see ``gamqp.channel``. Does not belong here: who waits for which confirm
(``waiting_for_confirms``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..state.argument_checks import given_timeout
from ..state.confirm_matching import Confirms
from ..state.consumers import ConsumerTable
from ..wire.spec import Channel as ChannelSpec
from ..wire.spec import Confirm
from .open_state import OpenState
from .waiting_for_confirms import ChannelConfirms

__all__ = ('ConfirmMethods',)


class ConfirmMethods(OpenState):
    """Mixin of Channel."""

    _close_and_open_again: Callable[[], None]
    _confirms: ChannelConfirms | None
    _consumers: ConsumerTable
    _unacked: Any

    @property
    def unconfirmed(self) -> int:
        """Publishes whose confirm has not come yet."""
        return len(self._confirms or ())

    @property
    def _outstanding(self) -> Confirms | None:
        """The publishes whose confirm has not come yet; None without confirm mode."""
        return None if self._confirms is None else self._confirms.outstanding

    def confirm_select(self, nowait: bool = False) -> None:
        """Turn confirm mode on: the broker acks each publish from now on (RabbitMQ extension).

        Doing it twice is harmless. A transactional channel is refused (PreconditionFailed).
        """
        self._check(Confirm.Select)
        confirms = self._own_confirms()
        confirms.begin()
        if nowait:
            self._send(Confirm.Select, (True,))
            confirms.selected()
        else:
            self._call(Confirm.Select, (False,), arrived=self._on_select_ok)

    def _confirm_select_unawaited(self) -> ChannelConfirms:
        """The same without a wait for the reply, for what is published next. Does not switch."""
        confirms = self._own_confirms()
        if confirms.begin():
            self._call(Confirm.Select, (False,), arrived=self._on_select_ok, wait=False)
        return confirms

    def _leave_inherited_confirms(self) -> None:
        """Have the broker end the confirm mode that an earlier user of this channel has turned on. Switches.

        Which is not possible once there are consumers, or deliveries that are not settled: they would be lost.
        """
        confirms = self._confirms
        if confirms is not None and confirms.is_inherited and not (self._consumers or self._unacked):
            self._call(ChannelSpec.Flow, (True,))  # what was sent before may be refused: that is raised here
            if confirms.is_inherited:
                self._close_and_open_again()

    def _own_confirms(self) -> ChannelConfirms:
        """The object, made if there is none. Confirm mode may be off."""
        if self._confirms is None:
            self._confirms = ChannelConfirms(self._connection, self._number)
        return self._confirms

    def _on_select_ok(self, reply: Any) -> None:
        if self._confirms is not None:
            self._confirms.selected()

    def wait_for_confirms(self, timeout: float | None = None) -> bool:
        """Wait until everything published on this channel so far is settled. Switches greenlets.

        timeout: seconds, None for the connection's confirm_timeout. Returns True
        when the broker acked everything that was published here since the last call,
        False when it refused or returned some of it: the receipts say which. Raises
        TimeoutError, and why the channel or connection ended, also when that was
        before and publishes were lost by it. Where several greenlets publish on one
        channel it cannot tell whose it was.
        """
        limit = self._connection.confirm_timeout if timeout is None else given_timeout('timeout', timeout)
        self._check(Confirm.Select)
        return self._confirms is None or self._confirms.wait(limit)
