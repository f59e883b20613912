"""A queue: what is ready, who consumes, limits, expiry. This is also the classic queue, which adds nothing.

Layer 5, pure. Quorum queues and streams override what they do otherwise. Does not belong here: checks of arguments and
permissions, bindings.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .clock import Timer
from .consumers import Consumers, QueueConsumer
from .errors import access_refused, queue_label
from .message import Entry, StoredMessage
from .policies import argument_or, least
from .ready import ByPriority, Fifo

if TYPE_CHECKING:
    from .session import Session
    from .virtual_host import VirtualHost

__all__ = ('Outcome', 'Queue')

Name = str | bytes


class Outcome(enum.Enum):
    """What becomes of a message that was delivered."""

    ACK = 'ack'
    #: Not put back: by basic.nack, and by basic.reject.
    DISCARD = 'discard'
    REFUSE = 'refuse'
    #: Put back by basic.nack, by basic.reject, and because consumer or channel ended (or basic.recover).
    NACK = 'nack'
    REJECT = 'reject'
    RETURN = 'return'


class Queue:
    """A classic queue. owner: the session that it is exclusive to."""

    kind = 'classic'

    def __init__(
        self,
        host: VirtualHost,
        name: Name,
        durable: bool,
        auto_delete: bool,
        owner: Session | None,
        arguments: dict[Any, Any],
    ) -> None:
        self.host = host
        self.name = name
        self.durable = durable
        self.auto_delete = auto_delete
        self.owner = owner
        self.exclusive = owner is not None
        self.arguments = arguments
        #: The node that the queue lives on, see ``Cluster``.
        self.leader: Any = None
        self.deleted = False
        #: How many messages are with consumers.
        self.unacked = 0
        self._settings(host.policies.definition_for(self.kind, name))
        self.consumers = Consumers(bool(arguments.get('x-single-active-consumer')))
        self.ready: Fifo | ByPriority = self._make_ready()
        self._number = 0
        self._expiry: Timer | None = None
        self._unused: Timer | None = None
        self.touch()

    def _settings(self, policy: Mapping[str, Any]) -> None:
        arguments = self.arguments
        self.ttl: int | None = least(arguments, policy, 'message-ttl')
        self.expires: int | None = least(arguments, policy, 'expires')
        self.max_length: int | None = least(arguments, policy, 'max-length')
        self.max_bytes: int | None = least(arguments, policy, 'max-length-bytes')
        self.overflow: str = argument_or(arguments, policy, 'overflow', 'drop-head')
        self.dead_letter_exchange: Name | None = argument_or(arguments, policy, 'dead-letter-exchange')
        self.dead_letter_key: Name | None = argument_or(arguments, policy, 'dead-letter-routing-key')
        self._limited = self.max_length is not None or self.max_bytes is not None

    def apply_policy(self, policy: Mapping[str, Any]) -> None:
        """Another policy holds. What is in the queue keeps its time to live; limits hold at once."""
        self._settings(policy)
        if self._limited and self.overflow == 'drop-head':
            self._drop_surplus()
        self.touch()

    def _make_ready(self) -> Fifo | ByPriority:
        highest = self.arguments.get('x-max-priority')
        return ByPriority(highest) if highest else Fifo()

    def __repr__(self) -> str:
        return f'<{self.kind} queue {self.name!r}, {len(self.ready)} ready, {self.unacked} unacked>'

    @property
    def takes_global_prefetch(self) -> bool:
        """Whether it may be consumed from on a channel with a prefetch for the whole channel."""
        return True

    @property
    def label(self) -> str:
        """How errors name it."""
        return queue_label(self.name, self.host.name)

    @property
    def message_count(self) -> int:
        """How many messages are ready."""
        return len(self.ready)

    @property
    def lost_by_deletion(self) -> int:
        """How many messages the answer to queue.delete counts."""
        return self.message_count

    def entries(self) -> Iterator[Entry]:
        """What is ready, in its order."""
        return iter(self.ready)

    # Messages come.

    def publish(self, message: StoredMessage) -> bool:
        """Take a message; False if it is refused because the queue is full."""
        if self._limited and self.overflow != 'drop-head' and self._would_overflow(message):
            if self.overflow == 'reject-publish-dlx':
                self.host.dead_letter(self, Entry(message, 0, None), 'maxlen')
            return False
        entry = self._new_entry(message)
        if not self.ready:
            consumer = self.consumers.next()
            if consumer is not None:
                self._pass_on(consumer, entry)
                return True
        self.ready.add(entry)
        if self._limited:
            self._drop_surplus()
        if entry.expires_at is not None:
            self._expire()
        return True

    def _new_entry(self, message: StoredMessage) -> Entry:
        self._number = number = self._number + 1
        ttl, own = self.ttl, message.facts.ttl
        if own is not None:
            ttl = own if ttl is None else min(ttl, own)
        return Entry(message, number, None if ttl is None else self.host.clock.now() + ttl / 1000)

    def _would_overflow(self, message: StoredMessage) -> bool:
        if self.max_length is not None and len(self.ready) + 1 > self.max_length:
            return True
        return self.max_bytes is not None and self.ready.bytes + len(message.body) > self.max_bytes

    def _drop_surplus(self) -> None:
        ready = self.ready
        while ready and (
            (self.max_length is not None and len(ready) > self.max_length)
            or (self.max_bytes is not None and ready.bytes > self.max_bytes)
        ):
            self.host.dead_letter(self, ready.take(), 'maxlen')

    def _expire(self) -> None:
        """Drop what has expired at the head, as far as that goes, and come back for the next one."""
        now = self.host.clock.now()
        while (head := self.ready.head()) is not None and head.expires_at is not None and head.expires_at <= now:
            self.host.dead_letter(self, self.ready.take(), 'expired')
        head = self.ready.head()
        when = None if head is None else head.expires_at
        if self._expiry is not None and self._expiry.when != when:
            self._expiry.cancel()
            self._expiry = None
        if when is not None and (self._expiry is None or self._expiry.cancelled):
            self._expiry = self.host.clock.call_at(when, self._expire)

    # Messages go.

    def deliver(self) -> None:
        """Hand out what is ready, as long as a consumer has room."""
        ready = self.ready
        while ready:
            if ready.head().expires_at is not None:  # type: ignore[union-attr]
                self._expire()
                if not ready:
                    return
            consumer = self.consumers.next()
            if consumer is None:
                return
            consumer.channel.deliver(consumer, ready.take())
        if self._expiry is not None:
            self._expire()

    def _pass_on(self, consumer: QueueConsumer, entry: Entry) -> None:
        """Hand out a message that was never stored here; a dead letter counts as not delivered before then."""
        entry.redelivered = False
        consumer.channel.deliver(consumer, entry)

    def get(self) -> Entry | None:
        """Take the head for basic.get."""
        self.touch()
        self._expire()
        return self.ready.take() if self.ready else None

    def settle(self, entries: Sequence[Entry], outcome: Outcome) -> None:
        """What becomes of messages that were delivered; they are not counted as unacked any more."""
        if self.deleted:
            return
        if outcome is Outcome.ACK:
            pass
        elif outcome is Outcome.DISCARD or outcome is Outcome.REFUSE:
            for entry in entries:
                entry.deliveries += outcome is Outcome.REFUSE
                self.host.dead_letter(self, entry, 'rejected')
        else:
            for entry in entries:
                self._put_back(entry, outcome)
            if self._limited and self.overflow == 'drop-head':
                self._drop_surplus()
            self._expire()
        self.deliver()

    def _put_back(self, entry: Entry, outcome: Outcome) -> None:
        entry.redelivered = True
        entry.deliveries += outcome is not Outcome.NACK
        self.ready.put_back(entry)

    def purge(self) -> int:
        """Forget what is ready. Returns how many messages that were."""
        count = len(self.ready)
        self.ready.clear()
        self._expire()
        return count

    # Consumers.

    def check_consumer(self, exclusive: bool, arguments: dict[Any, Any], no_ack: bool, prefetch: int) -> None:
        """Raise a Refusal unless such a consumer is possible now."""
        alone = not len(self.consumers) and not self.consumers.single
        if any(one.exclusive for one in self.consumers) or (exclusive and not alone):
            raise access_refused(f'{self.label} in exclusive use')

    def add_consumer(self, consumer: QueueConsumer) -> None:
        """A new consumer, whose consume-ok is sent already."""
        self.consumers.add(consumer)
        self.touch()
        self.deliver()

    def remove_consumer(self, consumer: QueueConsumer) -> None:
        """A consumer ends; what it holds stays with its channel."""
        self.consumers.remove(consumer)
        self.touch()
        if self.auto_delete and not len(self.consumers) and not self.deleted:
            self.host.delete_queue(self)
        elif not self.deleted:
            self.deliver()

    def unblock(self, consumer: QueueConsumer) -> None:
        """A consumer may have room again; ``deliver`` has to follow."""
        self.consumers.unblock(consumer)

    # Life.

    def touch(self) -> None:
        """The queue is used: begin to count anew when it is to expire."""
        if self._unused is not None:
            self._unused.cancel()
            self._unused = None
        expires = self.expires
        if expires and not len(self.consumers) and not self.deleted:
            self._unused = self.host.clock.call_later(expires / 1000, self._gone)

    def _gone(self) -> None:
        if not self.deleted:
            self.host.delete_queue(self)

    def forget_transient(self) -> None:
        """A restart: only persistent messages stay, and all that were delivered are back."""
        entries = [entry for entry in self.ready if entry.message.facts.persistent]
        self.ready.clear()
        for entry in entries:
            entry.redelivered = True
            self.ready.add(entry)

    def close(self) -> None:
        """The queue is deleted: no timer runs any more, and nothing is ready."""
        self.deleted = True
        for timer in (self._expiry, self._unused):
            if timer is not None:
                timer.cancel()
        self.ready.clear()
