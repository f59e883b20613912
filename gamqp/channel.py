"""Channel: one conversation with the broker inside a connection.

Layer 3. The operations are in ``gamqp.methods``, one file per AMQP class; this
file holds what a channel is: its life, what the reader tells it, and whose turn
an error is. What the reader calls here (``on_…``) never switches greenlets and
never runs user code.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable
from typing import Any, ClassVar

from . import exceptions
from .methods.consume import ConsumeMethods
from .methods.exchange import ExchangeMethods, VDeprecationWarning
from .methods.publish import PublishMethods
from .methods.queue import QueueMethods
from .methods.tx import TxMethods
from .protocol import basic_return_t
from .state import lifecycle
from .state.consumers import Consumers, NoAckTags
from .state.hints import add_hint
from .state.lifecycle import Lifecycle, Reason
from .state.notices import Notices, Returned
from .state.replies import Expected, Replies
from .wire import encode_method, encode_reject
from .wire.spec import Basic
from .wire.spec import Channel as ChannelSpec

__all__ = ('Channel', 'VDeprecationWarning')


class Channel(ExchangeMethods, QueueMethods, ConsumeMethods, PublishMethods, TxMethods):
    """Made by ``Connection.channel()``. Any number of greenlets may use it at the same time.

    connection: the Connection. channel_id: None takes a free number. auto_decode:
    bodies that name a content_encoding are given as str. on_open: called with
    the channel when it is open.
    """

    def __init__(
        self,
        connection: Any,
        channel_id: int | None = None,
        auto_decode: bool = True,
        on_open: Callable[[Any], Any] | None = None,
    ) -> None:
        connection.check_open()
        if channel_id:
            connection.channel_ids.claim(channel_id)
        else:
            channel_id = connection.channel_ids.take()
        self.connection = connection
        self.channel_id = channel_id
        self.auto_decode = auto_decode
        self.on_open = on_open
        self.incarnation = 0  # how often it was reopened: delivery tags begin anew each time
        self.stale_settlements = 0  # acks and the like that came too late for their incarnation
        self.active = True  # False while the broker asks us by channel.flow not to publish
        self.events: defaultdict[str, Any] = defaultdict(_Handlers)
        self._connection = connection  # for us; the public one becomes None at the end, as py-amqp's
        self._writer = connection.link.writer
        self._life = Lifecycle()
        self._replies = Replies()
        self._consumers = Consumers()
        self._confirms = None
        self._usable = False  # open, and no error waits to be raised
        self._unraised: Reason | None = None
        self._notices = Notices()
        self._noticing = False
        self._returned: Returned | None = None  # made when needed: most channels never do
        self._owes_close_ok = False  # the broker closed while we did
        connection.channels[channel_id] = self

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.channel_id} {self._life.state} of {self._connection!r}>'

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # -- life --------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._life.state == lifecycle.OPEN

    @property
    def is_closing(self) -> bool:
        return self._life.state == lifecycle.CLOSING

    @property
    def was_opened(self) -> bool:
        """Open, or being reopened after an error; not while a first open is under way or an end."""
        return self.is_open or (self._life.state == lifecycle.OPENING and self.incarnation > 0)

    @property
    def callbacks(self) -> dict[str, Any]:
        """Consumer tag -> callback, of the consumers of this channel."""
        return {tag: consumer.callback for tag, consumer in self._consumers.items()}

    @property
    def cancel_callbacks(self) -> dict[str, Any]:
        """Consumer tag -> on_cancel, of the consumers that have one."""
        return {tag: one.on_cancel for tag, one in self._consumers.items() if one.on_cancel is not None}

    @property
    def no_ack_consumers(self) -> NoAckTags:
        """Tags of the consumers whose messages need no ack, as a read-only set.

        ``in`` also knows those that were cancelled a short while ago, because
        messages of theirs may still be handed out.
        """
        return NoAckTags(self._consumers)

    @property
    def returned_messages(self) -> Returned:
        """Messages that came back and that no ``basic_return`` handler took, as basic_return_t; the latest 100.

        ``get()`` takes the oldest and raises queue.Empty when there is none; it never waits.
        """
        if self._returned is None:
            self._returned = Returned()
        return self._returned

    def open(self) -> None:
        """Open the channel; ``Connection.channel`` has done so. Switches greenlets.

        Raises the connection's error, or TimeoutError. A caller that is killed
        meanwhile leaves no channel behind.
        """
        if self._life.state in (lifecycle.OPENING, lifecycle.OPEN):
            return  # what is sent while it is being reopened stands behind channel.open
        if self._life.state != lifecycle.NEW:
            raise self._life.error_maker(f'channel {self.channel_id} is {self._life.state}')()  # its number is gone
        self._life.move('open')
        self._call(ChannelSpec.Open, ('',), arrived=self._on_open_ok, undo=self._give_up)
        if self.on_open is not None:
            self.on_open(self)

    def _on_open_ok(self, reply: Any) -> None:
        if self._life.state == lifecycle.OPENING:
            self._life.move('opened')
            self._usable = self._unraised is None

    def _give_up(self, reply: Any) -> None:
        """open-ok has come for a caller that is gone."""
        if self._life.state == lifecycle.OPEN:
            self._begin_close(0, '', (0, 0), wait=False)

    def close(
        self, reply_code: int = 0, reply_text: str = '', method_sig: tuple[int, int] = (0, 0), argsig: Any = None
    ) -> None:
        """Close the channel; the broker requeues what is unacked. Closing twice does nothing.

        Waits for the broker's consent, at most the connection's rpc_timeout
        (TimeoutError; the channel is unusable all the same). Switches greenlets.
        """
        if self._life.state == lifecycle.OPEN:
            self._begin_close(reply_code, reply_text, method_sig, wait=True)

    def _begin_close(self, code: int, text: str, method_sig: tuple[int, int], wait: bool) -> None:
        args = (code, text, *method_sig)
        encode_method(self.channel_id, ChannelSpec.Close, args)  # refuse bad arguments before anything changes
        self._life.move('close')
        self._usable = False
        self._unraised = None
        for consumer in self._consumers.values():
            consumer.discard = True
        self._connection.forget_deliveries(self)
        self._call(ChannelSpec.Close, args, arrived=self._on_close_ok, wait=wait)

    def _on_close_ok(self, reply: Any) -> None:
        if self._owes_close_ok:
            self._writer.send(encode_method(self.channel_id, ChannelSpec.CloseOk, ()))
        self._end(self._closed_reason())

    def _closed_reason(self) -> Reason:
        return Reason(exceptions.RecoverableConnectionError(f'channel {self.channel_id} is closed'), clean=True)

    def collect(self) -> None:
        """Forget everything without talking to the broker. Does not switch."""
        self._end(self._closed_reason())

    def _end(self, reason: Reason) -> None:
        if not self._life.end(reason):
            return
        self._usable = False
        self._drop(reason)
        self._unraised = None
        self._notices.clear()
        self.events.clear()
        self._connection.forget_channel(self)
        self.connection = None

    def _drop(self, reason: Reason) -> int:
        """What the broker knows no more: consumers, confirms, replies. Returns how many callers were told."""
        self._consumers.clear()
        self._connection.forget_deliveries(self)
        told = self._replies.fail_all(reason.make_error)
        if self._confirms is not None:
            told += self._confirms.fail_all(reason.make_error)
            self._confirms = None
        return told

    def on_connection_end(self, reason: Reason) -> None:
        self._end(reason)

    # -- what Caller asks -----------------------------------------------------------

    def _root(self) -> Any:
        return self._connection

    def _check(self, sig: tuple[int, int]) -> None:
        if self._usable:
            return
        unraised, self._unraised = self._unraised, None
        if unraised is not None:
            self._usable = self._life.state == lifecycle.OPEN
            raise unraised.make_error()
        if self._life.state == lifecycle.OPENING:
            return  # reopening after an error: what is sent now stands behind channel.open
        if self._life.state == lifecycle.CLOSING and sig == ChannelSpec.Close:
            return
        raise self._life.error_maker(f'channel {self.channel_id} is {self._life.state}')()

    # -- from the reader ---------------------------------------------------------------

    def on_method(self, sig: tuple[int, int], args: tuple[Any, ...]) -> None:
        handler = self._HANDLERS.get(sig)
        if handler is not None:
            handler(self, *args)
        else:
            self.on_reply(sig, args)

    def on_content(self, message: Any) -> None:
        """A complete deliver, return or get-ok."""
        message.channel = self
        if self.incarnation:
            message.incarnation = self.incarnation
        message.auto_decode = self.auto_decode
        consumer = self._consumers.get(message.consumer_tag)
        if consumer is not None and not consumer.discard:
            if consumer.callback is not None:
                self._connection.on_delivery(consumer, message)
        elif message.method == Basic.Deliver:
            self._on_unwanted(consumer, message)
        elif message.method == Basic.Return:
            self._on_return(message)
        else:
            self.on_reply(message.method, message)

    def _on_unwanted(self, consumer: Any, message: Any) -> None:
        if self._life.state == lifecycle.OPEN and not (consumer is not None and consumer.no_ack):
            self._writer.send(encode_reject(self.channel_id, message.delivery_tag, True))

    def _on_close(self, code: int, text: str, class_id: int, method_id: int) -> None:
        """The broker closed the channel: say so to whom it concerns, and open it again."""
        sig = (class_id, method_id)
        reason = Reason(add_hint(exceptions.error_for_code(code, text, sig, exceptions.ChannelError)))
        if self._life.state == lifecycle.CLOSING:
            # Both sides closed at once. RabbitMQ answers our own close late, or never, when
            # it gets our close-ok first: so that one has to wait until the answer is here.
            self._owes_close_ok = True
            self._replies.fail_all(reason.make_error, but=ChannelSpec.CloseOk)
            return
        self._writer.send(encode_method(self.channel_id, ChannelSpec.CloseOk, ()))
        self._connection.report('channel %s was closed by the broker and is reopened: %s', self.channel_id, str(reason))
        self._usable = False
        if not self._drop(reason):
            self._unraised = reason
            self._flag()
        if self._life.state == lifecycle.OPEN:
            self._life.move('reopen')
        self._reopen()

    def _on_closed(self) -> None:
        """close-ok, the last word on this channel: what is expected in front of it will not come."""
        if self._replies.due(ChannelSpec.CloseOk):
            self._replies.fail_all(self._closed_reason().make_error, but=ChannelSpec.CloseOk)
        self.on_reply(ChannelSpec.CloseOk, ())

    def _reopen(self) -> None:
        self.incarnation += 1
        self._ask(ChannelSpec.Open, ('',), Expected((ChannelSpec.OpenOk,), None, self._on_open_ok))

    def _on_flow(self, active: bool) -> None:
        self.active = active
        self._writer.send(encode_method(self.channel_id, ChannelSpec.FlowOk, (active,)))

    def _on_cancel(self, consumer_tag: str, nowait: bool) -> None:
        consumer = self._consumers.leave(consumer_tag)
        if not nowait:
            self._writer.send(encode_method(self.channel_id, Basic.CancelOk, (consumer_tag,)))
        if consumer is None:
            return
        if consumer.on_cancel is not None:
            self._notices.add_error(functools.partial(consumer.on_cancel, consumer_tag))
        else:
            self._notices.add_error(Reason(exceptions.ConsumerCancelled(consumer_tag, Basic.Cancel)).throw)
        self._flag()

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        if self._confirms is not None:
            self._confirms.settle(delivery_tag, multiple, True)
        self._notify('basic_ack', delivery_tag, multiple)

    def _on_nack(self, delivery_tag: int, multiple: bool, requeue: bool) -> None:
        if self._confirms is not None:
            self._confirms.settle(delivery_tag, multiple, False)
        self._notify('basic_nack', delivery_tag, multiple)

    def _on_return(self, message: Any) -> None:
        info = message.delivery_info
        error = Reason(
            exceptions.error_for_code(info['reply_code'], info['reply_text'], Basic.Return, exceptions.ChannelError)
        )
        if not self._notify('basic_return', error.make_error(), info['exchange'], info['routing_key'], message):
            self.returned_messages.put(basic_return_t(**info, message=message))
            self._notices.add_error(error.throw)
            self._flag()

    # -- notices: what the program is told, in a greenlet of its own -----------------------

    def _notify(self, event: str, *args: Any) -> bool:
        """Queue a call of every handler of *event*. Returns whether there is one."""
        handlers = self.events.get(event)
        if not handlers:
            return False
        for handler in list(handlers):
            self._notices.add_call(functools.partial(handler, *args))
        self._flag()
        return True

    def _flag(self) -> None:
        """Have drain_events come here, once for all that is waiting."""
        if not self._notices.flagged:
            self._notices.flagged = True
            self._connection.on_notice(self._attend)

    def _attend(self) -> bool:
        """drain_events has come. One error at a time: the others wait for its next call.

        Returns whether there was anything to do.
        """
        notices = self._notices
        notices.flagged = False
        did = bool(notices.calls) and not self._noticing
        try:
            self.run_handlers()
            if self._unraised is not None:
                self._check(ChannelSpec.Close)
            if notices.errors:
                did = True
                notices.errors.pop(0)()
        finally:
            if notices:
                self._flag()
        return did

    def run_handlers(self) -> None:
        """Call the event handlers that are due, never one inside another. Whatever they raise comes out."""
        calls = self._notices.calls
        if self._noticing:
            return
        self._noticing = True
        try:
            while calls:
                calls.pop(0)()
        finally:
            self._noticing = False

    def flow(self, active: bool) -> None:
        """Ask the broker to stop (False) or go on (True) delivering. RabbitMQ knows only True: use basic_qos."""
        self._call(ChannelSpec.Flow, (active,))

    _HANDLERS: ClassVar[dict[tuple[int, int], Callable[..., None]]] = {
        ChannelSpec.Close: _on_close,
        ChannelSpec.CloseOk: _on_closed,
        ChannelSpec.Flow: _on_flow,
        Basic.Cancel: _on_cancel,
        Basic.Ack: _on_ack,
        Basic.Nack: _on_nack,
    }


class _Handlers(set[Any]):
    """The handlers of one event. A set, as in py-amqp, that older code may also ``append`` to."""

    append = set.add
