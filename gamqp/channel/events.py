"""What a channel reports to the program: confirms, returned messages, and errors that belong to no call.

Layer 3, a base class of Channel. The reader only queues the calls of event handlers (``event_handler_calls``).
They run in drain_events; a publisher that waits for its confirm runs those for its own message itself.
Does not belong here: deliveries.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from .. import exceptions
from ..green import Slot
from ..green.yielding import TICK
from ..protocol import basic_return_t
from ..state.confirm_matching import Confirms
from ..state.consumers import ConsumerTable
from ..state.lifecycle import Reason
from ..state.pending_events import MOST_RETURNS
from ..state.returned_messages import PendingReturns
from ..telemetry import tracing
from ..wire.spec import Basic
from ..wire.spec import Channel as ChannelSpec
from .confirm_select import ConfirmMethods
from .event_handler_calls import EventHandlerCalls
from .receipt import Receipt, returned_error

__all__ = ('ChannelEvents', 'EventHandlers')


class EventHandlers(set[Callable[..., object]]):
    """The handlers of one event. A set, as in py-amqp, that older code may also ``append`` to."""

    append = set.add


class ChannelEvents(ConfirmMethods):
    """Mixin of Channel."""

    auto_decode: bool
    _arriving: int
    _consumers: ConsumerTable
    _consumers_lost: Reason | None
    _event_handler_calls: EventHandlerCalls | None
    _events: defaultdict[str, EventHandlers] | None
    _return_taker: Any
    _returned: PendingReturns | None

    @property
    def events(self) -> defaultdict[str, EventHandlers]:
        """The handlers of ``basic_return``, ``basic_ack`` and ``basic_nack``: a set of callables for each name."""
        if self._events is None:
            self._events = defaultdict(EventHandlers)
        return self._events

    @events.setter
    def events(self, handlers: defaultdict[str, EventHandlers]) -> None:
        self._events = handlers

    def _handlers_of(self, event: str) -> EventHandlers | None:
        """None where the program has never asked for ``events``, as most programs."""
        return None if self._events is None else self._events.get(event)

    @property
    def returned_messages(self) -> PendingReturns:
        """Messages that came back and that no ``basic_return`` handler took, as basic_return_t; the latest 100.

        ``get()`` takes the oldest and raises queue.Empty when there is none; it never waits.
        """
        if self._returned is None:
            self._returned = PendingReturns()
        return self._returned

    @property
    def _due_calls(self) -> EventHandlerCalls:
        """The handler calls and errors that wait. Made when it is asked for the first time."""
        if self._event_handler_calls is None:
            self._event_handler_calls = EventHandlerCalls(self, self._connection)
        return self._event_handler_calls

    # -- from the reader ---------------------------------------------------------------

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        confirms = self._confirms
        # Nearly every confirm is that of one publish, on a channel without handlers that never began anew.
        if multiple or confirms is None or self._events is not None or self._arriving or confirms.before:
            self._on_confirm('basic_ack', Basic.Ack, delivery_tag, multiple)
        elif not confirms.settle(delivery_tag, False, True):
            self._on_confirm('basic_ack', Basic.Ack, delivery_tag, multiple)  # raises, or ignores it

    def _on_nack(self, delivery_tag: int, multiple: bool, requeue: bool) -> None:
        self._on_confirm('basic_nack', Basic.Nack, delivery_tag, multiple)

    def _on_confirm(self, event: str, sig: tuple[int, int], delivery_tag: int, multiple: bool) -> None:
        confirms = self._confirms
        outstanding = None if confirms is None else confirms.outstanding
        if self._arriving and (outstanding is None or not outstanding.selected):
            return  # of the channel as it was before the broker closed it, see Reopening
        if confirms is not None and confirms.before:
            own_tag = confirms.own_tag(delivery_tag)
            if own_tag is None:
                return
            delivery_tag = own_tag
        if confirms is None or outstanding is None or delivery_tag > outstanding.published:
            if self._arriving:
                return
            published = 'confirms are off' if outstanding is None else f'{outstanding.published} were published'
            raise exceptions.UnexpectedFrame(
                f'confirm of publish {delivery_tag} on channel {self.channel_id}, where {published}', sig
            )
        handlers = self._handlers_of(event)
        publisher = _in_its_call(outstanding.waiter(delivery_tag)) if handlers else None
        # A confirm that is repeated is no event: else a peer could make as many as it likes.
        if confirms.settle(delivery_tag, multiple, sig == Basic.Ack) and handlers:
            if multiple and publisher is None and outstanding.covers(last := delivery_tag or outstanding.published):
                self._due_calls.pending.add_call(functools.partial(self._wait_until_settled, outstanding, last))
            self._notify(event, publisher, delivery_tag, multiple)

    def _wait_until_settled(self, confirms: Confirms, tag: int) -> None:
        """In front of the handlers of a confirm: each publish that it names is settled when they run. Switches."""
        try:
            while confirms.covers(tag):
                self._connection._green.sleep(TICK)
        except BaseException:
            calls = self._due_calls.pending.calls
            if calls is not None:  # else the channel has ended
                calls.appendleft(functools.partial(self._wait_until_settled, confirms, tag))
            raise

    def _on_return(self, message: Any) -> None:
        connection = self._connection
        connection._count_return(message)
        if tracing.installed and connection._tracing is not None:
            connection._green.spawn(connection._tracing.returned, connection, message)
        info = message.delivery_info
        error = Reason(returned_error(message))
        publisher = self._publisher_of(info, message)
        if self._return_taker is not None and self._return_taker.take_return(message, error):
            return
        args = (error.make_error(), info['exchange'], info['routing_key'], message)
        is_handled = self._notify('basic_return', _in_its_call(publisher), *args)
        if is_handled and isinstance(publisher, Receipt):
            publisher._leave_to_handlers(message)
        if publisher is None and not is_handled:
            self.returned_messages.put(basic_return_t(**info, message=message))
            calls = self._due_calls
            if calls.pending.add_return(error.throw):
                self._connection._report(
                    'channel %s: more than %s messages came back that no basic_return handler takes and that '
                    'drain_events has not raised; only the latest are kept',
                    self.channel_id,
                    MOST_RETURNS,
                )
            calls.flag()

    def _publisher_of(self, info: dict[str, Any], message: Any) -> Any:
        """Who waits for the publish that comes back, and so gets the error; None when nobody does."""
        outstanding = self._outstanding
        if outstanding is None:
            return None
        message._auto_decode = False  # to compare what was sent
        publisher = outstanding.come_back(info['exchange'], info['routing_key'], message)
        message._auto_decode = self.auto_decode
        return publisher

    # -- notices -------------------------------------------------------------------------

    def _notify(self, event: str, publisher: Slot | None, *args: Any) -> bool:
        """Queue a call of every handler of *event*. Returns whether there is one.

        publisher: who waits in its call and runs it, None for drain_events.
        """
        handlers = self._handlers_of(event)
        if not handlers:
            return False
        calls = self._due_calls
        for handler in list(handlers):
            call = functools.partial(handler, *args)
            if publisher is not None:
                calls.pending.add_own(publisher, call)
            else:
                calls.pending.add_call(call)
        if publisher is None:
            calls.flag()
        return True

    def _leave_own_handlers(self, publisher: Slot) -> None:
        """The publisher waits no more: what concerns its message is for drain_events. Does not switch."""
        publisher.succeed()  # so that what is still to come is known to be nobody's, too
        if self._event_handler_calls is not None:
            self._event_handler_calls.leave_own(publisher)

    def _attend(self) -> bool:
        """drain_events has come. It raises one error at a time: the others wait for its next call.

        Returns whether there was anything to do.
        """
        calls = self._due_calls
        pending = calls.pending
        pending.flagged = False
        did = bool(pending.calls) and not calls.running
        try:
            calls.run()
            lost, self._consumers_lost = self._consumers_lost, None
            if self._unraised is not None:
                self._check(ChannelSpec.Close)
            if lost is not None and not self._consumers.with_callback:  # else the program has begun anew
                did = True
                lost.throw()
            throw = pending.take_error()
            if throw is not None:
                did = True
                throw()
        finally:
            # If another greenlet already runs this channel's handlers, it runs the remaining calls too.
            # Queuing another notice would make drain_events spin.
            due = pending.to_raise or self._unraised is not None or self._consumers_lost is not None
            if due or (pending.calls and not calls.running):
                calls.flag()
        return did


def _in_its_call(publisher: Any) -> Slot | None:
    """The publisher, if it is one that waits in basic_publish_confirm and has not gone."""
    return publisher if isinstance(publisher, Slot) and not publisher.done else None
