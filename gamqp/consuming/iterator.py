"""The iterator that ``Channel.consume`` returns.

Layer 3. It has two parts: the channel holds the inbox, and the program holds the iterator. When the iterator is
dropped, or the greenlet that iterates fails, the consumer is cancelled. Does not belong here: how messages arrive,
see ``inbox``.
"""

from __future__ import annotations

import weakref
from collections.abc import Container
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from .. import green
from ..basic_message import Message
from ..green.os_threads import get_ident
from ..state.durations import in_seconds
from ..state.uncopyable import Uncopyable
from .inbox import Inbox

if TYPE_CHECKING:
    from .owner_protocols import ConsumerChannel, ConsumerConnection

__all__ = ('Deliveries', 'IteratorInbox')


class IteratorInbox(Inbox):
    """The part of an iterator that the channel holds."""

    __slots__ = ('__weakref__', '_link', 'in_hand', 'owner', 'waiting')

    def __init__(self, channel: ConsumerChannel, connection: ConsumerConnection, tag: str, no_ack: bool) -> None:
        super().__init__(channel, connection, tag, no_ack)
        self.waiting: green.Slot | None = None
        self.in_hand = False  # the program works on a message: it has not asked for the next one yet
        # A weak reference to the greenlet that got the latest message, or waits for the next. A strong one would keep
        # the traceback of the error that ended the greenlet, and the frames of that traceback keep the iterator.
        self.owner: weakref.ref[greenlet] | None = None
        self._link: Any = None  # the FailureLink of that greenlet

    @property
    def busy(self) -> bool:
        if self.owner is not None:
            owner = self.owner()
            if owner is None or owner.dead:
                return False  # that greenlet ended; the iterator may still exist in the traceback of its error
        return self.in_hand or (self.entry.no_ack and bool(self.messages or self.spooled))

    @property
    def awaits_message(self) -> bool:
        return self.waiting is not None and not self.messages

    def works_apart_from(self, some: Container[Any]) -> bool:
        return self.busy and (self.owner is None or self.owner() not in some)

    def belong_to(self, owner: greenlet) -> None:
        """This greenlet iterates from now on. If it is killed or fails, the consumer is cancelled."""
        self._unlink()
        self.owner = weakref.ref(owner)
        self._link = self.connection._green.FailureLink(owner, self.leave)

    def _unlink(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.cancel()

    def arrived(self, count: int = 1) -> None:
        if self.waiting is not None:
            self.waiting.succeed()

    @property
    def has_hearer(self) -> bool:
        return not self.entry.discard  # the next step of the iteration raises it

    def ended(self) -> None:
        if self.waiting is not None:
            self.waiting.succeed()

    def leave(self) -> None:
        """No greenlet iterates any more: cancel the consumer. Does not switch and raises nothing."""
        if not self.over and not self.entry.discard:
            self.channel._end_consumer(self.entry, wait=False)
        self.forget()

    def forget(self) -> None:
        """Drop the messages that are here and those that still arrive. Does not switch."""
        self.entry.discard = True  # also of a no_ack consumer, whose messages would stay here for ever
        self.withdraw()
        self.in_hand = False
        self._unlink()
        self.ended()  # a greenlet that waits for messages from disk must check again
        self.settled_idle()


class Deliveries(Uncopyable):
    """The messages of one consumer as an iterator, made by ``Channel.consume``; for one greenlet at a time.

    Iterating waits for the next message, cooperatively. It ends when the
    consumer was cancelled, by ``close()``, ``Channel.basic_cancel`` or
    ``Connection.drain``; raises ConsumerCancelled when the broker cancelled it, why
    the channel or connection ended when it did, and TimeoutError when nothing came
    for *timeout* seconds, after which it can go on. Dropping the iterator, as
    leaving a ``for`` loop does, closes it without waiting for the broker; so does the
    end of the greenlet that got the latest message or waits for the next, if it was
    killed or failed, also while the iterator lives on in its traceback. A greenlet that
    returns leaves it to whoever has it now.
    """

    __slots__ = ('__weakref__', '_inbox', '_timeout')

    def __init__(self, inbox: IteratorInbox, timeout: float | None) -> None:
        self._inbox = inbox
        self._timeout = timeout

    def __repr__(self) -> str:
        inbox = self._inbox
        state = 'ended' if inbox.over else 'closing' if inbox.entry.discard else 'open'
        return f'<Deliveries {inbox.tag} {state}, {len(inbox.messages or ())} waiting>'

    @property
    def tag(self) -> str:
        """The consumer tag."""
        return self._inbox.tag

    @property
    def delivered(self) -> int:
        """Messages that have arrived."""
        return self._inbox.delivered

    def __iter__(self) -> Deliveries:
        return self

    def __next__(self) -> Message:
        inbox = self._inbox
        connection = inbox.connection
        if get_ident() != connection._affinity.thread:
            connection._affinity.check()
        if inbox.in_hand:
            inbox.in_hand = False
            if connection._unfinished_handlers.retiring:
                inbox.settled_idle()
        flow = connection._flow_control
        if flow.until_look > 1:
            flow.until_look -= 1
        elif flow.turn_overdue():
            flow.let_others_run()
        message: Message | None = None
        messages = inbox.messages
        if messages and inbox.channel._void is None:
            message = messages.popleft()  # as ``Inbox.take``, without another call for each message
            budget, backpressure = inbox._budget, connection._backpressure
            budget.messages -= 1
            budget.bytes -= message._weight
            if backpressure.crowded:
                backpressure.freed()
        while message is None:
            while not inbox.messages:
                if inbox.over and not inbox.spooled:
                    if inbox.reason is not None:
                        inbox.reason.throw()
                    raise StopIteration
                self._wait()
            message = inbox.take()
            if message is None:
                flow.let_others_run()
        inbox.in_hand = True
        owner, me = inbox.owner, getcurrent()
        if owner is None or owner() is not me:
            inbox.belong_to(me)
        return message

    def _wait(self) -> None:
        inbox = self._inbox
        if inbox.waiting is not None:
            raise RuntimeError(f'two greenlets iterate over consumer {inbox.tag}; use subscribe to share its work')
        owner, me = inbox.owner, getcurrent()
        if owner is None or owner() is not me:
            inbox.belong_to(me)
        inbox.waiting = green.Slot(inbox.connection._green)
        try:
            if not inbox.waiting.wait(self._timeout):
                raise TimeoutError(f'consumer {inbox.tag}: no message within {in_seconds(self._timeout)}')
        finally:
            inbox.waiting = None

    def __enter__(self) -> Deliveries:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel the consumer and give back to the queue what was not yielded. Closing twice does nothing.

        What a no_ack consumer had here is lost: the broker has forgotten it. Waits
        for the broker's consent, at most rpc_timeout (TimeoutError). Switches greenlets.
        """
        inbox = self._inbox
        inbox.connection._affinity.check()
        try:
            if not inbox.over and not inbox.entry.discard:
                inbox.channel._end_consumer(inbox.entry, wait=True)
        finally:
            inbox.forget()

    def __del__(self) -> None:
        inbox = self._inbox
        connection = inbox.connection
        if not connection._affinity.is_here():
            connection._affinity.call_later(inbox.leave)
        elif inbox.channel._asking:
            # The garbage collector runs inside a step of the channel that must not be interrupted.
            connection._green.run_soon(inbox.leave)
        else:
            inbox.leave()
