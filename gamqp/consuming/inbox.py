"""Messages that have arrived for one consumer and that the program has not taken yet.

Layer 3. The reader puts messages in. A greenlet that iterates (``iterator``), or worker greenlets
(``subscription``), take them out. While a message is here it counts towards the connection's memory limits. Methods
that the reader calls do not switch greenlets and run no user code. Does not belong here: deliveries for
drain_events, which wait in ``gamqp.connection``.
"""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..green.yielding import AT_ONCE, in_turns
from ..state.consumers import ConsumerInbox, Term
from ..state.consumers import ConsumerRecord as Entry
from ..state.lifecycle import Reason
from ..state.uncopyable import Uncopyable

if TYPE_CHECKING:
    from ..basic_message import Message
    from .owner_protocols import ConsumerChannel, ConsumerConnection

__all__ = ('Inbox', 'complete_ends')


# That of inboxes whose consumer has not started.
_UNENDED = Term()


class Inbox(Uncopyable, abc.ABC):
    """One consumer's messages, in order of arrival.

    entry: the channel's record of the consumer. term: of the channel; the consumer ends with it at the latest.
    """

    __slots__ = ('_budget', '_over', '_reason', 'channel', 'connection', 'delivered', 'entry', 'messages', 'term')

    #: False for consumers that running handlers may still need (RPC replies); Connection.drain does not cancel those.
    brings_work = True
    #: Whether the program will not learn from this object that the consumer has ended, so that it must be logged.
    is_unheard = False
    #: Whether messages wait here. False if each is taken at once; then it must not wait on disk either.
    keeps = True

    def __init__(self, channel: ConsumerChannel, connection: ConsumerConnection, tag: str, no_ack: bool) -> None:
        self.channel = channel
        self.connection = connection
        self.entry = Entry(tag, None, None, no_ack, self)
        # Made when needed: most consumers have no messages most of the time.
        self.messages: deque[Message] | None = None
        self.delivered = 0
        self.term = _UNENDED  # replaced by the channel's when the consumer starts
        self._over = False  # the consumer has ended before its term
        self._reason: Reason | None = None
        self._budget = connection._backpressure.budget

    @property
    def over(self) -> bool:
        """Whether nothing more will arrive."""
        return self._over or self.term.reason is not None

    @property
    def reason(self) -> Reason | None:
        """Why it has ended; None while it has not, and when the program cancelled it."""
        return self._reason if self._over else self.term.reason

    @property
    def tag(self) -> str:
        """The consumer tag."""
        return self.entry.tag

    @property
    def spooled(self) -> int:
        """How many of its messages are on disk, and will be put in later."""
        overflow = self.connection._backpressure.overflow
        return 0 if overflow is None else overflow.of(self.entry)

    @property
    @abc.abstractmethod
    def busy(self) -> bool:
        """Whether the program works on a message from here, or will, although the consumer may have ended."""

    @property
    def awaits_message(self) -> bool:
        """Whether the program has nothing to do until the next message comes."""
        return self.brings_work and not self.busy and not self.messages

    @abc.abstractmethod
    def works_apart_from(self, some: Container[Any]) -> bool:
        """Whether a greenlet that is not among these works on a message from here."""

    # -- from the reader ------------------------------------------------------------

    def put(self, message: Message) -> None:
        """A message has arrived. Does not switch."""
        self._budget.take(message._weight)
        self.delivered += 1
        if self.messages is None:
            self.messages = deque()
        self.messages.append(message)
        self.arrived()
        if self.entry.discard:  # the garbage collector ended this consumer since the reader checked that
            self.channel._withdraw(self.entry)

    def put_run(self, run: list[Message], weight: int) -> None:
        """``put`` for messages that have arrived together. weight: the sum of theirs. Does not switch."""
        budget = self._budget
        budget.messages += len(run)
        budget.bytes += weight
        self.delivered += len(run)
        if self.messages is None:
            self.messages = deque()
        self.messages.extend(run)
        self.arrived(len(run))
        if self.entry.discard:
            self.channel._withdraw(self.entry)

    @abc.abstractmethod
    def arrived(self, count: int = 1) -> None:
        """So many messages have been put in: wake or start whatever takes them. Must not switch."""

    def finish(self, reason: Reason | None) -> None:
        """The consumer has ended at the broker. Messages of a no_ack consumer can still be taken. Does not switch."""
        if not self.over:
            self._over = True
            self._reason = reason
            in_turns(self.connection._green, self.complete_end())

    def complete_end(self, same_tags: bool = True) -> Iterator[None]:
        """Do what follows from the end of the consumer, perhaps some passes of the hub later. Does not switch.

        Messages that the broker requeues are dropped, and waiting greenlets are woken. same_tags: the channel has not
        been reopened since, so its delivery tags still count. Returns the steps that free the memory of the messages.
        """
        # The broker requeues what was not acked when the channel or connection ended.
        rest = iter(()) if self.reason is None or self.entry.no_ack else self.take_all()
        if self.busy:
            self.connection._unfinished_handlers.retiring.add(self)
        elif same_tags:
            self.close_books()
        self.ended()
        return rest

    @property
    @abc.abstractmethod
    def has_hearer(self) -> bool:
        """Whether a greenlet of the program will get the error with which this consumer ended."""

    def close_books(self) -> None:
        """The consumer has ended and its messages are done: the channel forgets what it knows of them."""
        if self.entry.of_stream or self.entry.numbered:
            self.channel._close_books(self.entry)

    @abc.abstractmethod
    def ended(self) -> None:
        """No more messages will be put in: wake what waits for one. Must not switch."""

    # -- for the program's greenlets -----------------------------------------------------

    def take(self) -> Message | None:
        """Take out the oldest message; there must be one. Does not switch.

        Messages that were acked or nacked while they waited here, by a *multiple*, are dropped. Returns None after
        1000 of those, or when there are no others.
        """
        messages = self.messages
        assert messages
        message = messages.popleft()
        self._return_budget(message._weight)
        channel = self.channel
        if channel._void is not None and channel._void.covers(self.entry, message, channel._incarnation):
            return self._take_valid(channel, messages)
        return message

    def _take_valid(self, channel: ConsumerChannel, messages: deque[Message]) -> Message | None:
        for _ in range(AT_ONCE):
            if not messages:
                break
            message = messages.popleft()
            self._return_budget(message._weight)
            if channel._void is None or not channel._void.covers(self.entry, message, channel._incarnation):
                return message
        return None

    def withdraw(self, give_back: bool = False) -> None:
        """Drop all messages. give_back: have the broker requeue them. Does not switch."""
        in_turns(self.connection._green, self.take_all(give_back))

    def take_all(self, give_back: bool = False) -> Iterator[None]:
        """``withdraw`` in steps.

        The messages are gone from here at once; each returned step frees the memory of one.
        """
        messages, self.messages = self.messages, None
        overflow = self.connection._backpressure.overflow
        if overflow is not None:
            overflow.drop(self.entry)
        return self._put_away(messages or deque(), give_back)

    def _put_away(self, messages: deque[Message], give_back: bool) -> Iterator[None]:
        while messages:
            message = messages.popleft()
            if give_back:
                self.channel._give_back_known(message, self.entry.of_stream)
            self._return_budget(message._weight)
            yield

    def drop_void(self) -> Iterator[None]:
        """Drop, from the oldest on, messages that must not be handed out any more; one in each step."""
        channel = self.channel
        while (
            self.messages
            and channel._void is not None
            and channel._void.covers(self.entry, self.messages[0], channel._incarnation)
        ):
            self._return_budget(self.messages.popleft()._weight)
            yield

    def spool_lost(self) -> None:
        """Messages of this consumer that were on disk will not be put in."""
        if self.over:
            self.ended()
            self.settled_idle()

    def _return_budget(self, size: int) -> None:
        self._budget.give_back(size)
        backpressure = self.connection._backpressure
        if backpressure.crowded:
            backpressure.freed()

    def settled_idle(self) -> None:
        """The program has finished the message it worked on. Does not switch."""
        unfinished_handlers = self.connection._unfinished_handlers
        if unfinished_handlers.retiring:
            unfinished_handlers.retire(self)


def complete_ends(channel: ConsumerChannel, inboxes: Iterable[ConsumerInbox], incarnation: int) -> Iterator[None]:
    """``complete_end`` of inboxes whose channel has ended, in steps. It may be open again before the last step."""
    for inbox in inboxes:
        yield from inbox.complete_end(channel._incarnation == incarnation)
        yield
