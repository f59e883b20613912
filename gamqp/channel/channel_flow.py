"""Class channel, flow. From the broker: publishes of the channel wait until it takes messages again.

Layer 3, a base class of Channel. RabbitMQ has not sent it for years, others do.
Does not belong here: what holds all publishes of a connection back (``gamqp.connection.flow_control``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import ModuleType

from .. import exceptions, green
from ..wire import encode_method
from ..wire.spec import Channel as ChannelSpec
from .open_state import OpenState

__all__ = ('ChannelPause', 'FlowMethods')


class ChannelPause:
    """The time in which the broker takes no messages on one channel, and the publishers that wait for its end."""

    __slots__ = ('_ended', '_waiting')

    def __init__(self) -> None:
        self._ended = False
        self._waiting: green.Gate | None = None  # made when a publish waits

    def end(self) -> Iterator[None]:
        """The broker takes messages again, or the channel has ended. Returns what wakes the publishers, a step each."""
        self._ended = True
        return iter(()) if self._waiting is None else self._waiting.wake_each()

    def wait(self, backend: ModuleType, timeout: float | None) -> bool:
        """Wait until it ends, at most *timeout* seconds; None for no limit. Returns whether it has ended. Switches."""
        if not self._ended:
            if self._waiting is None:
                self._waiting = green.Gate(backend)
            self._waiting.wait(timeout)
        return self._ended


class FlowMethods(OpenState):
    """Mixin of Channel."""

    _pause: ChannelPause | None

    @property
    def active(self) -> bool:
        """False while the broker asks by channel.flow not to publish on this channel."""
        return self._pause is None

    def _on_flow(self, active: bool) -> None:
        self._set_active(active)
        self._connection._count_answer()
        self._writer.send(encode_method(self.channel_id, ChannelSpec.FlowOk, (active,)))

    def flow(self, active: bool) -> None:
        """Ask the broker to stop (False) or go on (True) delivering. RabbitMQ knows only True: use basic_qos."""
        self._call(ChannelSpec.Flow, (active,))

    def _set_active(self, active: bool) -> None:
        """The broker has said so, or the channel has ended or begun anew. Does not switch."""
        pause = self._pause
        if active and pause is not None:
            self._pause = None
            self._connection._work_in_turns.add(pause.end())
        elif not active and pause is None:
            self._pause = ChannelPause()

    def _wait_until_active(self, deadline: green.Deadline | None) -> None:
        """Wait until the broker takes messages on this channel. Switches.

        deadline: None for blocked_timeout or rpc_timeout, as where it blocks the connection.
        Raises Blocked when it still takes none, and at once with blocked_policy='raise'.
        """
        connection = self._connection
        limit = connection.rpc_timeout if connection.blocked_timeout is None else connection.blocked_timeout
        deadline = deadline or green.Deadline(limit)
        begun = time.monotonic()
        connection._backpressure.wait_begins()  # channel.flow may stand behind more deliveries than there is room for
        try:
            while (pause := self._pause) is not None:  # the next one may have begun when this greenlet wakes
                refused = connection.blocked_policy == 'raise' or not pause.wait(connection._green, deadline.left())
                if refused and self._pause is not None:
                    raise exceptions.Blocked(
                        f'the broker takes no messages on channel {self.channel_id} (channel.flow)'
                    )
        finally:
            connection._backpressure.wait_ends()
            connection._counts.write_wait_seconds += time.monotonic() - begun
