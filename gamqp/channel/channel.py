"""Channel: one conversation with the broker inside a connection.

Layer 3. The operations are in ``gamqp.channel``, one file per AMQP class; this
file holds what a channel is: its life, and what arrives for it. What the reader
calls here (``_on_…``) never switches greenlets and never runs user code. Does not belong here: what concerns the
whole connection.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .. import exceptions
from ..consuming.inbox import complete_ends
from ..state import lifecycle
from ..state.argument_checks import optional_timeout
from ..state.consumer_views import NoAckTags
from ..state.consumers import ConsumerTable
from ..state.earlier_channel import EarlierChannel
from ..state.error_hints import add_hint, name_consumer
from ..state.expected_replies import Replies
from ..state.lifecycle import Lifecycle, Reason
from ..state.prefetch import NO_PREFETCH
from ..state.returned_messages import PendingReturns
from ..state.stream_consumers import StreamConsumers
from ..state.unacked import Unacked, WideUnacked
from ..state.void_deliveries import VoidDeliveries
from ..wire import encode_method
from ..wire.spec import Basic
from ..wire.spec import Channel as ChannelSpec
from .basic_publish import PublishMethods
from .channel_flow import ChannelPause
from .consume_and_subscribe import SubscribeMethods
from .event_handler_calls import EventHandlerCalls
from .events import EventHandlers
from .exchange import ExchangeMethods, VDeprecationWarning
from .queue import QueueMethods
from .reopening import Reopening
from .tx import TxMethods
from .waiting_for_confirms import ChannelConfirms

if TYPE_CHECKING:
    from ..connection.connection import Connection

__all__ = ('Channel', 'VDeprecationWarning')


class Channel(Reopening, ExchangeMethods, QueueMethods, SubscribeMethods, PublishMethods, TxMethods):
    """Made by ``Connection.channel()``. Any number of greenlets may use it at the same time.

    connection: the Connection. channel_id: its number, None takes a free one. Both
    attributes are None at the end. auto_decode: bodies that name a content_encoding
    are given as str. on_open: called with the channel when it is open.
    """

    # The state of a channel is given its first value here and in __init__, and nowhere in the classes that its methods
    # come from. Here is what most channels never change: an object with more than 30 attributes keeps their names for
    # itself, which takes a kilobyte and a longer way to each of them. All channels of a program share the 30: an
    # attribute that has its value from the class is not set to the same again.
    _altered = False  # by tx_select or a global basic_qos, which no later call takes back; for ``reuse``
    _asking = False
    _consumers_lost: Reason | None = None  # drain_events raises it, whoever else gets it
    _declared = ''  # the queue that was declared last on this channel, which '' stands for
    _earlier: EarlierChannel | None = None  # made when frames for another channel with this number may still arrive
    _event_handler_calls: EventHandlerCalls | None = None  # made when one is due
    _events: defaultdict[str, EventHandlers] | None = None  # made when the program asks for ``events``
    _owes_close_ok = False  # the broker closed while we did
    _prefetch = NO_PREFETCH  # forgotten when the channel begins anew
    _published_before = 0  # on all channels of the connection, when the present use began; for ``reuse``
    _return_taker: Any = None  # who is asked first about a message that came back: the inbox of an RPC client
    _returned: PendingReturns | None = None  # made when somebody looks at ``returned_messages``
    _sent_unanswered = False
    _streams: StreamConsumers | None = None  # made with the first consumer that reads one
    _tag_offset = 0  # what is added to the broker's delivery tags, where they go on from one socket to the next
    _void: VoidDeliveries | None = None  # made when deliveries that wait here may be void

    def __init__(
        self,
        connection: Connection,
        channel_id: int | None = None,
        auto_decode: bool = True,
        on_open: Callable[[Channel], object] | None = None,
    ) -> None:
        channel_id = self._take_number(connection, channel_id)
        self.connection: Connection | None = connection
        self.channel_id = channel_id
        self._number = channel_id  # the same, and still there when the channel has ended
        self.auto_decode = auto_decode
        self.on_open = on_open
        self._incarnation = 0  # how often all delivery tags became void: it was reopened, or told to recover
        self._arriving = 0  # the incarnation of what arrives, which is behind until recover-ok
        self.outstanding_limit = connection.outstanding_limit
        self._connection: Connection = connection  # for us; the public one becomes None at the end, as py-amqp's
        self._writer = connection._link.writer
        self._event_queue = connection._event_queue
        self._heartbeat_clock = connection._link.heartbeat_clock
        self._life = Lifecycle()
        self._replies = Replies()
        self._consumers = ConsumerTable()
        self._unacked: Unacked | WideUnacked = Unacked()
        self._counts = connection._counts
        self._usable_in: int | None = None
        # These two are here and not above, since each publish reads them, which is quicker from the object itself.
        self._confirms: ChannelConfirms | None = None  # made for the first receipt, or when confirm mode is turned on
        self._pause: ChannelPause | None = None  # there is one while the broker takes no messages on this channel
        self._unraised: Reason | None = None
        connection.channels[channel_id] = self
        if channel_id in connection._closes_due:
            self._wait_for_close_ok()

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self._number} {self._life.state} of {self._connection!r}>'

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _take_number(self, connection: Connection, wanted: int | None) -> int:
        """The number of a new channel. Raises why the connection cannot have another one. Does not switch."""
        connection._check_open()
        if not wanted:
            return connection._channel_ids.take()
        connection._channel_ids.claim(wanted)
        return wanted

    # -- life --------------------------------------------------------------------

    @property
    def no_ack_consumers(self) -> NoAckTags:
        """Tags of the consumers whose messages need no ack, as a read-only set.

        ``in`` also knows those that were cancelled a short while ago, because
        messages of theirs may still be handed out.
        """
        return NoAckTags(self._consumers)

    def open(self) -> None:
        """Open the channel; ``Connection.channel`` has done so. Switches greenlets.

        Raises the connection's error, or TimeoutError. A caller that is killed
        meanwhile leaves no channel behind.
        """
        self._connection._affinity.check()
        if self._life.state in (lifecycle.OPENING, lifecycle.OPEN):
            return  # what is sent while it is being reopened stands behind channel.open
        if self._life.state != lifecycle.NEW:
            raise self._life.error_maker(f'channel {self._number} is {self._life.state}')()  # its number is gone
        self._life.move('open')
        self._call(ChannelSpec.Open, ('',), arrived=self._on_open_ok, undo=self._give_up)
        if self.on_open is not None:
            try:
                self.on_open(self)
            except BaseException:
                if self._was_opened:  # nobody gets it
                    self._begin_close(0, '', (0, 0), wait=False)
                raise

    def _on_open_ok(self, reply: Any) -> None:
        self._hear_all()
        self._connection._closes_due.discard(self.channel_id)
        if self._life.state == lifecycle.OPENING:
            self._life.move('opened')
            self._usable_in = self._connection._affinity.thread if self._unraised is None else None

    def _give_up(self, reply: Any) -> None:
        """open-ok has come for a caller that is gone."""
        if self._life.state == lifecycle.OPEN:
            self._begin_close(0, '', (0, 0), wait=False)

    def close(
        self,
        reply_code: int = 0,
        reply_text: str = '',
        method_sig: tuple[int, int] = (0, 0),
        argsig: object = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """Close the channel; the broker requeues what is unacked. Closing twice does nothing.

        timeout: seconds to wait for the broker's consent, None for the connection's
        rpc_timeout, and for 3 while the broker takes no messages: then it answers nothing.
        Raises TimeoutError; the channel has ended all the same. Switches greenlets.
        """
        timeout = optional_timeout('timeout', timeout)
        self._connection._affinity.check()
        if self._was_opened:  # one that is being reopened too: its close goes out behind the open
            self._begin_close(reply_code, reply_text, method_sig, wait=True, timeout=timeout)

    def _begin_close(
        self, code: int, text: str, method_sig: tuple[int, int], wait: bool, timeout: float | None = None
    ) -> None:
        args = (code, text, *method_sig)
        encode_method(self.channel_id, ChannelSpec.Close, args)  # refuse bad arguments before anything changes
        self._life.move('close')
        self._usable_in = None
        self._unraised = None
        self._forget_deliveries()
        ending = timeout is None
        try:
            self._call(ChannelSpec.Close, args, arrived=self._on_close_ok, wait=wait, timeout=timeout, ending=ending)
        except BaseException:
            self._end_unanswered()
            raise

    def _end_unanswered(self) -> None:
        """Nobody waits for close-ok any more, which may never come: end without it."""
        if self._life.state == lifecycle.CLOSING:
            self._send_owed_close_ok()
            self._connection._closes_due.add(self.channel_id)
            self._end(self._closed_reason())

    def _on_close_ok(self, reply: Any) -> None:
        self._send_owed_close_ok()
        self._end(self._closed_reason())

    def _closed_reason(self) -> Reason:
        return Reason(exceptions.RecoverableConnectionError(f'channel {self._number} is closed'), clean=True)

    def collect(self) -> None:
        """Forget everything without talking to the broker. Does not switch."""
        self._connection._affinity.check()
        self._end(self._closed_reason())

    def _end(self, reason: Reason) -> None:
        if not self._life.end(reason):
            return
        self._usable_in = None
        self._drop(reason)
        self._unraised = None
        if self._consumers_lost is not None:
            self._consumers_lost = None
        if self._event_handler_calls is not None:
            self._event_handler_calls.pending.clear()
        if self._events is not None:
            self._events.clear()
        self._connection._forget_channel(self)
        self.connection = self.channel_id = None

    def _drop(self, reason: Reason, unheard: Callable[[], Any] | None = None) -> None:
        """What the broker knows no more: consumers, confirms, replies.

        unheard: called when it turns out that no greenlet waits for a confirm, perhaps some turns of the hub later.
        """
        topology = self._connection._topology
        if topology is not None:
            topology.channel_closed(self._number)
        if self._consumers.end_term(reason):
            self._return_taker = None
            self._connection._work_in_turns.add(complete_ends(self, self._inboxes(), self._incarnation))
        self._forget_deliveries()
        self._consumers.clear()
        self._unacked.drop_spooled()
        self._unacked.clear()
        self._prefetch = NO_PREFETCH
        if self._streams is not None:
            self._streams = None
        if self._declared:
            self._declared = ''
        self._connection._work_in_turns.add(self._replies.fail_all(reason.make_error))
        self._connection._work_in_turns.add(self._fail_cancels(reason.make_error))
        if self._confirms is not None:
            self._confirms.end(reason, unheard)
        elif unheard is not None:
            unheard()
        self._set_active(True)

    def _on_connection_end(self, reason: Reason) -> None:
        topology = self._connection._topology
        if topology is not None:
            topology.drop_consumers(self._number)  # a queue that goes with them may be declared again
        self._end(reason)

    # -- from the reader ---------------------------------------------------------------

    def _on_method(self, sig: tuple[int, int], args: tuple[Any, ...]) -> None:
        handler = self._HANDLERS.get(sig)
        if handler is not None:
            handler(self, *args)
        else:
            self._on_reply(sig, args)

    def _on_content(self, message: Any) -> None:
        """A complete deliver, return or get-ok."""
        message.channel = self
        if self._arriving:
            if self._is_of_before(message):
                return
            message._incarnation = self._arriving
            self._note_arrival(message)
            if self._tag_offset and message.delivery_tag:
                message.delivery_tag += self._tag_offset
        message._auto_decode = self.auto_decode
        if message.redelivered:
            self._counts.redelivered += 1
        consumer = self._consumers.get(message.consumer_tag)
        if consumer is not None and not consumer.discard:
            if not consumer.no_ack:
                self._unacked[message.delivery_tag] = (consumer.tag, self._heartbeat_clock.heard_at)
                if not consumer.books:
                    self._look_at_first(consumer, message)
            if consumer.inbox is not None:
                consumer.inbox.put(message)
            elif consumer.callback is not None:
                self._event_queue.on_delivery(consumer, message)
        elif self._is_reopening:
            pass  # for the channel that had the number before
        elif message._method == Basic.Deliver:
            if consumer is None:
                self._connection._count_answer()
                self._on_stray(message)
            elif not consumer.no_ack:
                self._connection._count_answer()
                self._give_back(message, consumer.of_stream)
        elif message._method == Basic.Return:
            self._on_return(message)
        else:
            self._on_reply(message._method, message)

    def _on_stray(self, message: Any) -> None:
        """A delivery to no consumer of ours. A few may be under way when one has ended."""
        if self._consumers.is_stray(message.consumer_tag):
            self._connection._report(
                '%s: the broker goes on delivering to consumer %r, which has ended; the messages are given back',
                repr(self),
                message.consumer_tag,
            )
        self._give_back(message)

    def _on_close(self, code: int, text: str, class_id: int, method_id: int) -> None:
        """The broker closed the channel: say so to whom it concerns, and open it again."""
        error = exceptions.error_for_code(code, text, (class_id, method_id), exceptions.ChannelError)
        reason = Reason(name_consumer(add_hint(error), self._unacked.oldest()))
        if self._life.state == lifecycle.CLOSING:
            # Both sides closed at once. RabbitMQ answers our own close late, or never, when
            # it gets our close-ok first: so that one has to wait until the answer is here.
            self._owes_close_ok = True
            self._hear_all()
            self._connection._work_in_turns.add(self._replies.fail_all(reason.make_error, but=ChannelSpec.CloseOk))
            return
        if not self._was_opened:
            # In answer to the first channel.open: nobody has this channel, so it need not be opened again.
            self._writer.send(encode_method(self.channel_id, ChannelSpec.CloseOk, ()))
            self._end(reason)
            return
        self._usable_in = None  # from here on nothing must be sent before channel.open
        self._connection._count_answer()
        self._writer.send(encode_method(self.channel_id, ChannelSpec.CloseOk, ()))
        queue = self._event_queue
        if self._has_callbacks and (queue.drainers_idle or queue.handlers_running):
            # Who gets the error from a call of its own need not be the greenlet that waits for these messages.
            self._consumers_lost = reason
            self._due_calls.flag()
        # Nobody waits for what the broker refused, or for the consumers that it has ended with the channel:
        # it comes out of some later call, or of none at all.
        text, number = 'channel %s was closed by the broker and is reopened: %s', self.channel_id
        report = functools.partial(self._connection._report, text, number, str(reason))
        heard = self._is_heard
        is_raised = heard or (self._confirms is not None and self._confirms.has_waiters)
        unheard = any(inbox.is_unheard for inbox in self._inboxes())
        self._drop(reason, None if heard or unheard else report)
        if unheard:
            report()
        if not is_raised:
            self._unraised = reason
            self._due_calls.flag()
        if self._life.state == lifecycle.OPEN:
            self._life.move('reopen')
        self._reopen()

    @property
    def _is_heard(self) -> bool:
        """Whether an error would be raised to somebody: in a call, or where messages are waited for."""
        return (
            self._replies.awaited
            or self._consumers.awaits_cancels
            or (self._confirms is not None and self._confirms.has_barriers)
            or any(inbox.has_hearer for inbox in self._consumers.inboxes.values())
        )

    def _on_closed(self) -> None:
        """close-ok, the last word on this channel: what is expected in front of it will not come."""
        if self._replies.due(ChannelSpec.CloseOk):
            make_error = self._closed_reason().make_error
            self._connection._work_in_turns.add(self._replies.fail_all(make_error, but=ChannelSpec.CloseOk))
        self._on_reply(ChannelSpec.CloseOk, ())

    _HANDLERS: Mapping[tuple[int, int], Callable[..., None]] = {
        ChannelSpec.Close: _on_close,
        ChannelSpec.CloseOk: _on_closed,
        ChannelSpec.Flow: PublishMethods._on_flow,
        Basic.Cancel: SubscribeMethods._on_cancel,
        Basic.Ack: PublishMethods._on_ack,
        Basic.Nack: PublishMethods._on_nack,
    }
