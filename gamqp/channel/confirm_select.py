"""Class confirm: turn publisher confirms on, and wait for them.

Layer 3. Errors and switching: see ``gamqp.channel``. Does not belong here: who waits for which confirm
(``waiting_for_confirms``).
"""

from __future__ import annotations

from typing import Any

from ..state.argument_checks import given_timeout
from ..state.confirm_matching import Confirms
from ..wire.spec import Confirm
from .open_state import OpenState
from .waiting_for_confirms import ChannelConfirms

__all__ = ('ConfirmMethods',)


class ConfirmMethods(OpenState):
    """Mixin of Channel."""

    _confirms: ChannelConfirms | None

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
        confirms = self._begin_confirms()
        if nowait:
            self._send(Confirm.Select, (True,))
            confirms.selected()
        else:
            self._call(Confirm.Select, (False,), arrived=self._on_select_ok)

    def _confirm_select_unawaited(self) -> ChannelConfirms:
        """The same without a wait for the reply, for what is published next. Does not switch."""
        confirms = self._begin_confirms()
        self._call(Confirm.Select, (False,), arrived=self._on_select_ok, wait=False)
        return confirms

    def _begin_confirms(self) -> ChannelConfirms:
        confirms = self._confirms
        if confirms is None:
            confirms = self._confirms = ChannelConfirms(self._connection, self._number)
        confirms.begin()
        return confirms

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
