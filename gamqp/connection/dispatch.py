"""What arrives on a connection, and who gets it.

Layer 4, base class of Connection. The reader calls the ``on_…`` methods. They put what arrived where it
belongs and wake the greenlets that wait for it; they never switch greenlets and run no code of the program.
A reply or a confirm goes to its slot at once, also if deliveries before it still wait for drain_events.
Does not belong here: the objects that hold what waits (``event_queue``, ``receive_backpressure``, ``flow_control``).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .. import exceptions
from ..channel.channel import Channel
from ..channel.request import Requester
from ..io.link import Link
from ..recovery import loss
from ..recovery.engine import RecoveryEngine
from ..state import lifecycle, negotiation
from ..state.channel_ids import ChannelIds
from ..state.counters import Counters
from ..state.error_hints import add_hint
from ..state.expected_replies import Replies
from ..state.lifecycle import Lifecycle, Reason
from ..state.peer_memory_limit import ANSWER_SIZE, PeerMemory, UnreadAnswers
from ..state.queue_types import QueueTypes
from ..state.receive_budget import ReceiveBudget
from ..state.topology_registry import TopologyRegistry
from ..telemetry import tracing
from ..telemetry.log_fields import log_fields
from ..wire import encode_method, end_of_run
from ..wire.spec import Channel as ChannelSpec
from ..wire.spec import Connection as Spec
from .callable_passwords import CallablePasswords
from .event_queue import EventQueue
from .external_event_loop import ExternalEventLoop
from .flow_control import FlowControl
from .reader_warnings import ReaderWarnings
from .receive_backpressure import ReceiveBackpressure
from .run_in_hub import RunInHub
from .setting_attributes import SettingAttributes
from .thread_affinity import NOWHERE, ThreadAffinity
from .unfinished_handlers import UnfinishedHandlers
from .while_open import WhileOpen
from .work_in_turns import WorkInTurns

__all__ = ('Dispatch', 'OpenChannels')


class OpenChannels:
    """The numbers of a connection's channels, for its decoder, which must not keep the connection."""

    def __init__(self, connection: Dispatch) -> None:
        self._connection_ref = weakref.ref(connection)

    def __contains__(self, number: int) -> bool:
        connection = self._connection_ref()
        return connection is not None and number in connection.channels


class Dispatch(SettingAttributes, RunInHub, ExternalEventLoop, Requester):
    """The receiving half of a connection, and channel 0."""

    #: A Tracing, or None; set by ``telemetry.tracing.install``.
    _tracing: Any = None

    # Connection.__init__ sets these, after the constructor below has run. Nothing below reads them before connect().
    _channel_ids: ChannelIds
    server_properties: dict[str, Any]
    max_inbound_body: int
    rpc_timeout: float
    unsettled_warning: float | None
    spool: bool

    def __init__(self, budget: ReceiveBudget) -> None:
        super().__init__()
        # These three belong to one connect() and are replaced by the next. They stay after the end: a call that comes
        # late, or wakes late, gets its error from them.
        self._affinity = NOWHERE
        self._green: Any = None
        self._link: Any = None
        self.channel_id = 0
        # Number -> channel, from before channel.open is sent until the channel has ended. A channel that the broker
        # closed stays here: it is opened again with the same number. The decoder keeps no content for other numbers.
        self.channels: dict[int, Channel] = {}
        # A number leaves with its close-ok, or with the open-ok of the next channel that has it. Until then the next
        # channel must expect frames that are not its own.
        self._closes_due: set[int] = set()  # numbers of channels that have ended without an answer to their close
        # Moved in _begin, connecting._note_opened, shutdown.close and _end, and nowhere else.
        self._life = Lifecycle()
        # Of channel 0: the replies that the handshake, close and update_secret wait for. Empty again after each end.
        self._replies = Replies()
        self._asking = self._sent_unanswered = False
        # Over all sockets of this object: connect() does not reset them, and a forked child does.
        self._counts = Counters()
        # In this order: each object takes those above it that it uses. Each holds the connection weakly or not at
        # all, and so adds no reference cycle.
        self._work_in_turns = WorkInTurns()
        self._backpressure = ReceiveBackpressure(self, budget)
        self._flow_control = FlowControl(self, self._counts, self._backpressure)
        self._event_queue = EventQueue(self, self._backpressure, self._work_in_turns)
        self._unfinished_handlers = UnfinishedHandlers(self, self._event_queue, self._flow_control)
        self._queue_types = QueueTypes()  # as far as this connection knows them
        self._topology: TopologyRegistry | None = None  # what is declared again after a loss, where that is asked for
        self._log = ReaderWarnings()
        self._passwords = CallablePasswords()  # of the latest connect()
        self._while_open = WhileOpen()
        # The object of the latest connect(). A connect() that wakes from a wait and finds another one here has been
        # overtaken, and must not touch what the other one made.
        self._attempt: object = None
        # What opens it again after a loss; None without ``recover``.
        self._recovery: RecoveryEngine | None = None

    # -- opening -----------------------------------------------------------------------

    def _begin(self, backend: ModuleType) -> object:
        """Forget the socket before, and begin to open a new one. Returns an object that identifies this attempt."""
        # The first line that changes anything: it raises for a connection that is open or being opened.
        self._life.move('open')
        self._affinity = ThreadAffinity(backend)
        self._green = backend
        self._begin_link()
        self._unfinished_handlers.draining = False
        if self._recovery is not None:
            self._recovery.begin()
        # Nothing above switches, so no other greenlet has seen a state between.
        return self._begin_attempt()

    def _begin_attempt(self) -> object:
        """Returns an object that identifies the attempt that begins. Does not switch."""
        # A connect() that has been overtaken still asks its callables, and forgets what they gave.
        self._passwords = CallablePasswords()
        self._attempt = object()
        return self._attempt

    def _begin_link(self) -> None:
        """There will be another socket: what is new for each. Does not switch."""
        # A connection that recovers keeps what is not the socket's: messages, and greenlets that wait for more.
        if self._life.state != lifecycle.RECOVERING:
            # While the event queue still has the old link: it closes the poll descriptor of the old socket.
            self._event_queue.forget_loss()
            self._link = None
            for part in (self._work_in_turns, self._backpressure, self._flow_control, self._event_queue):
                part.begin(self._green)
        self._queue_types = QueueTypes()
        # The broker forgets channels with their socket.
        self._closes_due.clear()
        # Made before the decoder, which gets it; what the old decoder holds is dropped with that.
        self._peer_memory = PeerMemory(self.max_inbound_body)
        self._answers = UnreadAnswers(self._peer_memory)

    def _use_link(self, link: Link) -> None:
        """The socket is there."""
        # All four at once: they must agree on which socket is the present one.
        self._link = self._backpressure.link = self._flow_control.link = self._event_queue.link = link
        link.writer.keeps_unsent = self._recovery is not None

    def _check_opening(self, attempt: object) -> None:
        """Raise if another greenlet closed the connection meanwhile, or the link was lost."""
        if self._attempt is not attempt or self._life.state not in (lifecycle.OPENING, lifecycle.RECOVERING):
            raise self._life.error_maker('the connection was closed while it was being opened')()

    def _give_up(self, attempt: object, error: BaseException) -> None:
        """The attempt has failed: end the connection, unless a later attempt has begun."""
        if self._attempt is attempt:
            if not isinstance(error, exceptions.AMQPError):
                error = exceptions.RecoverableConnectionError(f'could not connect: {error}')
            # A copy without the traceback, whose frames would be kept.
            self._end(Reason(Reason(error).make_error()))

    def _set_limits(self, channel_max: int, frame_max: int) -> None:
        """Use the limits that were agreed on in connection.tune."""
        self.channel_max = channel_max
        self.frame_max = frame_max
        # The highest number is that of our own channel where the connection recovers (``recovery.own_channel``).
        limit = negotiation.channels_for_program(channel_max, self._recovery is not None)
        self._channel_ids = ChannelIds(limit)
        # Only a connection that recovers has channels already. One whose number is too high now ends in ``restoring``.
        for number in self.channels:
            if number <= limit:
                self._channel_ids.claim(number)
        # Until now a larger limit held. RabbitMQ sends nothing behind tune before it has tune-ok, so no frame is
        # measured by the wrong one.
        self._link.decoder.frame_max = frame_max

    # -- what Requester asks ---------------------------------------------------------

    @property
    def _connection(self) -> Any:
        return self

    def _check(self, sig: tuple[int, int]) -> None:
        # shutdown.close moves the state to CLOSING and then sends connection.close by _call, which comes here.
        if sig != Spec.Close:
            self._check_open()

    def _check_open(self, link: Any = None) -> None:
        """Raise why the connection cannot be used, if it cannot. Does not switch.

        link: the one on which a call began that has waited since. Raise why it ended, also if the connection was opened
        again meanwhile.
        """
        self._affinity.check()
        if link is not None and link.reason is not None:
            outlived = self._recovery is not None and self._life.state in (lifecycle.OPEN, lifecycle.RECOVERING)
            (loss.reason_for_waiters(link.reason) if outlived else link.reason).throw()
        if self._life.state != lifecycle.OPEN:
            if self._life.state == lifecycle.NEW:
                raise exceptions.RecoverableConnectionError(
                    'the connection is not open: call its connect() first, or make it by gamqp.connect(url)'
                )
            raise self._life.error_maker(f'the connection is {self._life.state}')()

    @property
    def server_capabilities(self) -> dict[str, Any]:
        capabilities = self.server_properties.get('capabilities')
        return capabilities if isinstance(capabilities, dict) else {}

    @property
    def is_blocked(self) -> bool:
        """Whether the broker takes no messages at present (a resource alarm)."""
        return self._flow_control.blocked_reason is not None

    def _run_handler(self, handler: Callable[[Any], Any], message: Any) -> None:
        """Call the program's handler or callback of a message. Switches if that does."""
        # The flag of the module first: it is False in most programs, and this is asked for each message.
        if tracing.installed and self._tracing is not None:
            self._tracing.process(self, message, handler)
        else:
            handler(message)

    # -- from the reader --------------------------------------------------------------

    def _on_events(self, events: list[Any]) -> None:
        """One batch from the decoder."""
        # Not a copy: a method in this batch may end a channel, and what follows for its number must not find it.
        channels = self.channels
        # Asked once a batch, not for each message: the batch is in memory anyway.
        overflow = self._backpressure.overflow_if_due()
        methods = at = stop = 0
        while at < len(events):
            event = events[at]
            at += 1
            if type(event) is tuple:
                methods += 1
                channel_id, sig, args = event
                if not channel_id:
                    self._on_own_method(sig, args)
                elif channel_id in channels:
                    # Raises an AMQPError for a fault of the peer, with which the reader ends the connection.
                    channels[channel_id]._on_method(sig, args)
                elif sig == ChannelSpec.Close:
                    # A close that crossed ours must be answered all the same.
                    self._count_answer()
                    self._link.writer.send(encode_method(channel_id, ChannelSpec.CloseOk, ()))
                elif sig == ChannelSpec.CloseOk:
                    # The late answer to a close that was given up. All else that comes for such a number is dropped.
                    self._closes_due.discard(channel_id)
            else:
                # Deliver, return or get-ok. Deliveries to one consumer that follow one another are handled together.
                channel = channels.get(event._channel_id)
                if channel is not None and at > stop and overflow is None:
                    stop = end_of_run(events, at - 1)
                    if stop > at and channel._on_run(events[at - 1 : stop]):
                        at = stop
                        continue
                # Only deliveries go to disk; put() returns False for the others.
                if channel is not None and (overflow is None or not overflow.put(channel, event)):
                    channel._on_content(event)
            # An event has ended the link (a close, or a fault of the peer): what stands behind it is void.
            if self._link.reason is not None:
                break
        # Both once a batch, and behind the loop: a greenlet that wakes finds all events and not only the first.
        self._counts.delivered += len(events) - methods
        self._event_queue.wake_drainers()

    def _on_protocol_error(self, error: Any) -> None:
        """The broker broke the protocol: send it connection.close with the rule, and end without its answer."""
        text = str(error.reply_text).encode()[:200].decode(errors='ignore')  # a short string has 255 bytes
        args = (error.reply_code or 501, text, *(error.method_sig or (0, 0)))
        self._link.writer.send(encode_method(0, Spec.Close, args))
        # Losing the link sends what the kernel takes at once, and so in most cases this close.
        self._link.lose(error)

    def _count_answer(self) -> None:
        """The reader is about to send what the peer asks for. Raises ResourceError where the peer reads no answers."""
        self._answers.add(ANSWER_SIZE, self._counts.bytes_out, self._link.writer.queued)

    def _count_return(self, message: Any) -> None:
        """A message has come back. Raises UnexpectedFrame when more come back than were published."""
        # published and bytes_out count earlier sockets too, the peer's memory this one alone: so the limit may be too
        # high, and is never too low.
        counts = self._counts
        counts.returned += 1
        self._peer_memory.note_return(message._weight, counts.published, counts.bytes_out)

    def _report(self, text: str, *args: Any) -> None:
        """Log a warning from the reader: in a greenlet of its own, since a log handler is user code and may wait."""
        self._log.warn(self._green.spawn, text, args, log_fields(self))

    def _show_events(self) -> None:
        """The reader reads on: a reason less to call drain_events."""
        self._event_queue.show()

    def _on_own_method(self, sig: tuple[int, int], args: tuple[Any, ...]) -> None:
        if sig == Spec.Close:
            self._on_close(*args)
        elif sig == Spec.Blocked:
            # RabbitMQ sends this when an alarm is raised and this connection publishes. It reads nothing from the
            # socket then, and so answers nothing, until unblocked.
            self._flow_control.on_blocked(exceptions.as_text(args[0]))
        elif sig == Spec.Unblocked:
            self._flow_control.on_unblocked()
        else:
            self._on_reply(sig, args)

    def _on_close(self, code: int, text: str, class_id: int, method_id: int) -> None:
        # Before the link is lost: losing it closes the writer, which sends what is queued first.
        self._link.writer.send(encode_method(0, Spec.CloseOk, ()))
        error = exceptions.error_for_code(code, text, (class_id, method_id), exceptions.ConnectionError)
        self._link.lose(self._with_login_hint(error) if self._life.state == lifecycle.OPENING else add_hint(error))

    # -- the end -------------------------------------------------------------------------

    def _on_link_end(self, link: Link, reason: Reason) -> None:
        # A link of an earlier connect() must not end what was opened since.
        if link is not self._link:
            pass
        elif self._life.state == lifecycle.OPENING and not reason.clean:
            # Whoever opens the connection goes on to the next host if there is one. Clean is the end of the process,
            # or a fork. A broker may have sent connection.blocked.
            for waking in (self._replies.fail_all(reason.make_error), self._flow_control.end()):
                self._work_in_turns.add(waking)
        else:
            self._end(reason)

    def _end(self, reason: Reason) -> None:
        """Close the socket, end its greenlets, and give the reason to everybody who waits. Does not switch.

        The first reason wins: later calls do nothing.
        """
        if self._recovery is not None and self._recovery.take_over(reason):
            return
        # Asked first: the next lines move the state to CLOSED.
        lost = self.is_open and not reason.clean
        # Only once: several causes may come together, e.g. a close of the broker and the reset of its socket.
        if not self._life.end(reason):
            return
        self._note_end(lost)
        # The socket before the waiters: whoever wakes must find that nothing can be sent any more.
        if self._link is not None:
            self._link.end(reason)
        if self._backpressure.overflow is not None:
            self._backpressure.overflow.close()
        # Drops the messages without giving their room back to the budget; begin_budget below replaces the budget.
        self._event_queue.forget()
        self._end_waits(reason)
        self.channels.clear()
        self._while_open.stop()  # after the channels have ended, which counts the publishes that were lost
        self._backpressure.begin_budget()
        # Last: it makes the poll descriptor readable and starts on_lost. The program then finds every part ended.
        self._show_end(lost, reason)

    def _end_waits(self, reason: Reason) -> None:
        """Everything ends at once for whoever asks. The greenlets that wait are woken 1000 in a turn of the hub."""
        walks = self._work_in_turns
        walks.gather()
        # Each call below takes its waiters out at once and returns an iterator that wakes them. Whoever begins to
        # wait from now on is not among them, and finds the connection closed first.
        walks.add(self._replies.fail_all(reason.make_error))
        # Before the channels, whose walks may be long: these look at the state of the connection when they wake.
        for waking in (*self._event_queue.wake_all(), self._flow_control.end()):
            walks.add(waking)
        try:
            # A copy, since each channel removes itself from the dict.
            for channel in list(self.channels.values()):
                channel._on_connection_end(reason)
        finally:
            # In any case: walks that stay gathered would never be done, and their greenlets would wait for ever.
            walks.start()

    # -- channels -------------------------------------------------------------------------

    def _forget_channel(self, channel: Any) -> None:
        """A channel has ended and its number is free."""
        number = channel.channel_id
        # Compared and not only looked up: the number may belong to another channel by now.
        if self.channels.get(number) is channel:
            del self.channels[number]
            self._channel_ids.release(number)
            if self._link.reason is None:
                # A part of a message may have arrived. Its rest still comes, and the decoder drops that, too.
                self._link.decoder.forget(number)
