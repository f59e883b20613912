"""Class channel, flow. From the broker: publishes of the channel wait until it takes messages again.

Layer 3, a base class of Channel. RabbitMQ has not sent it for years, others do.
Does not belong here: what holds all publishes of a connection back (``gamqp.connection.flow_control``).
"""

from __future__ import annotations

import time

from .. import exceptions, green
from ..wire import encode_method
from ..wire.spec import Channel as ChannelSpec
from .open_state import OpenState

__all__ = ('FlowMethods',)


class FlowMethods(OpenState):
    """Mixin of Channel."""

    active = True  #: False while the broker asks by channel.flow not to publish on this channel

    _activated: green.Gate | None = None  # made when a publish waits

    def _on_flow(self, active: bool) -> None:
        self._set_active(active)
        self._connection._count_answer()
        self._writer.send(encode_method(self.channel_id, ChannelSpec.FlowOk, (active,)))

    def flow(self, active: bool) -> None:
        """Ask the broker to stop (False) or go on (True) delivering. RabbitMQ knows only True: use basic_qos."""
        self._call(ChannelSpec.Flow, (active,))

    def _set_active(self, active: bool) -> None:
        """The broker has said so, or the channel has ended or begun anew. Does not switch."""
        if active != self.active:
            self.active = active
            if active and self._activated is not None:
                self._connection._work_in_turns.add(self._activated.wake_each())

    def _wait_until_active(self, deadline: green.Deadline | None) -> None:
        """Wait until the broker takes messages on this channel. Switches.

        deadline: None for blocked_timeout or rpc_timeout, as where it blocks the connection.
        Raises Blocked when it still takes none, and at once with blocked_policy='raise'.
        """
        connection = self._connection
        limit = connection.rpc_timeout if connection.blocked_timeout is None else connection.blocked_timeout
        deadline = deadline or green.Deadline(limit)
        if self._activated is None:
            self._activated = green.Gate(connection._green)
        begun = time.monotonic()
        connection._backpressure.wait_begins()  # channel.flow may stand behind more deliveries than there is room for
        try:
            while not self.active:
                refused = connection.blocked_policy == 'raise' or not self._activated.wait(deadline.left())
                if refused and not self.active:
                    raise exceptions.Blocked(
                        f'the broker takes no messages on channel {self.channel_id} (channel.flow)'
                    )
        finally:
            connection._backpressure.wait_ends()
            connection._counts.write_wait_seconds += time.monotonic() - begun
