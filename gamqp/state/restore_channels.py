"""What is sent on a channel of the program after a loss, so that its consumers are as they were.

State, no I/O. A plan is for one channel and one attempt; the caller opens the channel, and turns confirm mode or
transactions on, before it sends what the plan gives out. Does not belong here: that, waiting, and what an error means
(``restore_errors``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ..wire.spec import Basic
from .prefetch import Prefetch
from .restore_plan import AHEAD
from .topology_records import RecordedConsumer, Request
from .topology_registry import TopologyRegistry

__all__ = ('ChannelPlan',)


class ChannelPlan:
    """Starts the consumers of one channel again, each with the prefetch with which it had begun.

    The caller sends what ``next`` gives, until it gives None, and says what came of it: ``answered`` for each reply, or
    ``refused`` when the broker has closed the channel, and then it opens it again, sets it up and goes on. Consumers
    that had been started on it are then started again, but behind those of which nothing is known yet: however many
    are refused, none is started more than twice.

    prefetch: of the channel, which it has again at the end.
    """

    def __init__(
        self,
        registry: TopologyRegistry,
        consumers: Iterable[RecordedConsumer],
        prefetch: Prefetch,
        ahead: int = AHEAD,
    ) -> None:
        self._registry = registry
        self._prefetch = prefetch
        self._ahead = ahead
        self._pending = deque(consumers)
        self._started: list[RecordedConsumer] = []  # on the channel as it is open now
        self._sent: dict[str, RecordedConsumer] = {}  # by tag, oldest first
        self._limits = 0  # how many qos have no answer yet
        self._in_force: int | None = None  # the last limit that was sent
        self._limited = not prefetch.of_channel  # whether the limit of the channel was sent, if there is one

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {len(self._pending)} to start, {len(self._sent)} sent>'

    def add(self, consumer: RecordedConsumer) -> None:
        """This one too, behind the others; also where the plan was done."""
        self._pending.append(consumer)

    @property
    def done(self) -> bool:
        """Whether all has been sent and answered."""
        return not (self._pending or self._sent or self._limits) and self._last_limit() is None and self._limited

    @property
    def unanswered(self) -> list[RecordedConsumer]:
        """Consumers whose consume-ok has still to come, oldest first."""
        return list(self._sent.values())

    def next(self) -> tuple[Request, RecordedConsumer | None] | None:
        """The request to send next, and the consumer that it starts, or None for a qos. None: await a reply first."""
        if len(self._sent) + self._limits >= self._ahead:
            return None
        if not self._limited:
            self._limited = True
            return self._limit(self._prefetch.of_channel, True)
        while self._pending and not self._registry.holds(self._pending[0]):
            self._pending.popleft()  # the program has cancelled it meanwhile
        if not self._pending:
            last = self._last_limit()
            return None if last is None else self._limit(last, False)
        consumer = self._pending[0]
        if consumer.prefetch != (self._in_force or 0):
            return self._limit(consumer.prefetch, False)
        self._pending.popleft()
        self._sent[consumer.tag] = consumer
        return consumer.request(), consumer

    def _limit(self, count: int, of_channel: bool) -> tuple[Request, None]:
        self._limits += 1
        if not of_channel:
            self._in_force = count
        return (Basic.Qos, (0, count, of_channel)), None

    def _last_limit(self) -> int | None:
        """The limit for consumers to come that the channel had, unless it has it again."""
        wanted = self._prefetch.sent
        return None if wanted is None or wanted == (self._in_force or 0) else wanted

    def answered(self, tag: str | None = None) -> RecordedConsumer | None:
        """qos-ok has come, or consume-ok for the consumer with this tag, in any order. Returns the consumer.

        If the registry does not hold it any more, the program has cancelled it meanwhile, and the caller has to.
        """
        if tag is None:
            self._limits -= 1
            return None
        consumer = self._sent.pop(tag)
        if self._registry.holds(consumer):
            self._registry.consumer_started(consumer)
            self._started.append(consumer)
        return consumer

    def refused(self, text: str = '') -> RecordedConsumer | None:
        """The broker has closed the channel. Returns the consumer that it refused, which is left out from now on.

        None if no consumer was without an answer: the channel was closed for another reason. text: of the error,
        which names the queue in most cases. The reply to a consumer before may be lost with the channel.
        """
        sent, started = list(self._sent.values()), self._started
        self._sent, self._started = {}, []
        self._limits, self._in_force, self._limited = 0, None, not self._prefetch.of_channel
        culprit = next((each for each in sent if f"'{each.queue}'" in text), sent[0] if sent else None)
        self._pending.extendleft(each for each in reversed(sent) if each is not culprit)
        self._pending.extend(started)
        return culprit
