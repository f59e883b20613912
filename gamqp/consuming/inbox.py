"""Messages that have arrived for one consumer and have not been handed out.

Layer 3. The reader puts messages in; an iterating greenlet (``iterator``) or worker
greenlets (``subscription``) take them out. Each message counts against the
connection's budget while it is here. What the reader calls never switches
greenlets and runs no user code.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..green.yielding import AT_ONCE, in_turns
from ..state.consumers import ConsumerRecord as Entry
from ..state.lifecycle import Reason
from ..state.uncopyable import Uncopyable

if TYPE_CHECKING:
    from ..channel.channel import Channel
    from ..connection.connection import Connection

__all__ = ('Inbox', 'Term', 'complete_ends')


class Term:
    """The time in which the consumers of a channel can live. reason: why it is over, None before."""

    __slots__ = ('reason',)

    def __init__(self) -> None:
        self.reason: Reason | None = None


_UNENDED = Term()


class Inbox(Uncopyable):
    """One consumer's messages, in order of arrival.

    entry: what the channel knows of the consumer. term: it ends with that, if not before.
    """

    __slots__ = ('_budget', '_over', '_reason', 'channel', 'connection', 'delivered', 'entry', 'messages', 'term')

    #: False for what those may need who finish what they have begun: Connection.drain leaves it.
    brings_work = True
    #: Whether nobody will ask why it has ended.
    is_unheard = False
    #: Whether messages wait here. False where each is taken at once; then it must not wait on disk either.
    keeps = True

    def __init__(self, channel: Channel, connection: Connection, tag: str, no_ack: bool) -> None:
        self.channel = channel
        self.connection = connection
        self.entry = Entry(tag, None, None, no_ack, self)
        self.messages: deque[Any] | None = None  # made when needed: most consumers wait most of the time
        self.delivered = 0
        self.term = _UNENDED  # until it is started
        self._over = False  # before its term
        self._reason: Reason | None = None
        self._budget = connection.receive_memory.budget

    @property
    def over(self) -> bool:
        """Whether nothing more will arrive."""
        return self._over or self.term.reason is not None

    @property
    def reason(self) -> Reason | None:
        """Why it is over, None when we cancelled it ourselves."""
        return self._reason if self._over else self.term.reason

    @property
    def tag(self) -> str:
        """The consumer tag."""
        return self.entry.tag

    @property
    def spooled(self) -> int:
        """Messages that are on disk, and will come."""
        overflow = self.connection.receive_memory.overflow
        return 0 if overflow is None else overflow.of(self.entry)

    @property
    def busy(self) -> bool:
        """Whether the program works on a message from here, or will."""
        raise NotImplementedError

    @property
    def awaits_message(self) -> bool:
        """Whether the program has nothing to do until the next message comes."""
        return self.brings_work and not self.busy and not self.messages

    def works_apart_from(self, some: Container[Any]) -> bool:
        """Whether another greenlet than these works on a message from here."""
        raise NotImplementedError

    # -- from the reader ------------------------------------------------------------

    def put(self, message: Any) -> None:
        self._budget.take(message.weight)
        self.delivered += 1
        if self.messages is None:
            self.messages = deque()
        self.messages.append(message)
        self.arrived()
        if self.entry.discard:  # an iterator was collected since the reader looked
            self.channel._withdraw(self.entry)

    def arrived(self) -> None:
        """A message has been put in."""
        raise NotImplementedError

    def finish(self, reason: Reason | None) -> None:
        """The broker knows this consumer no more. What it sent with no_ack can still be had."""
        if not self.over:
            self._over = True
            self._reason = reason
            in_turns(self.connection.green, self.complete_end())

    def complete_end(self, same_tags: bool = True) -> Iterator[None]:
        """It is over, some turns of the hub ago perhaps: what is here goes, and who waits is woken.

        same_tags: its delivery tags are still those of the channel. Returns steps that are left to be done.
        """
        # What the broker has taken back.
        rest = iter(()) if self.reason is None or self.entry.no_ack else self.take_all()
        if self.busy:
            self.connection.finishing.retiring.add(self)
        elif same_tags:
            self.close_books()
        self.ended()
        return rest

    @property
    def has_hearer(self) -> bool:
        """Whether somebody will ask why it has ended."""
        raise NotImplementedError

    def close_books(self) -> None:
        """The consumer has ended, and the program works on none of its messages."""
        if self.entry.of_stream or self.entry.numbered:
            self.channel._close_books(self.entry)

    def ended(self) -> None:
        """There will be no more."""
        raise NotImplementedError

    # -- for those who take out --------------------------------------------------------

    def take(self) -> Any:
        """The oldest message; there must be one. Does not switch.

        Messages that were settled while they waited are passed over; None after 1000 of them,
        or if there are no others.
        """
        messages = self.messages
        assert messages
        message = messages.popleft()
        self._return_budget(message.weight)
        if self.channel._doubtful and self.channel._is_void(self.entry, message):
            return self._take_valid(messages)
        return message

    def _take_valid(self, messages: deque[Any]) -> Any:
        for _ in range(AT_ONCE):
            if not messages:
                break
            message = messages.popleft()
            self._return_budget(message.weight)
            if not self.channel._is_void(self.entry, message):
                return message
        return None

    def withdraw(self, give_back: bool = False) -> None:
        """Take out everything that is here. give_back: to its queue. Does not switch."""
        in_turns(self.connection.green, self.take_all(give_back))

    def take_all(self, give_back: bool = False) -> Iterator[None]:
        """``withdraw``: at once for all who ask; the steps that it returns free the room of each message."""
        messages, self.messages = self.messages, None
        overflow = self.connection.receive_memory.overflow
        if overflow is not None:
            overflow.drop(self.entry)
        return self._put_away(messages or deque(), give_back)

    def _put_away(self, messages: deque[Any], give_back: bool) -> Iterator[None]:
        while messages:
            message = messages.popleft()
            if give_back:
                self.channel._give_back_known(message, self.entry.of_stream)
            self._return_budget(message.weight)
            yield

    def drop_void(self) -> Iterator[None]:
        """Take out what must not be handed out any more, message by message."""
        while self.messages and self.channel._is_void(self.entry, self.messages[0]):
            self._return_budget(self.messages.popleft().weight)
            yield

    def spool_lost(self) -> None:
        """What was on disk will not come."""
        if self.over:
            self.ended()
            self.settled_idle()

    def _return_budget(self, size: int) -> None:
        self._budget.give_back(size)
        memory = self.connection.receive_memory
        if memory.crowded:
            memory.freed()

    def settled_idle(self) -> None:
        """The program has finished what it had in hand."""
        finishing = self.connection.finishing
        if finishing.retiring:
            finishing.retire(self)


def complete_ends(channel: Any, inboxes: Iterable[Any], incarnation: int) -> Iterator[None]:
    """``complete_end`` of each whose term is over, in steps. The channel may be open again before the last of them."""
    for inbox in inboxes:
        yield from inbox.complete_end(channel.incarnation == incarnation)
        yield
