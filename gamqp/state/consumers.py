"""The consumers of one channel, by consumer tag.

State, no I/O. A consumer is added before basic.consume is sent, because its
first delivery may arrive before the caller wakes. It is removed when nothing more
can arrive for it: when cancel-ok has come, or when the broker has cancelled it.
Does not belong here: messages (``consuming``); what programs see of the table (``consumer_views``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from .expected_replies import Expected
from .lifecycle import Reason

if TYPE_CHECKING:
    from ..basic_message import Message

__all__ = ('ConsumerInbox', 'ConsumerRecord', 'ConsumerTable', 'Term')

# Ended consumers whose tag, queue and no_ack are remembered: their last deliveries may still wait to be handed out.
REMEMBERED = 100

# Deliveries for an ended consumer after which the log says so. Fewer may have been on their way when it ended.
TOLERATED = 10


class ConsumerInbox(Protocol):
    """Takes the messages of one consumer, and learns of its end. ``consuming.inbox`` says more of each.

    No method switches greenlets. The steps that some of them return may be taken in later turns of the hub.
    """

    #: The channel's, from when the consumer starts.
    term: Term

    # -- what it is

    @property
    def brings_work(self) -> bool: ...

    @property
    def keeps(self) -> bool: ...

    @property
    def tag(self) -> str: ...

    # -- how it stands

    @property
    def messages(self) -> Collection[Message] | None: ...

    @property
    def over(self) -> bool: ...

    @property
    def busy(self) -> bool: ...

    @property
    def awaits_message(self) -> bool: ...

    @property
    def has_hearer(self) -> bool: ...

    @property
    def is_unheard(self) -> bool: ...

    def works_apart_from(self, some: Container[Any]) -> bool: ...

    # -- what is told to it

    def put(self, message: Message) -> None: ...

    def put_run(self, run: list[Message], weight: int) -> None: ...

    def finish(self, reason: Reason | None) -> None: ...

    def complete_end(self, same_tags: bool = True) -> Iterator[None]: ...

    def spool_lost(self) -> None: ...

    def withdraw(self, give_back: bool = False) -> None: ...

    def take_all(self, give_back: bool = False) -> Iterator[None]: ...

    def drop_void(self) -> Iterator[None]: ...


class ConsumerRecord:
    """What is known of one consumer.

    * callback: takes a message; None where messages are dropped, or go to an inbox.
    * on_cancel: takes the consumer tag, or None.
    * inbox: takes the messages of an iterator, a subscription or an RPC client; None for a consumer with a callback.
    * discard: deliveries go back to the queue instead of to the program.
    * queue: the name of the queue.
    * of_stream: the queue is a stream, by how it was declared or by the arguments of consume.
    * numbered: the queue seems to be a stream: its first message had a stream's header, and nothing else is known.
    * watched: the prefetch, until the log has said that unsettled messages use it up; 0 to say nothing.
    * books: its first delivery has been examined (for *numbered*). Stays False with no_ack.
    * era: how often all consumers of its channel had been ended when it was started.
    """

    __slots__ = (
        'books',
        'callback',
        'discard',
        'era',
        'inbox',
        'no_ack',
        'numbered',
        'of_stream',
        'on_cancel',
        'queue',
        'tag',
        'watched',
    )

    def __init__(
        self,
        tag: str,
        callback: Callable[[Any], Any] | None,
        on_cancel: Callable[[str], Any] | None,
        no_ack: bool,
        inbox: ConsumerInbox | None = None,
    ) -> None:
        self.tag = tag
        # At most one of callback and inbox is set. The table counts consumers by which one it is.
        self.callback = callback
        self.on_cancel = on_cancel
        self.no_ack = no_ack
        self.inbox = inbox
        # Set when the queue is checked, before the consumer is entered.
        self.queue = ''
        # ``of_stream`` is set before basic.consume is sent, ``numbered`` by the first delivery.
        self.books = self.of_stream = self.numbered = False
        self.watched = 0
        # Set when the consumer is entered. VoidDeliveries compares it with the era of the channel.
        self.era = 0
        # Set when it is cancelled, by the program or the broker, when its channel has ended, and when nobody will take
        # its messages: the caller of consume was killed, or the iterator dropped.
        self.discard = False


class Term:
    """The time in which a channel is open, shared by its consumers. reason: why it has ended, None while it lasts."""

    __slots__ = ('reason',)

    def __init__(self) -> None:
        # Set once. Ended consumers keep this object, and those that are started later get another one.
        self.reason: Reason | None = None


class ConsumerTable(dict[str, ConsumerRecord]):
    """Consumer tag -> ConsumerRecord. Makes new tags, too.

    with_callback: how many consumers have a callback. has_watched: whether there was one for the warning about
    unacked deliveries to look at.
    """

    __slots__ = ('_inboxes', '_left', '_made', '_starting', '_strays', '_term', 'has_watched', 'with_callback')

    def __init__(self) -> None:
        super().__init__()
        # Never reset, not even by clear(): a tag that is made twice could get deliveries of its first consumer.
        self._made = 0
        # enter(), remove() and clear() are the only ones that change the table, and they change this number with it.
        self.with_callback = 0
        # It stays True when those consumers have ended, until clear(). A look in vain costs little.
        self.has_watched = False
        # These are made when needed: most channels have no more than a consumer or two.
        # Tag whose consume-ok has not come -> what the cancels expect that wait for it.
        # An entry is made before basic.consume is sent, and leaves with consume-ok. clear() leaves it alone:
        # take_cancels() comes after it.
        self._starting: dict[str, list[Expected]] | None = None
        self._term: Term | None = None
        self._inboxes: dict[str, ConsumerInbox] | None = None
        # Oldest first, at most REMEMBERED.
        self._left: dict[str, tuple[str, bool]] | None = None  # tag -> (queue, no_ack) of ended consumers
        self._strays: dict[str, int] | None = None  # tag of no consumer -> deliveries that came for it

    def fresh_tag(self, channel_id: int) -> str:
        """A tag no consumer of this connection has: tags made here carry the channel's number."""
        while True:
            self._made += 1
            tag = f'gamqp.{channel_id}.{self._made}'
            # The program may have chosen this name itself.
            if tag not in self:
                return tag

    @property
    def inboxes(self) -> dict[str, ConsumerInbox]:
        """Consumer tag -> inbox, of the consumers that have one."""
        return self._inboxes or {}

    def enter(self, consumer: ConsumerRecord) -> None:
        """Add a consumer, before basic.consume is sent."""
        self[consumer.tag] = consumer
        if consumer.inbox is not None:
            inboxes = self._inboxes = self._inboxes or {}
            inboxes[consumer.tag] = consumer.inbox
        elif consumer.callback is not None:
            self.with_callback += 1

    def remove(self, tag: str) -> ConsumerRecord | None:
        """Remove a consumer that has ended or could not be started. Returns it."""
        # It may be gone: the broker may cancel it while our own cancel is on its way.
        consumer = self.pop(tag, None)
        if consumer is not None:
            if consumer.inbox is not None:
                self.inboxes.pop(tag, None)
                # An emptied dict keeps its memory, and channels live long.
                self._inboxes = self._inboxes or None
            elif consumer.callback is not None:
                self.with_callback -= 1
        return consumer

    def leave(self, tag: str) -> ConsumerRecord | None:
        """Remove a consumer that has ended, and remember its tag, which messages may still have. Returns it."""
        consumer = self.remove(tag)
        if consumer is not None:
            left = self._left = self._left or {}
            # Taken out and put in again: the order is that of the latest end, and the oldest entry is at the front.
            left.pop(tag, None)
            left[tag] = consumer.queue, consumer.no_ack
            # Tags of programs that start a consumer for each request would fill the memory otherwise.
            if len(left) > REMEMBERED:
                del left[next(iter(left))]
        return consumer

    # -- between basic.consume and consume-ok -----------------------------------------

    def note_starting(self, tag: str) -> None:
        """basic.consume is about to be sent for this consumer."""
        starting = self._starting = self._starting or {}
        # The key says that the consumer is starting. Cancels that wait are seldom.
        starting[tag] = []

    def is_starting(self, tag: str) -> bool:
        """Whether its consume-ok has still to come."""
        return self._starting is not None and tag in self._starting

    def has_cancel_waiting(self, tag: str) -> bool:
        """Whether a cancel is to be sent as soon as its consume-ok has come."""
        return self._starting is not None and bool(self._starting.get(tag))

    def cancel_when_started(self, tag: str, expected: Expected) -> None:
        """Keep a cancel of a consumer that ``is_starting`` until ``note_started``."""
        assert self._starting is not None
        # RabbitMQ 3.10 ends the connection over a cancel that comes before consume-ok.
        self._starting[tag].append(expected)

    def note_started(self, tag: str) -> list[Expected]:
        """Its consume-ok has come, or will not come. Returns what the cancels expect that have waited for it."""
        starting = self._starting
        waiting = starting.pop(tag, []) if starting is not None else []
        if not starting:
            self._starting = None
        return waiting

    @property
    def awaits_cancels(self) -> bool:
        """Whether a caller waits for a cancel that is sent after consume-ok."""
        waiting = chain.from_iterable((self._starting or {}).values())
        # A cancel with nowait has no slot. A caller that was killed or timed out will not raise the error.
        return any(one.slot is not None and not one.abandoned for one in waiting)

    def take_cancels(self) -> Iterator[Expected]:
        """The channel has ended, and no consume-ok will come. Returns what the cancels expect that have waited."""
        # Emptied here and not in the steps: a consumer that is started meanwhile needs an entry of its own.
        starting, self._starting = self._starting, None
        return chain.from_iterable((starting or {}).values())

    # -- the time in which the channel is open -----------------------------------------

    @property
    def term(self) -> Term:
        """The present one, in which consumers are started."""
        if self._term is None:
            self._term = Term()
        return self._term

    def end_term(self, reason: Reason) -> bool:
        """The channel has ended: from now on its consumers know the reason. Returns whether any consumer asks for it.

        One step for all of them, however many there are; what follows from it for each comes later.
        """
        term, self._term = self._term, None
        # Only consumers with an inbox ask for the term, so there is none to wake.
        if term is None:
            return False
        term.reason = reason
        return True

    # -- consumers that have ended -----------------------------------------------------

    def is_stray(self, tag: str) -> bool:
        """Count a delivery for no consumer. Returns True once a tag, when TOLERATED have come: time for a warning."""
        strays = self._strays = self._strays or {}
        # A broken peer may invent tags without end; of those beyond so many nothing is counted.
        if tag in strays or len(strays) < REMEMBERED:
            strays[tag] = strays.get(tag, 0) + 1
            # Equal and not above: each tag is reported once.
            return strays[tag] == TOLERATED
        return False

    def queue_of(self, tag: Any) -> str:
        """The queue of a consumer, also of one that has ended a short while ago; '' if it is not known."""
        consumer = self.get(tag)
        return consumer.queue if consumer is not None else (self._left or {}).get(tag, ('', False))[0]

    def needs_no_ack(self, tag: Any) -> bool:
        """Whether this is the tag of a no_ack consumer, also of one that has ended a short while ago."""
        consumer = self.get(tag)
        if consumer is not None:
            return consumer.no_ack
        return self._left is not None and self._left.get(tag, ('', False))[1]

    def clear(self) -> None:
        # ``_made``, ``_starting`` and ``_term`` stay. The last two are ended by take_cancels() and end_term().
        super().clear()
        self._inboxes = None
        self.with_callback = 0
        self.has_watched = False
        self._left = self._strays = None
