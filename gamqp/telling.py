"""What a channel tells the program: confirms, returned messages, and errors that belong to no call.

Layer 3, a base class of Channel. The reader only notes what there is to tell;
event handlers run in the greenlet of whoever comes for it: drain_events, or a
publisher on its way. What must not enter: deliveries.
"""

from __future__ import annotations

import functools
from typing import Any

from . import tracing
from .green import Gate
from .protocol import basic_return_t
from .receipt import returned_error
from .state.confirms import Confirms
from .state.counts import Counts
from .state.lifecycle import Reason
from .state.notices import KEPT, Notices, Returned
from .wire.spec import Channel as ChannelSpec

__all__ = ('Handlers', 'Telling')


class Handlers(set[Any]):
    """The handlers of one event. A set, as in py-amqp, that older code may also ``append`` to."""

    append = set.add


class Telling:
    """A channel's notices and its confirms."""

    auto_decode: bool
    channel_id: Any
    events: dict[str, Any]
    return_taker: Any
    _confirm_room: Gate | None
    _confirms: Confirms | None
    _connection: Any
    _counts: Counts
    _notices: Notices
    _noticing: bool
    _returned: Returned | None
    _unraised: Reason | None

    def _check(self, sig: tuple[int, int]) -> None:
        raise NotImplementedError

    @property
    def returned_messages(self) -> Returned:
        """Messages that came back and that no ``basic_return`` handler took, as basic_return_t; the latest 100.

        ``get()`` takes the oldest and raises queue.Empty when there is none; it never waits.
        """
        if self._returned is None:
            self._returned = Returned()
        return self._returned

    # -- from the reader ---------------------------------------------------------------

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        self._counts.confirmed += self._on_confirm(delivery_tag, multiple, True)
        self._notify('basic_ack', delivery_tag, multiple)

    def _on_nack(self, delivery_tag: int, multiple: bool, requeue: bool) -> None:
        self._counts.nacked += self._on_confirm(delivery_tag, multiple, False)
        self._notify('basic_nack', delivery_tag, multiple)

    def _on_confirm(self, delivery_tag: int, multiple: bool, ok: bool) -> int:
        if self._confirms is None:
            return 0
        count = self._confirms.settle(delivery_tag, multiple, ok)
        if self._confirm_room:
            self._confirm_room.wake(count)
        return count

    def _on_return(self, message: Any) -> None:
        self._counts.returned += 1
        root = self._connection
        if tracing.installed and root.tracing is not None:
            root.green.spawn(root.tracing.returned, root, message)
        info = message.delivery_info
        error = Reason(returned_error(message))
        known = self._settle_returned(info, message)
        if self.return_taker is not None and self.return_taker.take_return(message, error):
            return
        told = self._notify('basic_return', error.make_error(), info['exchange'], info['routing_key'], message)
        if not known and not told:
            self.returned_messages.put(basic_return_t(**info, message=message))
            if self._notices.add_return(error.throw):
                self._connection.report(
                    'channel %s: more than %s messages came back that no basic_return handler takes and that '
                    'drain_events has not raised; only the latest are kept',
                    self.channel_id,
                    KEPT,
                )
            self._flag()

    def _settle_returned(self, info: dict[str, Any], message: Any) -> bool:
        """Whether the publish that comes back is known, so that its own caller will be told."""
        if self._confirms is None:
            return False
        message.auto_decode = False  # to compare what was sent
        known = self._confirms.come_back(info['exchange'], info['routing_key'], message) is not None
        message.auto_decode = self.auto_decode
        return known

    # -- notices -------------------------------------------------------------------------

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
            throw = notices.take_error()
            if throw is not None:
                did = True
                throw()
        finally:
            # Calls that are left while handlers run belong to whoever runs those: to be sent here again for
            # them would be for nothing, and without end.
            if notices.to_raise or self._unraised is not None or (notices.calls and not self._noticing):
                self._flag()
        return did

    def run_handlers(self) -> None:
        """Call the event handlers that are due, never one inside another. Whatever they raise comes out."""
        notices = self._notices
        if self._noticing:
            return
        self._noticing = True
        try:
            while (call := notices.take_call()) is not None:
                call()
        finally:
            self._noticing = False
            if notices.calls:
                self._flag()  # a handler has raised; drain_events may have been here meanwhile, for nothing
