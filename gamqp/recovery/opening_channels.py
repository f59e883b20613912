"""The channels of a connection are opened again on a new socket, with their modes, limits and consumers.

Layer 4, run by the greenlet of ``engine``. Several channels at a time, and on each of them requests ahead of their
replies. Does not belong here: the order of what is asked on one channel (``state.restore_channels``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .. import exceptions, green
from ..state import lifecycle
from ..state.durations import in_seconds
from ..state.expected_replies import Expected
from ..state.lifecycle import Reason
from ..state.restore_channels import ChannelPlan
from ..state.topology_records import Record, RecordedConsumer
from ..state.topology_registry import TopologyRegistry
from ..wire import METHODS
from ..wire.spec import Basic, Confirm, Tx
from ..wire.spec import Channel as ChannelSpec
from .recovering_channel import RecoveringChannel
from .refusals import Refusals

if TYPE_CHECKING:
    from ..connection.connection import Connection

__all__ = ('OpeningChannels',)

# Channels that are opened at the same time.
AT_ONCE = 20


class OpeningChannels:
    """consumers: those to be started, of all channels.

    started: those that have been. later: those that the broker has refused and that are to be tried again.
    """

    def __init__(
        self,
        connection: Connection,
        topology: TopologyRegistry,
        consumers: Iterable[RecordedConsumer],
        refusals: Refusals,
    ) -> None:
        self._connection = connection
        self._topology = topology
        self._link = connection._link
        self._refusals = refusals
        self._of_channel: dict[int, list[RecordedConsumer]] = {}
        for consumer in consumers:
            self._of_channel.setdefault(consumer.channel, []).append(consumer)
        # What may have cost the attempt before comes when all else is done, one at a time, to know which it was.
        self._suspects: deque[tuple[_OneChannel, RecordedConsumer]] = deque()
        self.started: set[RecordedConsumer] = set()
        self.later: list[RecordedConsumer] = []

    def run(self) -> None:
        """Switches. Raises what ends this attempt: why the socket has ended, TimeoutError, RecoveryStopped."""
        channels: deque[Any] = deque(self._connection.channels.values())
        under_way: deque[_OneChannel] = deque()
        try:
            while channels or under_way or self._suspects:
                if self._suspects and not (channels or under_way):
                    one, suspect = self._suspects.popleft()
                    one.plan.add(suspect)
                    under_way.append(one)
                while channels and len(under_way) < AT_ONCE:
                    channel = channels.popleft()
                    if isinstance(channel, RecoveringChannel):
                        self._begin(channel, under_way)
                self._go_on(under_way)
        except BaseException as exc:
            unanswered: list[Record] = [record for one in under_way for record in one.plan.unanswered]
            self._refusals.attempt_failed(exc, unanswered)
            raise

    def _begin(self, channel: RecoveringChannel, under_way: deque[_OneChannel]) -> None:
        if channel._life.state != lifecycle.RECOVERING:
            return  # the program has closed it
        if channel.channel_id >= self._connection.channel_max:
            text = f'channel {channel.channel_id} has no place any more: channel_max is {self._connection.channel_max}'
            self._connection._report('%s: %s', repr(self._connection), text)  # its consumers may have nobody who hears
            channel._end(Reason(exceptions.ResourceError(text)))
            return
        consumers, suspects = self._refusals.blame.split(self._of_channel.get(channel.channel_id, ()))
        one = _OneChannel(self._connection, channel, ChannelPlan(self._topology, consumers, channel._prefetch))
        self._suspects.extend((one, suspect) for suspect in suspects)
        self._check_link()
        one.open()
        under_way.append(one)

    def _go_on(self, under_way: deque[_OneChannel]) -> None:
        """Send what may be sent, wait for an answer, and look at those that have come. Switches."""
        for one in list(under_way):
            self._check_link()
            if one.send():
                self._connection._green.sleep(0)  # a hundred requests, and as many replies, in a turn of the hub
        for one in under_way:
            if one.wait():
                break  # the others have got answers meanwhile
        self._check_link()
        for one in list(under_way):
            one.take_answers(self)
            if one.done:
                under_way.remove(one)

    def refused(self, consumer: RecordedConsumer, error: exceptions.AMQPError) -> None:
        """The broker does not let this consumer start. Switches if the program's callback does."""
        if self._refusals.treat(consumer, error) in ('retry', 'wait'):
            self.later.append(consumer)
        self._topology.consumer_waits(consumer)
        self.started.discard(consumer)
        self._refusals.note(consumer, error)
        channel: Any = self._connection.channels.get(consumer.channel)
        if channel is not None:
            channel._not_started_again(consumer.tag, error)

    def _check_link(self) -> None:
        """Raise why the socket has ended, if it has. Does not switch."""
        if self._link.reason is not None:
            self._link.reason.throw()


class _OneChannel:
    """One channel of the program in this attempt. plan: its consumers and limits."""

    def __init__(self, connection: Connection, channel: RecoveringChannel, plan: ChannelPlan) -> None:
        self._connection = connection
        self._channel = channel
        self.plan = plan
        # Oldest first: what is expected, and the consumer that it starts, if any.
        self._due: deque[tuple[Expected, RecordedConsumer | None]] = deque()

    @property
    def done(self) -> bool:
        return self._has_ended or (self.plan.done and not self._due)

    @property
    def _has_ended(self) -> bool:
        """Whether the program has closed it."""
        return self._channel._life.state != lifecycle.RECOVERING

    def open(self) -> None:
        """Ask for the channel and its mode. Does not switch."""
        channel = self._channel
        channel._begin_on_socket()
        self._ask(ChannelSpec.Open, ('',))
        if channel._is_confirming:
            channel._begin_confirms_again()
            self._ask(Confirm.Select, (False,), channel._on_select_ok)
        if channel._is_transactional:
            self._ask(Tx.Select, ())

    def send(self) -> bool:
        """Ask for all that may be asked for now. Returns whether there was anything. Does not switch."""
        did = False
        while not self._has_ended and (step := self.plan.next()) is not None:
            did = True
            (sig, args), consumer = step
            if consumer is None:
                self._ask(sig, args)
            else:
                self._start(consumer, args)
        return did

    def _start(self, consumer: RecordedConsumer, args: tuple[Any, ...]) -> None:
        channel, tag = self._channel, consumer.tag
        if tag not in channel._consumers:
            # Not recorded as it should be, or taken out in the last moment: nobody would get its messages.
            channel._topology.consumer_ended(consumer.channel, tag)
            self.plan.answered(tag)
            return
        channel._begin_consumer_again(tag)
        self._ask(Basic.Consume, args, self._on_consume_ok, consumer)

    def _on_consume_ok(self, reply: Any) -> None:
        """At once, since the broker may cancel the consumer again, and its next word may say so. Does not switch."""
        self.plan.answered(reply[0])
        self._channel._on_started_again(reply)

    def _ask(
        self, sig: tuple[int, int], args: tuple[Any, ...], arrived: Any = None, consumer: RecordedConsumer | None = None
    ) -> None:
        tag = None if consumer is None else consumer.tag
        expected = Expected(METHODS[sig].replies, green.Slot(self._connection._green), arrived, tag=tag)
        self._channel._ask(sig, args, expected)
        self._due.append((expected, consumer))

    def wait(self) -> bool:
        """Wait for the oldest answer. Returns whether there was one to wait for. Switches. Raises TimeoutError."""
        if not self._due:
            return False
        expected, connection = self._due[0][0], self._connection
        slot: Any = expected.slot
        if not slot.done and not connection._wait_for(slot, connection.rpc_timeout):
            name = METHODS[expected.sigs[0]].name
            raise TimeoutError(f'no {name} within {in_seconds(connection.rpc_timeout)}')
        return True

    def take_answers(self, opening: OpeningChannels) -> None:
        """Look at the answers that have come. Switches only where the program is asked about a refusal."""
        while self._due:
            expected, consumer = self._due[0]
            slot: Any = expected.slot
            if not slot.done:
                return
            self._due.popleft()
            try:
                slot.result()
            except exceptions.AMQPError as exc:
                self._due.clear()  # they have ended with the channel, as it was
                if not self._has_ended:
                    self._refused(opening, exc)
                return
            self._answered(expected, consumer, opening)

    def _answered(self, expected: Expected, consumer: RecordedConsumer | None, opening: OpeningChannels) -> None:
        if consumer is not None:
            opening.started.add(consumer)
        elif expected.sigs[0] == Basic.QosOk:
            self.plan.answered()

    def _refused(self, opening: OpeningChannels, error: exceptions.AMQPError) -> None:
        """The broker has closed the channel: it is opened again, and all but the culprit is asked for once more."""
        culprit = self.plan.refused(str(error))
        if culprit is None:
            raise error
        opening.refused(culprit, error)
        opening._check_link()
        if not self._has_ended:
            self.open()
