"""Everything that a connection had is made again on its next socket, before the program may use it.

Layer 4, run by the greenlet of ``engine``. Requests are sent ahead of their answers, so that ten thousand of them do
not take ten thousand round trips; the first one without an answer when the broker closes a channel is the one that it
refused. Does not belong here: what was declared (``state.topology_registry``), and when this is done.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from .. import exceptions, green
from ..state import lifecycle
from ..state.expected_replies import Expected
from ..state.lifecycle import Reason
from ..state.recovery_settings import Recovery
from ..wire import METHODS
from ..wire.spec import Basic, Confirm, Tx
from ..wire.spec import Channel as ChannelSpec
from .outage import Outage, RecoveryReport
from .recovering_channel import RecoveringChannel

if TYPE_CHECKING:
    from ..connection.connection import Connection

__all__ = ('RecoveryStopped', 'restore')

# Requests that may be without their answer.
AHEAD = 100


class RecoveryStopped(exceptions.RecoverableConnectionError):
    """on_record_error has said that there shall be no further attempt."""


def restore(connection: Connection, outage: Outage, settings: Recovery) -> RecoveryReport:
    """Restore topology, channels and consumers. Returns what was done. Switches.

    Raises what ends this attempt: the end of the link, or TimeoutError.
    """
    channels = ChannelsAgain(connection)
    channels.run()
    return RecoveryReport(
        attempts=outage.attempt, seconds=outage.since, host=connection.host, consumers=channels.consumers
    )


class _Request:
    """One that was sent, and whose answer has still to be looked at."""

    __slots__ = ('channel', 'expected', 'incarnation', 'record', 'sig')

    def __init__(self, channel: RecoveringChannel, sig: tuple[int, int], expected: Expected, record: Any) -> None:
        self.channel = channel
        self.incarnation = channel._incarnation
        self.sig = sig
        self.expected = expected
        self.record = record


class ChannelsAgain:
    """Opens the channels of a connection again, with their modes, limits and consumers.

    consumers: how many have been started.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._link = connection._link
        self._requests: deque[_Request] = deque()  # in the order in which they were sent
        self._channels: deque[Any] = deque(connection.channels.values())
        self.consumers = 0

    def run(self) -> None:
        """Switches. Raises why the link has ended, or TimeoutError."""
        while self._channels or self._requests:
            if self._channels:
                self._open(self._channels.popleft())
            else:
                self._await_answer()

    def _open(self, channel: RecoveringChannel) -> None:
        if channel._life.state != lifecycle.RECOVERING:
            return  # the program has closed it
        if channel.channel_id > self._connection.channel_max:
            text = f'channel {channel.channel_id} is above channel_max, which is {self._connection.channel_max} now'
            channel._end(Reason(exceptions.ResourceError(text)))
            return
        self._check_link()
        channel._begin_on_socket()
        incarnation = channel._incarnation
        self._ask(channel, ChannelSpec.Open, ('',))
        if channel._is_confirming:
            channel._begin_confirms_again()
            self._ask(channel, Confirm.Select, (False,), channel._on_select_ok)
        if channel._is_transactional:
            self._ask(channel, Tx.Select, ())
        prefetch = channel._prefetch
        if prefetch.of_channel:
            self._ask(channel, Basic.Qos, (0, prefetch.of_channel, True))
        if prefetch.sent is not None and channel._incarnation == incarnation:
            self._ask(channel, Basic.Qos, (0, prefetch.sent, False))

    def _ask(
        self,
        channel: RecoveringChannel,
        sig: tuple[int, int],
        args: tuple[Any, ...],
        arrived: Any = None,
        record: Any = None,
    ) -> None:
        """Send one request. Does not switch."""
        expected = Expected(METHODS[sig].replies, green.Slot(self._connection._green), arrived)
        channel._ask(sig, args, expected)
        self._requests.append(_Request(channel, sig, expected, record))

    def _await_answer(self) -> None:
        """Wait for the oldest answer. Switches."""
        request = self._requests.popleft()
        connection, channel = self._connection, request.channel
        slot: Any = request.expected.slot
        if not connection._wait_for(slot, connection.rpc_timeout):
            raise TimeoutError(
                f'{METHODS[request.sig].name}: no reply within {connection.rpc_timeout} s, in a recovery'
            )
        self._check_link()
        try:
            slot.result()
        except exceptions.AMQPError as exc:
            if channel._life.state == lifecycle.RECOVERING and request.incarnation == channel._incarnation - 1:
                self._refused(request, exc)

    def _refused(self, request: _Request, error: exceptions.AMQPError) -> None:
        """The broker has closed the channel over this request."""
        raise error

    def _check_link(self) -> None:
        """Raise why the link has ended, if it has. Does not switch."""
        if self._link.reason is not None:
            self._link.reason.throw()
