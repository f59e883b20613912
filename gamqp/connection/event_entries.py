"""What is in the queue of a connection's events: an entry for each, and the messages that the entries stand for.

Layer 4, the base class of ``EventQueue``. The messages of each consumer wait in a queue of their own
(``WaitingMessages``). The queue of events has one entry for each event, in order of arrival: the WaitingMessages whose
turn it is, or a notice. So what is undelivered of one consumer can be taken away without a walk over the others. The
entries that stay behind are void: they are passed over, and removed when there are many. Nothing here switches
greenlets. Does not belong here: who gets the events, and when.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from ..basic_message import Message
from ..green.yielding import AT_ONCE, in_turns
from ..state.consumers import ConsumerRecord
from ..state.receive_budget import ReceiveBudget
from .receive_backpressure import ReceiveBackpressure

__all__ = ('EventEntries', 'WaitingMessages')


class WaitingMessages(deque[Message]):
    """Undelivered messages of one consumer."""

    # Set by whoever makes one, and not in an __init__: a call for each message where they come one by one.
    __slots__ = ('consumer', 'void')

    consumer: ConsumerRecord
    void: int  # how many more entries it has than messages


class EventEntries(ABC):
    """Of one connection. backpressure: the room of what is removed goes back there."""

    def __init__(self, backpressure: ReceiveBackpressure) -> None:
        self._backpressure = backpressure
        self._green: Any = None
        self.forget()

    def begin(self, backend: ModuleType) -> None:
        """For a new socket."""
        self._green = backend
        self.forget()

    def forget(self) -> None:
        """Nothing of what is here is handed out any more."""
        # Keyed by the record and not by the tag: a tag may be used again while messages of the consumer before it
        # wait. An entry leaves with its last message, so to be in the dict means to have some.
        self._waiting: dict[ConsumerRecord, WaitingMessages] = {}  # of those that have messages
        # A WaitingMessages stands in the queue once for each message that it had when the entry was added. Taking the
        # messages away leaves the entries, and _void counts those. So, of both queues together: entries = messages +
        # _notices + _void.
        self._events: deque[Any] = deque()  # of WaitingMessages, and of notices
        self._older: deque[Any] = deque()  # entries before those, left by a removal of void ones
        self._notices = 0  # how many entries are notices
        self._void = 0  # the sum of their WaitingMessages.void
        # Not 0 only while _sweep is under way; no second walk is begun then.
        self._unswept = 0  # entries that a removal of void ones has still to look at

    @abstractmethod
    def show(self) -> None:
        """Entries have become void: let an event loop of the program know. Must not switch."""

    # -- what is here ----------------------------------------------------------------------

    @property
    def has_events(self) -> bool:
        """Whether drain_events has something to hand out that is here already."""
        # Numbers and no walk: asked for each event that is handed out, and whenever the descriptor is set.
        return len(self._events) + len(self._older) > self._void

    @property
    def _has_deliveries(self) -> bool:
        return len(self._events) + len(self._older) > self._void + self._notices

    def has_some_of(self, consumer: ConsumerRecord) -> bool:
        """Whether messages of this consumer wait here, or on disk."""
        # What is on disk comes here later, so a consumer with messages there is not done.
        overflow = self._backpressure.overflow
        return consumer in self._waiting or (overflow is not None and overflow.of(consumer) > 0)

    def holders(self) -> Iterator[tuple[int, str, int]]:
        """(channel number, consumer tag, messages) of each consumer that has some here."""
        # The caller may let the hub run between two items. So a copy is walked, and a consumer in it may have lost
        # its messages since.
        for consumer, waiting in list(self._waiting.items()):
            if waiting:
                yield waiting[0]._channel_id, consumer.tag, len(waiting)

    def withdraw(self, consumer: ConsumerRecord) -> None:
        """Give back to the queue what is undelivered of this consumer. Does not switch."""
        if consumer in self._waiting:
            # Taken away at once, given back in steps: from here on no drain_events gets one of them, however many
            # there are. With no_ack the broker has forgotten them, and nothing is sent.
            in_turns(self._green, self._free_all(self._take_away(consumer), not consumer.no_ack, consumer.of_stream))
        if self._backpressure.overflow is not None:
            self._backpressure.overflow.withdraw(consumer)

    def _take_away(self, consumer: ConsumerRecord) -> deque[Message]:
        """The messages of a consumer; their entries in the queue are void."""
        waiting = self._waiting.pop(consumer)
        # The queue's entries refer to the object itself. It is emptied and not replaced, so that each of them is
        # found to be void. A later message of this consumer goes into a new one.
        messages = deque(waiting)
        waiting.clear()
        # Both lines belong together: what was an entry with a message is now a void one.
        self._void += len(messages)
        waiting.void += len(messages)
        self._sweep_if_due()
        self.show()
        return messages

    def _free_all(self, messages: deque[Message], give_back: bool = False, of_stream: bool = False) -> Iterator[None]:
        budget = self._backpressure.budget
        # Steps are taken in later turns. When the connection has ended since, a new budget has begun, and these
        # messages are not counted there.
        while messages and budget is self._backpressure.budget:
            message = messages.popleft()
            if give_back:
                message.channel._give_back_known(message, of_stream)
            self._free(budget, message)
            yield

    def _free(self, budget: ReceiveBudget, message: Message) -> None:
        budget.give_back(message._weight)
        # False in most programs: a comparison is all that a message pays for the memory limit here.
        if self._backpressure.crowded:
            self._backpressure.freed()

    # -- void entries ------------------------------------------------------------------------

    def _sweep_if_due(self) -> None:
        """Remove void entries, if most are: there would be more and more of them where nobody drains."""
        # Few void entries are not worth a walk: drain_events passes over a thousand of them in one step.
        if not self._unswept and self._void > AT_ONCE and 2 * self._void > len(self._events) + len(self._older):
            # One queue in order of arrival, which _sweep takes apart from the front in later turns. What arrives
            # meanwhile is added behind it; _unswept does not count that.
            self._older.extend(self._events)
            self._events, self._older = self._older, deque()
            self._unswept = len(self._events)
            in_turns(self._green, self._sweep())

    def _sweep(self) -> Iterator[None]:
        """What is kept goes to ``_older``, where drain_events looks first."""
        # drain_events may take entries from _older, or from _events when that is empty, between two steps. The second
        # test covers the case that it has taken the last one.
        while self._unswept and self._events:
            self._unswept -= 1
            event = self._events.popleft()
            # Also of a consumer that has got messages since. Its first entries go, so that these keep the places at
            # which they have arrived; and no void entry is left behind, for which the walk would begin again.
            if type(event) is WaitingMessages and event.void:
                event.void -= 1
                self._void -= 1
            else:
                self._older.append(event)
            yield
        self._unswept = 0
        # More may have become void while this walk was under way, and it was not begun again then.
        self._sweep_if_due()
