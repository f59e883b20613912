"""The messages of one consumer as an iterator: what ``Channel.consume`` gives.

Layer 3. The channel keeps the inbox, and the program the iterator; the end of the program's
greenlet ends the consumer. Does not belong here: how messages arrive, see ``inbox``.
"""

from __future__ import annotations

import weakref
from collections.abc import Container
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from .. import green
from ..basic_message import Message
from ..green.os_threads import get_ident
from ..state.durations import in_seconds
from ..state.uncopyable import Uncopyable
from .inbox import Inbox

if TYPE_CHECKING:
    from ..channel.channel import Channel
    from ..connection.connection import Connection

__all__ = ('Deliveries',)


class IteratorInbox(Inbox):
    """The half of an iterator that the channel holds."""

    __slots__ = ('__weakref__', '_link', 'in_hand', 'owner', 'waiting')

    def __init__(self, channel: Channel, connection: Connection, tag: str, no_ack: bool) -> None:
        super().__init__(channel, connection, tag, no_ack)
        self.waiting: green.Slot | None = None
        self.in_hand = False  # a message was yielded and its next one not asked for yet
        # A weak reference to the greenlet that got the latest message, or waits for the next. A strong one would
        # keep the traceback of what ended it, whose frames keep the iterator.
        self.owner: weakref.ref[Any] | None = None
        self._link: Any = None  # to that greenlet

    @property
    def busy(self) -> bool:
        if self.owner is not None:
            owner = self.owner()
            if owner is None or owner.dead:
                return False  # the iterator may outlive it for a while, in the traceback of what ended it
        return self.in_hand or (self.entry.no_ack and bool(self.messages or self.spooled))

    @property
    def awaits_message(self) -> bool:
        return self.waiting is not None and not self.messages

    def works_apart_from(self, some: Container[Any]) -> bool:
        return self.busy and (self.owner is None or self.owner() not in some)

    def belong_to(self, owner: Any) -> None:
        """Another greenlet iterates now than before. If that fails, the consumer ends."""
        self._unlink()
        self.owner = weakref.ref(owner)
        self._link = self.connection.green.FailureLink(owner, self.leave)

    def _unlink(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.cancel()

    def arrived(self) -> None:
        if self.waiting is not None:
            self.waiting.succeed()

    @property
    def has_hearer(self) -> bool:
        return not self.entry.discard  # whoever iterates, by its next step

    def ended(self) -> None:
        if self.waiting is not None:
            self.waiting.succeed()

    def leave(self) -> None:
        """Nobody takes out any more. Does not switch and raises nothing."""
        if not self.over and not self.entry.discard:
            self.channel._end_consumer(self.entry, wait=False)
        self.forget()

    def forget(self) -> None:
        """Take in nothing more, and let go of what is here."""
        self.entry.discard = True  # of a no_ack consumer, too: what still comes would stay here for ever
        self.withdraw()
        self.in_hand = False
        self._unlink()
        self.ended()  # whoever waits for what was on disk looks again
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

    __slots__ = ('__weakref__', '_inlet', '_timeout')

    def __init__(self, inlet: IteratorInbox, timeout: float | None) -> None:
        self._inlet = inlet
        self._timeout = timeout

    @classmethod
    def start(cls, channel: Any, connection: Any, tag: str, no_ack: bool, timeout: float | None) -> Deliveries:
        return cls(IteratorInbox(channel, connection, tag, no_ack), timeout)

    def __repr__(self) -> str:
        inlet = self._inlet
        state = 'ended' if inlet.over else 'closing' if inlet.entry.discard else 'open'
        return f'<Deliveries {inlet.tag} {state}, {len(inlet.messages or ())} waiting>'

    @property
    def inbox(self) -> Inbox:
        return self._inlet

    @property
    def tag(self) -> str:
        """The consumer tag."""
        return self._inlet.tag

    @property
    def delivered(self) -> int:
        """Messages that have arrived."""
        return self._inlet.delivered

    def __iter__(self) -> Deliveries:
        return self

    def __next__(self) -> Message:
        inlet = self._inlet
        connection = inlet.connection
        if get_ident() != connection.thread:
            connection.check_thread()
        if inlet.in_hand:
            inlet.in_hand = False
            inlet.settled_idle()
        flow = connection.flow_control
        if flow.until_look > 1:
            flow.until_look -= 1
        elif flow.turn_overdue():
            flow.let_others_run()
        message: Message | None = None
        while message is None:
            while not inlet.messages:
                if inlet.over and not inlet.spooled:
                    if inlet.reason is not None:
                        inlet.reason.throw()
                    raise StopIteration
                self._wait()
            message = inlet.take()
            if message is None:
                flow.let_others_run()
        inlet.in_hand = True
        owner, me = inlet.owner, getcurrent()
        if owner is None or owner() is not me:
            inlet.belong_to(me)
        return message

    def _wait(self) -> None:
        inlet = self._inlet
        if inlet.waiting is not None:
            raise RuntimeError(f'two greenlets iterate over consumer {inlet.tag}; use subscribe to share its work')
        owner, me = inlet.owner, getcurrent()
        if owner is None or owner() is not me:
            inlet.belong_to(me)
        inlet.waiting = green.Slot(inlet.connection.green)
        try:
            if not inlet.waiting.wait(self._timeout):
                raise TimeoutError(f'consumer {inlet.tag}: no message within {in_seconds(self._timeout)}')
        finally:
            inlet.waiting = None

    def __enter__(self) -> Deliveries:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel the consumer and give back to the queue what was not yielded. Closing twice does nothing.

        What a no_ack consumer had here is lost: the broker has forgotten it. Waits
        for the broker's consent, at most rpc_timeout (TimeoutError). Switches greenlets.
        """
        inlet = self._inlet
        inlet.connection.check_thread()
        try:
            if not inlet.over and not inlet.entry.discard:
                inlet.channel._end_consumer(inlet.entry, wait=True)
        finally:
            inlet.forget()

    def __del__(self) -> None:
        inlet = self._inlet
        connection = inlet.connection
        if not connection.in_own_thread():
            connection.call_in_hub_later(inlet.leave)
        elif inlet.channel._asking:
            connection.green.run_soon(inlet.leave)  # the garbage collector came between two steps that belong together
        else:
            inlet.leave()
