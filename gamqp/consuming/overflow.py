"""Keeps deliveries beyond the memory limits on disk, and hands them out when there is room again.

Layer 3. While a call waits for its reply the socket must be read even if the memory limits are reached, since the reply
may come behind megabytes of deliveries. Those go to temporary files. A connection has an Overflow from the first of
them until the last one has been handed out. In memory it keeps some numbers per consumer and none per message (16
bytes for each change from one consumer that acks to another on the same channel). Does not belong here: files, see
``spool_file``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..basic_message import Message
from ..green.yielding import AT_ONCE, TICK, in_turns
from ..state.consumers import ConsumerRecord
from ..state.queue_types import has_stream_offset
from ..state.tag_ranges import TagRanges
from .spool_file import SpoolFile

if TYPE_CHECKING:
    from .owner_protocols import ConsumerChannel, ConsumerConnection

__all__ = ('Overflow',)


class _ChannelGroup:
    """Consumers of one channel whose messages become void at the same time. dropped: they are void."""

    __slots__ = ('dropped', 'messages', 'of_callbacks', 'shares')

    def __init__(self, of_callbacks: bool) -> None:
        self.of_callbacks = of_callbacks
        self.dropped = False
        self.messages = 0
        self.shares: dict[_ConsumerShare, None] = {}


class _ConsumerShare:
    """One consumer's messages on disk, that arrived between an opening of its channel and the end of that channel."""

    __slots__ = ('_dropped', 'channel', 'consumer', 'count', 'group', 'incarnation', 'numbered', 'tag_offset', 'tags')

    def __init__(self, channel: ConsumerChannel, consumer: ConsumerRecord, group: _ChannelGroup) -> None:
        self.channel = channel
        self.group = group
        self.consumer = consumer
        self.incarnation = channel._arriving
        self.tag_offset = channel._tag_offset  # on disk are the broker's tags
        self.count = 0
        self._dropped = False
        self.tags = TagRanges()  # the delivery tags of those that need an ack
        self.numbered = TagRanges()  # the same for messages with a stream offset
        group.shares[self] = None

    @property
    def dropped(self) -> bool:
        """Whether the messages are to be ignored when they are read back."""
        return self._dropped or self.group.dropped

    def drop(self) -> None:
        """The messages are not to be handed out."""
        self._dropped = True
        self.group.messages -= self.count
        self.group.shares.pop(self, None)

    def unlink(self) -> None:
        """No message of this consumer on disk needs an ack any more."""
        known = self.channel._unacked
        known.forget_spooled(self.tags)
        known.forget_spooled(self.numbered)


class Overflow:
    """The messages that a connection has on disk. messages: how many of them will still be handed out.

    The reader calls ``put``. Nothing here switches greenlets. due: some will be handed out in the next pass of the hub.
    """

    def __init__(self, connection: ConsumerConnection) -> None:
        self.messages = 0
        self._connection = connection
        self._backpressure = connection._backpressure
        self._events = connection._event_queue
        self._spool = SpoolFile(Message, connection.max_inbound_body, self._cannot_write)
        # The latest share of each consumer. One that is dropped may stay for a while.
        self._shares: dict[ConsumerRecord, _ConsumerShare] = {}
        # (channel, whether for callbacks, whether no_ack) -> the group.
        self._groups: dict[tuple[ConsumerChannel, bool, bool], _ChannelGroup] = {}
        self._of_callbacks = 0  # how many consumers have messages here for drain_events
        # (channel number, consumer tag) -> the consumers that have had this tag and have messages here, oldest first.
        self._owners: dict[tuple[int, Any], deque[_ConsumerShare]] = {}
        self._taken: deque[Message] = deque()  # read back from disk and not handed out yet
        self._came_at = 0.0  # when those in _taken arrived
        self.due = False  # _step will be called
        self._timer: Any = None

    @property
    def bytes(self) -> int:
        """The size of the messages on disk, in bytes."""
        return self._spool.bytes

    @property
    def concerns_callbacks(self) -> bool:
        """Whether there are messages for drain_events."""
        return self._of_callbacks > 0

    def of(self, consumer: ConsumerRecord) -> int:
        """How many messages of this consumer are here."""
        share = self._shares.get(consumer)
        return 0 if share is None or share.dropped else share.count

    def holders(self) -> Iterator[tuple[int, str, int]]:
        """(channel number, consumer tag, messages) of each consumer that has some here."""
        for share in list(self._shares.values()):  # a copy: the garbage collector may end a consumer meanwhile
            if not share.dropped:
                yield share.channel.channel_id, share.consumer.tag, share.count

    # -- from the reader ---------------------------------------------------------------

    def put(self, channel: ConsumerChannel, message: Message) -> bool:
        """Store a delivery.

        Returns False if it must be handled as usual: it is no delivery, or its consumer wants none.
        """
        if self._backpressure.overflow is not self:
            return False  # closed in the middle of a batch of events, since no consumer wanted its messages
        tag: Any = message.consumer_tag  # which may be bytes, as no consumer of ours has it, or None
        consumer = channel._consumers.get(tag)
        if consumer is None or consumer.discard or not _keeps(consumer) or channel._is_of_before(message):
            return False
        share = self._shares.get(consumer)
        if share is None or share.dropped:
            share = self._begin_share(channel, consumer)
        owners = self._owners.setdefault((channel.channel_id, consumer.tag), deque())
        tags = None
        if not consumer.no_ack:
            if not consumer.books:
                channel._look_at_first(consumer, message)
            tags = share.numbered if has_stream_offset(message) else share.tags
        if share.dropped or self._backpressure.overflow is not self:
            # The lines above may have run the garbage collector, which may have ended this consumer. The lines
            # below allocate nothing until the message is counted, so it cannot run in between.
            return False
        if not share.count:
            owners.append(share)
        if tags is not None:
            if not tags:
                channel._unacked.add_spooled(tags)
            tags.add(message.delivery_tag + share.tag_offset)
        channel._note_arrival(message)
        share.count += 1
        share.group.messages += 1
        self.messages += 1
        self._spool.put(message, self._connection._link.heartbeat_clock.heard_at)
        if message.redelivered:
            self._connection._counts.redelivered += 1
        return True

    def _begin_share(self, channel: ConsumerChannel, consumer: ConsumerRecord) -> _ConsumerShare:
        key = channel, consumer.inbox is None, bool(consumer.no_ack)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _ChannelGroup(consumer.inbox is None)
        share = self._shares[consumer] = _ConsumerShare(channel, consumer, group)
        self._of_callbacks += group.of_callbacks
        return share

    def _cannot_write(self, error: OSError) -> None:
        connection = self._connection
        if not self._backpressure.spool_failed:
            self._backpressure.spool_failed = True
            text = '%s: deliveries beyond the budget cannot be written to a temporary file and stay in memory: %s'
            connection._report(text, repr(connection), str(error))

    # -- handing out --------------------------------------------------------------------

    def come_back(self) -> None:
        """Hand out messages in the next passes of the hub, some in each, while there is room. Does not switch."""
        if not self.due:
            self.due = True
            self._timer = self._connection._green.call_later(TICK, self._step)

    def _step(self) -> None:
        self.due = False
        self._timer.cancel()
        connection = self._connection
        if self._backpressure.overflow is not self or not self._backpressure.budget.relaxed:
            return
        try:
            taken = self._taken
            if not taken:
                messages, self._came_at = self._spool.take()
                taken.extend(messages)
            for _ in range(min(len(taken), AT_ONCE)):
                if self._backpressure.overflow is not self:
                    break  # the garbage collector ended the last consumer that wanted messages
                self._hand_over(taken.popleft(), self._came_at)
        except OSError as exc:
            connection._link.lose(exc)
            return
        except BaseException as exc:
            connection._link.lose(exc)  # a bug in gamqp: the messages in _taken would be lost without an error
            raise
        self._events.wake_drainers()
        if not self.messages or not (self._spool or self._taken):
            self.close()
        self._backpressure.freed()

    def _hand_over(self, message: Message, came_at: float) -> None:
        key = message._channel_id, message.consumer_tag
        share = self._owners[key][0]
        share.count -= 1
        dropped = share.dropped
        if not dropped:
            self.messages -= 1
            share.group.messages -= 1
        if not share.count:
            self._forget(key, share)
        if dropped:
            return
        if share.tag_offset:
            message.delivery_tag += share.tag_offset
        channel, consumer, tag = share.channel, share.consumer, message.delivery_tag
        message.channel = channel
        if share.incarnation:
            message._incarnation = share.incarnation
        message._auto_decode = channel.auto_decode
        awaited = consumer.no_ack
        if share.tags.take(tag) or share.numbered.take(tag):
            channel._unacked.come_back(tag, (consumer.tag, came_at))
            awaited = True
        if not share.count:
            share.unlink()
        if not awaited:  # settled meanwhile, by an ack or nack with *multiple*
            if consumer.inbox is not None:
                consumer.inbox.spool_lost()
            self._events.wake_finishing()
        elif consumer.inbox is not None:
            consumer.inbox.put(message)
        else:
            self._events.on_delivery(consumer, message)

    def _forget(self, key: tuple[int, Any], share: _ConsumerShare) -> None:
        """The last message of this share has been read back."""
        owners = self._owners[key]
        owners.popleft()
        if not owners:
            del self._owners[key]
        if not share.dropped:
            del self._shares[share.consumer]
            del share.group.shares[share]
            self._of_callbacks -= share.group.of_callbacks

    # -- dropping -----------------------------------------------------------------------------

    def drop(self, consumer: ConsumerRecord) -> None:
        """Forget the messages of a consumer, which the broker requeues, or which cannot be handed out any more."""
        share = self._shares.get(consumer)
        if share is not None and not share.dropped:
            self._drop(share)
            share.unlink()
            self._settle_down()

    def withdraw(self, consumer: ConsumerRecord) -> None:
        """Have the broker requeue the messages of a consumer. Those that need no ack are dropped."""
        share = self._shares.get(consumer)
        if share is not None and not share.dropped:
            self._drop(share)
            if self._give_back(share):
                self._connection._green.spawn(self._give_back_rest, share, self._connection._link)
            self._settle_down()

    def forget_channel(self, channel: ConsumerChannel, all_of_callbacks: bool = True) -> None:
        """Forget the messages of a channel that the broker requeues. No_ack messages of iterators and handlers stay.

        all_of_callbacks: forget also the no_ack messages of callbacks, since the channel ends.
        """
        channel._unacked.drop_spooled()
        for of_callbacks, no_ack in ((True, False), (False, False), (True, True)):
            if no_ack and not all_of_callbacks:
                break
            group = self._groups.pop((channel, of_callbacks, no_ack), None)
            if group is not None:
                group.dropped = True  # from now on all its shares count as dropped; they are removed in steps
                self.messages -= group.messages
                if of_callbacks:
                    self._of_callbacks -= len(group.shares)
                in_turns(self._connection._green, self._remove(group))
        self._settle_down()

    def _remove(self, group: _ChannelGroup) -> Iterator[None]:
        while group.shares:
            share, _ = group.shares.popitem()
            if self._shares.get(share.consumer) is share:  # the consumer may have a new share by now
                del self._shares[share.consumer]
            yield

    def _drop(self, share: _ConsumerShare) -> None:
        self.messages -= share.count
        self._of_callbacks -= share.group.of_callbacks
        del self._shares[share.consumer]
        share.drop()

    def _settle_down(self) -> None:
        """Close the files if no message in them is wanted any more."""
        if self._backpressure.overflow is self and not self.messages:
            self.close()
            self._backpressure.freed()

    def _give_back(self, share: _ConsumerShare) -> bool:
        """Have the broker requeue some of the messages. Returns whether more are left."""
        channel, of_stream = share.channel, share.consumer.of_stream
        for tags, numbered in ((share.tags, False), (share.numbered, True)):
            if numbered and not of_stream and not self._connection._queue_types.takes_nack_of_any:
                break  # they may be of a stream, which refuses a nack; they stay unsettled, see Channel._give_back
            for _ in range(AT_ONCE):
                if not tags:
                    break  # also when a send fails: the link has ended then, and all tags are gone
                channel._give_back_tag(tags.pop(), share.incarnation, numbered, of_stream)
            if tags:
                return True
        if not share.numbered or share.consumer.numbered:
            share.unlink()
        return False

    def _give_back_rest(self, share: _ConsumerShare, link: Any) -> None:
        """Body of a greenlet: have the rest requeued, as fast as the socket takes the nacks."""
        while link.reason is None:
            self._connection._green.sleep(0)
            if link.writer.wait_for_room(None) and not self._give_back(share):
                return

    # -- the end --------------------------------------------------------------------------

    def close(self) -> None:
        """Close the files, and wake the greenlets that wait for messages from here. Does not switch."""
        if self._backpressure.overflow is not self:
            return
        self._backpressure.overflow = None
        self.messages = 0
        shares, self._shares = self._shares, {}
        self._groups.clear()
        self._of_callbacks = 0
        self._owners.clear()
        self._taken.clear()
        self._spool.close()
        in_turns(self._connection._green, self._notify(shares))
        self._events.wake_finishing()

    def _notify(self, shares: dict[ConsumerRecord, _ConsumerShare]) -> Iterator[None]:
        while shares:
            consumer, _ = shares.popitem()
            if consumer.inbox is not None:
                consumer.inbox.spool_lost()
            yield


def _keeps(consumer: ConsumerRecord) -> bool:
    """Whether messages of this consumer may wait; False if each must be handled when it arrives."""
    return consumer.callback is not None if consumer.inbox is None else consumer.inbox.keeps
