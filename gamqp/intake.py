"""What has arrived for one consumer of our own kind and has not been handed out: Intake and Deliveries.

Layer 3. The reader puts messages in; an iterating greenlet (Deliveries, here) or
worker greenlets (``gamqp.consumer``) take them out. Each message counts against
the connection's budget while it is here. What the reader calls never switches
greenlets and runs no user code.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Container, Iterable, Iterator
from typing import Any

from greenlet import getcurrent

from . import green
from .green.native import get_ident
from .green.turns import AT_ONCE, in_turns
from .state.consumers import Consumer as Entry
from .state.durations import in_seconds
from .state.lifecycle import Reason
from .state.unique import Unique

__all__ = ('Deliveries', 'Intake', 'Term', 'complete_ends')


class Term:
    """The time in which the consumers of a channel can live. reason: why it is over, None before."""

    __slots__ = ('reason',)

    def __init__(self) -> None:
        self.reason: Reason | None = None


_UNENDED = Term()


class Intake(Unique):
    """One consumer's messages, in order of arrival.

    entry: what the channel knows of the consumer. term: it ends with that, if not before.
    """

    __slots__ = ('_budget', '_over', '_reason', 'channel', 'delivered', 'entry', 'messages', 'root', 'term')

    #: False for what those may need who finish what they have begun: Connection.drain leaves it.
    brings_work = True
    #: Whether nobody will ask why it has ended.
    is_unheard = False
    #: Whether messages wait here. False where each is taken at once; then it must not wait on disk either.
    keeps = True

    def __init__(self, channel: Any, root: Any, tag: str, no_ack: bool) -> None:
        self.channel = channel
        self.root = root
        self.entry = Entry(tag, None, None, no_ack, self)
        self.messages: deque[Any] | None = None  # made when needed: most consumers wait most of the time
        self.delivered = 0
        self.term = _UNENDED  # until it is started
        self._over = False  # before its term
        self._reason: Reason | None = None
        self._budget = root.budget

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
        backlog = self.root.backlog
        return 0 if backlog is None else backlog.of(self.entry)

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
            in_turns(self.root.green, self.complete_end())

    def complete_end(self, same_tags: bool = True) -> Iterator[None]:
        """It is over, some turns of the hub ago perhaps: what is here goes, and who waits is woken.

        same_tags: its delivery tags are still those of the channel. Returns steps that are left to be done.
        """
        # What the broker has taken back.
        rest = iter(()) if self.reason is None or self.entry.no_ack else self.take_all()
        if self.busy:
            self.root.retiring.add(self)
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
            self.channel.close_books(self.entry)

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
        if self.channel.doubtful and self.channel.is_void(self.entry, message):
            return self._take_valid(messages)
        return message

    def _take_valid(self, messages: deque[Any]) -> Any:
        for _ in range(AT_ONCE):
            if not messages:
                break
            message = messages.popleft()
            self._return_budget(message.weight)
            if not self.channel.is_void(self.entry, message):
                return message
        return None

    def withdraw(self, give_back: bool = False) -> None:
        """Take out everything that is here. give_back: to its queue. Does not switch."""
        in_turns(self.root.green, self.take_all(give_back))

    def take_all(self, give_back: bool = False) -> Iterator[None]:
        """``withdraw``: at once for all who ask; the steps that it returns free the room of each message."""
        messages, self.messages = self.messages, None
        if self.root.backlog is not None:
            self.root.backlog.drop(self.entry)
        return self._put_away(messages or deque(), give_back)

    def _put_away(self, messages: deque[Any], give_back: bool) -> Iterator[None]:
        while messages:
            message = messages.popleft()
            if give_back:
                self.channel.give_back_known(message, self.entry.of_stream)
            self._return_budget(message.weight)
            yield

    def drop_void(self) -> Iterator[None]:
        """Take out what must not be handed out any more, message by message."""
        while self.messages and self.channel.is_void(self.entry, self.messages[0]):
            self._return_budget(self.messages.popleft().weight)
            yield

    def spool_lost(self) -> None:
        """What was on disk will not come."""
        if self.over:
            self.ended()
            self.settled_idle()

    def _return_budget(self, size: int) -> None:
        self._budget.give_back(size)
        if self.root.crowded:
            self.root.freed()

    def settled_idle(self) -> None:
        """The program has finished what it had in hand."""
        if self.root.retiring:
            self.root.retire(self)


def complete_ends(channel: Any, intakes: Iterable[Any], incarnation: int) -> Iterator[None]:
    """``complete_end`` of each whose term is over, in steps. The channel may be open again before the last of them."""
    for intake in intakes:
        yield from intake.complete_end(channel.incarnation == incarnation)
        yield


class _Inlet(Intake):
    """The half of an iterator that the channel holds."""

    __slots__ = ('__weakref__', '_link', 'in_hand', 'owner', 'waiting')

    def __init__(self, channel: Any, root: Any, tag: str, no_ack: bool) -> None:
        super().__init__(channel, root, tag, no_ack)
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
        self._link = self.root.green.FailureLink(owner, self.leave)

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
            self.channel.end_consumer(self.entry, wait=False)
        self.forget()

    def forget(self) -> None:
        """Take in nothing more, and let go of what is here."""
        self.entry.discard = True  # of a no_ack consumer, too: what still comes would stay here for ever
        self.withdraw()
        self.in_hand = False
        self._unlink()
        self.ended()  # whoever waits for what was on disk looks again
        self.settled_idle()


class Deliveries(Unique):
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

    def __init__(self, inlet: _Inlet, timeout: float | None) -> None:
        self._inlet = inlet
        self._timeout = timeout

    @classmethod
    def start(cls, channel: Any, root: Any, tag: str, no_ack: bool, timeout: float | None) -> Deliveries:
        return cls(_Inlet(channel, root, tag, no_ack), timeout)

    def __repr__(self) -> str:
        inlet = self._inlet
        state = 'ended' if inlet.over else 'closing' if inlet.entry.discard else 'open'
        return f'<Deliveries {inlet.tag} {state}, {len(inlet.messages or ())} waiting>'

    @property
    def intake(self) -> Intake:
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

    def __next__(self) -> Any:
        inlet = self._inlet
        root = inlet.root
        if get_ident() != root.thread:
            root.check_thread()
        if inlet.in_hand:
            inlet.in_hand = False
            inlet.settled_idle()
        if root.until_look > 1:
            root.until_look -= 1
        elif root.long_without_breath():
            root.breathe()
        message = None
        while message is None:
            while not inlet.messages:
                if inlet.over and not inlet.spooled:
                    if inlet.reason is not None:
                        inlet.reason.throw()
                    raise StopIteration
                self._wait()
            message = inlet.take()
            if message is None:
                root.breathe()
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
        inlet.waiting = green.Slot(inlet.root.green)
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
        inlet.root.check_thread()
        try:
            if not inlet.over and not inlet.entry.discard:
                inlet.channel.end_consumer(inlet.entry, wait=True)
        finally:
            inlet.forget()

    def __del__(self) -> None:
        inlet = self._inlet
        root = inlet.root
        if not root.in_own_thread():
            root.leave_word(inlet.leave)
        elif inlet.channel.asking:
            root.green.run_soon(inlet.leave)  # the garbage collector came between two steps that belong together
        else:
            inlet.leave()
