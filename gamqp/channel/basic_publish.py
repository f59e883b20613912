"""Class basic, publish.

Layer 3. A publish checks, waits where it must (a blocked connection, a full writer, too
many publishes without a confirm), and then encodes, takes its sequence number
and hands the frames over in one step without a switch, so the numbers always
agree with the order on the wire. It never reads. Errors: see ``gamqp.channel``.
Does not belong here: which confirm settles which publish (``state.confirm_matching``), and the Receipt (``receipt``).
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

from .. import exceptions, green
from ..basic_message import Body, Message, PublishProperties
from ..green.os_threads import get_ident
from ..io.writer import HIGH_WATER
from ..state.argument_checks import given_timeout
from ..state.durations import in_seconds
from ..state.name_arguments import name
from ..state.waiter_protocols import PublishWaiter
from ..telemetry import tracing
from ..telemetry.tracing import Tracing
from ..wire import Content, encode_publish
from ..wire.spec import PROPERTIES, PROPERTY_NAMES, Basic
from .channel_flow import FlowMethods
from .events import ChannelEvents
from .receipt import Receipt, nacked_error, returned_error

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ('ConfirmSlot', 'PublishMethods', 'taken_apart')


class ConfirmSlot(green.Slot):
    """Where ``basic_publish_confirm`` waits: a PublishWaiter."""

    __slots__ = ()

    _settle = green.Slot.succeed
    _lose = green.Slot.fail
    _awaited = green.Slot.awaited


class PublishMethods(ChannelEvents, FlowMethods):
    """Mixin of Channel."""

    #: Publishes that may be without their confirm before ``publish`` waits; 0 for no limit.
    outstanding_limit: int

    def publish(
        self,
        message: Message | Body,
        exchange: str = '',
        routing_key: str = '',
        mandatory: bool = False,
        timeout: float | None = None,
        **properties: Unpack[PublishProperties],
    ) -> Receipt:
        """Publish, and return at once a Receipt, which has the outcome when the broker has answered.

        message: a Message, or a body (bytes or str). mandatory: a message that no
        queue takes comes back, and its own receipt raises Returned. properties:
        those of Message (delivery_mode=2, correlation_id='…', headers={…} …); they go
        before those of a Message. timeout: seconds to wait for the broker to take
        messages and for room, None for the connection's deadlines.

        Turns confirm mode on if it is off. Any number of greenlets may publish on one
        channel. Switches greenlets only to wait for a blocked connection, for a full
        send queue, or while *outstanding_limit* publishes of this channel have no
        confirm yet, and now and then to let others run, also before the first publish
        after a while: the peer may have hung up meanwhile. Raises Blocked or TimeoutError
        when that takes too long, EncodeError, and why the channel or connection ended;
        nothing was sent then. https://www.rabbitmq.com/docs/confirms
        """
        if type(exchange) is not str:
            exchange = name('exchange', exchange)
        if type(routing_key) is not str:
            routing_key = name('routing_key', routing_key)
        body, given = taken_apart(message, properties)
        confirms = self._confirms
        if confirms is None:
            self._connection._affinity.check()
            confirms = self._own_confirms()
        receipt = Receipt(confirms, exchange, routing_key)
        deadline = None if timeout is None else green.Deadline(timeout)
        receipt.delivery_tag = self._hand_over(
            body, given, exchange, routing_key, mandatory, False, deadline, receipt, self.outstanding_limit
        )
        return receipt

    def basic_publish(
        self,
        msg: Message,
        exchange: str = '',
        routing_key: str = '',
        mandatory: bool = False,
        immediate: bool = False,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
        argsig: object = None,
    ) -> None:
        """Publish a Message; on a connection with confirm_publish=True also wait for its confirm.

        mandatory: the broker returns the message when no queue takes it.
        immediate: not supported by RabbitMQ; AMQPNotImplementedError is raised.
        timeout: seconds for the message to be handed to the operating system
        (None: as soon as it can be, without waiting for it); when they pass, the
        connection is closed and RecoverableConnectionError raised, since a part
        may have been sent. confirm_timeout: seconds to wait for the confirm, None
        or 0 for *timeout*, or else the connection's confirm_timeout.

        Without confirms it switches greenlets only to wait for a blocked
        connection or a full send queue, and now and then to let others run, also
        before the first publish after a while, to learn whether the peer has hung up
        meanwhile; then, and when the system refuses the message, why the connection
        ended is raised. Raises MessageNacked when the broker refuses the message and TimeoutError
        when no confirm came in time; the message may have been taken then.
        """
        if self._connection.confirm_publish:
            self.basic_publish_confirm(msg, exchange, routing_key, mandatory, immediate, timeout, confirm_timeout)
            return
        # Not in a method of their own: each call counts here.
        if not isinstance(msg, Content):
            self._refuse(msg)
        if type(exchange) is not str:
            exchange = name('exchange', exchange)
        if type(routing_key) is not str:
            routing_key = name('routing_key', routing_key)
        if timeout is None:
            self._hand_over(msg.body, msg.properties, exchange, routing_key, mandatory, immediate, None)
        else:
            deadline = green.Deadline(timeout)
            self._hand_over(msg.body, msg.properties, exchange, routing_key, mandatory, immediate, deadline)
            # Nothing has switched since it was sent, and it may have waited for a new link before that.
            self._connection._flow_control.send_by(self._connection._link, deadline)

    _basic_publish = basic_publish

    def basic_publish_confirm(
        self,
        msg: Message,
        exchange: str = '',
        routing_key: str = '',
        mandatory: bool = False,
        immediate: bool = False,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
        argsig: object = None,
    ) -> None:
        """Publish and wait for this message's own confirm, turning confirm mode on if it is off.

        Any number of greenlets may do so on one channel. Arguments and errors as
        basic_publish; and Returned when the message was mandatory and no queue takes
        it, unless there is a handler in ``events['basic_return']``, which gets it then.
        Event handlers for this message's own return, and for a confirm that names its
        delivery tag, are called in this greenlet before it returns, and what they raise
        comes out; those for other messages are called by drain_events.
        """
        connection = self._connection
        if confirm_timeout is not None:
            given_timeout('confirm_timeout', confirm_timeout)
        if type(exchange) is not str:
            exchange = name('exchange', exchange)
        if type(routing_key) is not str:
            routing_key = name('routing_key', routing_key)
        slot = ConfirmSlot(connection._green)
        try:
            if not isinstance(msg, Content):
                self._refuse(msg)
            deadline = None if timeout is None else green.Deadline(timeout)
            self._hand_over(msg.body, msg.properties, exchange, routing_key, mandatory, immediate, deadline, slot)
            slot.batch = connection._link.batch
            if deadline is not None:
                connection._flow_control.send_by(connection._link, deadline)
            wait = confirm_timeout or timeout or connection.confirm_timeout
            if not connection._wait_for(slot, wait):
                raise TimeoutError(
                    f'basic.publish: no confirm within {in_seconds(wait)}; the broker may have taken the message'
                )
        except BaseException:
            self._leave_own_handlers(slot)
            raise
        if self._event_handler_calls is not None and self._event_handler_calls.pending.own:
            self._event_handler_calls.run_own(slot)
        verdict = slot.result()
        if verdict is False:
            raise nacked_error(exchange, routing_key)
        if verdict is not True and not self._handlers_of('basic_return'):
            raise returned_error(verdict)

    def _refuse(self, msg: Any) -> NoReturn:
        """It is no Message."""
        self._check(Basic.Publish)
        raise exceptions.EncodeError(f'basic_publish takes a Message, not {type(msg).__name__}', Basic.Publish)

    def _hand_over(
        self,
        body: Any,
        properties: dict[str, Any],
        exchange: str,
        routing_key: str,
        mandatory: bool,
        immediate: bool,
        deadline: green.Deadline | None,
        waiter: PublishWaiter | None = None,
        limit: int = 0,
        first: Callable[[], Any] | None = None,
        traced: bool = False,
    ) -> int:
        """The one way out of a message. Returns its delivery tag, 0 without confirms.

        first: called right before it goes, after all waiting; must not switch.
        traced: it is the tracer that calls.
        """
        connection = self._connection
        flow = connection._flow_control
        if tracing.installed and connection._tracing is not None and not traced:
            rest = (mandatory, immediate, deadline, waiter, limit, first, True)
            return self._hand_over_traced(connection._tracing, body, properties, exchange, routing_key, *rest)
        if get_ident() != self._usable_in:
            self._check_to_publish(deadline)
        # 1. Admit. All waiting is done here: a caller that is interrupted in it has published nothing.
        # Which of these it is, ``_admit`` finds out: most publishes are held back by none, and each call counts.
        confirms, writer = self._confirms, self._writer
        if (
            writer.load >= HIGH_WATER
            or (flow.blocked_reason is not None and connection.blocked_policy != 'pass')
            or self._pause is not None
            or immediate
            or (limit and confirms is not None and confirms.is_crowded(limit))
            or monotonic() >= flow.look_at
        ):
            self._admit(immediate, deadline, limit)
        # 2. Encode.
        try:
            if isinstance(body, str):
                body, properties = _encode_text(body, properties)
            frames = encode_publish(
                self.channel_id, exchange, routing_key, mandatory, immediate, properties, body, connection.frame_max
            )
        except BaseException:
            self._give_up_room(limit)
            raise
        if first is not None:
            first()
        # 3. Number, send and enter, without a switch in between.
        confirms, writer = self._confirms, self._writer
        if waiter is not None and (confirms is None or confirms.outstanding is None):
            confirms = self._confirm_select_unawaited()  # the broker handles it before the publish behind it
        outstanding, tag = None if confirms is None else confirms.outstanding, 0
        try:
            if outstanding is not None:
                outstanding.published = tag = outstanding.published + 1
            writer.send(frames)
            if writer.closed:
                pass
            elif outstanding is None:
                if confirms is not None and confirms.is_on:
                    confirms.before += 1
            elif mandatory:
                outstanding.enter_mandatory(tag, waiter, exchange, routing_key, _size(body), frames)
            else:
                outstanding.enter(tag, waiter, frames)
        except BaseException as exc:
            # Only a signal handler can raise here, and then our count of publishes may differ from the broker's.
            connection._link.lose(exc)
            raise
        if writer.closed:  # the broker gets nothing whole: it is no publish, for the counters either
            rest = (mandatory, immediate, deadline, waiter, limit, first, True)
            return self._not_sent(connection._link, body, properties, exchange, routing_key, *rest)
        self._counts.published += 1
        flow.unlooked += len(frames)
        return tag

    def _admit(self, immediate: bool, deadline: green.Deadline | None, limit: int) -> None:
        """Wait until a publish may go out, and let others run if it is time. Switches."""
        if immediate:
            raise exceptions.AMQPNotImplementedError('RabbitMQ has no immediate flag', Basic.Publish)
        flow = self._connection._flow_control
        try:
            if not self._wait_for_turn(deadline, limit) and monotonic() >= flow.look_at and flow.turn_due():
                flow.let_others_run_to_publish()
                self._check_to_publish(deadline)
                self._wait_for_turn(deadline, limit)
        except BaseException:
            self._give_up_room(limit)
            raise

    def _wait_for_turn(self, deadline: green.Deadline | None, limit: int) -> bool:
        """Wait until nothing holds a publish back; then there is no switch before it is handed over.

        Returns whether something did.
        """
        connection, waited = self._connection, False
        crowding = deadline or green.Deadline(connection.confirm_timeout)
        while True:
            if connection._flow_control.must_wait_to_publish:
                connection._flow_control.wait_to_publish(deadline)
            elif self._pause is not None:
                self._wait_until_active(deadline)
            elif limit and self._confirms is not None and self._confirms.is_crowded(limit):
                self._confirms.wait_for_room(limit, crowding)
            else:
                return waited
            waited = True
            self._check_to_publish(deadline)

    def _give_up_room(self, limit: int) -> None:
        """Nothing will be published in the room that there was for it."""
        if limit and self._confirms is not None:
            self._confirms.give_up_room(limit)

    def _check_to_publish(self, deadline: green.Deadline | None) -> None:
        """``_check`` for a publish that may wait until *deadline*, if there is something to wait for."""
        self._check(Basic.Publish)

    def _not_sent(self, link: Any, *publish: Any) -> int:
        """The writer has failed, at these frames or before: no broker has got them whole. Raises why. Switches.

        publish: the arguments of ``_hand_over``.
        """
        link.wait_for_end()
        self._check(Basic.Publish)
        if link.reason is not None:
            link.reason.throw()
        raise exceptions.RecoverableConnectionError('connection lost: the peer takes nothing any more')

    def _hand_over_traced(
        self, tracer: Tracing, body: Any, properties: dict[str, Any], exchange: str, routing_key: str, *rest: Any
    ) -> int:
        # Not in _hand_over itself: a function with a closure costs more, also when it is not used.
        def send(properties: dict[str, Any], settled: Callable[[Any], Any] | None = None) -> int:
            tag = self._hand_over(body, properties, exchange, routing_key, *rest)
            # Nothing has switched since the publish was numbered, so its confirm has not been read.
            if settled is not None and tag and self._outstanding is not None:
                self._outstanding.observe(tag, settled)
            return tag

        publish = tracer.publish_mandatory if rest[0] else tracer.publish
        return publish(self._connection, exchange, routing_key, body, properties, send)


def taken_apart(message: Any, properties: Any) -> tuple[Any, dict[str, Any]]:
    """(body, properties) of a Message or body; *properties* go before the Message's.

    Raises EncodeError, also for a name in *properties* that is none: a slip of the pen. In a Message it is ignored.
    """
    if properties:
        if 'headers' in properties:
            properties['application_headers'] = properties.pop('headers')
        if not PROPERTY_NAMES.issuperset(properties):
            unknown = next(one for one in properties if one not in PROPERTY_NAMES)
            valid = ', '.join(one for one, _ in PROPERTIES)
            raise exceptions.EncodeError(f'no such message property: {unknown!r}; there are {valid}', Basic.Publish)
    if isinstance(message, Content):
        return message.body, {**message.properties, **properties}
    if isinstance(message, (bytes, str, bytearray, memoryview)):
        return message, properties
    raise exceptions.EncodeError(f'a Message, bytes or str can be sent, not {type(message).__name__}', Basic.Publish)


def _size(body: Any) -> int:
    return body.nbytes if isinstance(body, memoryview) else len(body)


def _encode_text(body: str, properties: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """A text body in the encoding its properties name, which is UTF-8 and then said so where they name none."""
    encoding = properties.get('content_encoding')
    if not encoding:
        encoding = 'utf-8'
        properties = {**properties, 'content_encoding': encoding}
    try:
        name = encoding.decode('ascii') if isinstance(encoding, bytes) else encoding
        return body.encode(name), properties
    except (LookupError, TypeError, ValueError) as exc:
        raise exceptions.EncodeError(
            f'the body cannot be encoded by content_encoding {encoding!r}: {exc}', Basic.Publish
        ) from exc
