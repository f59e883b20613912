"""Consuming without drain_events: consume (an iterator) and subscribe (a handler in worker greenlets).

Layer 3. Errors and switching: see ``gamqp.channel``. Both may be mixed freely with
basic_consume, on one channel too. Does not belong here: the iterator and the workers (``gamqp.consuming``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..basic_message import Message
from ..consuming.consumer import Consumer
from ..consuming.inbox import Inbox
from ..consuming.iterator import Deliveries, IteratorInbox
from ..consuming.subscription import POLICIES, OnError, SubscriptionInbox
from ..state.argument_checks import optional_timeout, whole
from ..state.consumer_views import Callbacks, CancelCallbacks
from ..state.name_arguments import name
from ..state.queue_types import OFFSET, check_offset
from ..wire.spec import Basic
from .basic_consume import ConsumeMethods
from .basic_qos import PREFETCH_COUNT, PREFETCH_LIMIT
from .request import Arguments

__all__ = ('SubscribeMethods', 'check_concurrency')

# Enough to keep a consumer busy during the round trip of its acks, and not so
# much that one consumer hoards a queue that others could work on.
PREFETCH = 100

CONCURRENCY = whole(1)


class SubscribeMethods(ConsumeMethods):
    """Mixin of Channel."""

    def consume(
        self,
        queue: str,
        prefetch: int = PREFETCH,
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Arguments = None,
        consumer_tag: str = '',
        timeout: float | None = None,
        *,
        recover: bool = True,
    ) -> Deliveries:
        """Start a consumer and return an iterator over its messages: ``for message in channel.consume('jobs')``.

        Each message must be settled (``message.ack()``) unless no_ack. prefetch:
        messages that the broker sends ahead of the acks, 0 for no limit (with no_ack
        it has no meaning). exclusive: no other consumer on this queue. arguments: e.g.
        {'x-priority': 5}, and for a stream {'x-stream-offset': 'first', 'last', 'next',
        a number, a datetime, or an interval like '1h'}. timeout: seconds without a
        message after which the iterator raises TimeoutError; None for none. recover: as
        for ``basic_consume``.

        Leaving the loop cancels the consumer and gives back to the queue what was
        sent ahead. Switches greenlets. https://www.rabbitmq.com/docs/streams
        """
        timeout = optional_timeout('timeout', timeout)
        prefetch = PREFETCH_COUNT('prefetch', prefetch)
        queue = name('queue', queue)
        tag = name('consumer_tag', consumer_tag) or self._consumers.fresh_tag(self.channel_id)
        channel: Any = self  # of which this class is a part
        inbox = IteratorInbox(channel, self._connection, tag, no_ack)
        deliveries = Deliveries(inbox, timeout)  # before the consumer starts: if the caller is killed, it cancels
        self._begin_inbox(inbox, queue, prefetch, exclusive, arguments, recover)
        self._watch(inbox.entry, prefetch)
        return deliveries

    def subscribe(
        self,
        queue: str,
        handler: Callable[[Message], object],
        concurrency: int = 1,
        prefetch: int | None = None,
        on_error: OnError = 'requeue',
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Arguments = None,
        consumer_tag: str = '',
        *,
        recover: bool = True,
    ) -> Consumer:
        """Have *handler* called with each message of a queue, in worker greenlets. Returns the Consumer.

        concurrency: messages handled at a time; with 1 they are handled in order. A
        message is acked when the handler has returned, unless the handler has
        settled it. on_error: what happens to a message whose handler raised (an
        error or a gevent.Timeout): 'requeue', 'reject' (dropped or dead-lettered),
        'stop' (requeued, and the consumer ends; ``join`` raises the error), or a
        callable that takes (message, error) and returns one of these, or None when
        it has settled the message itself or will. Errors are logged unless on_error
        is a callable: in full, and in one line with a count when the same message
        fails again in the same place. A message goes back to its queue after 10 ms,
        and after twice as long each time that it comes back and fails again, up to
        10 s; its worker handles others meanwhile, and a consumer that ends gives it
        back at once. A stream takes nothing back: there a failed message is passed
        over. prefetch: None for 100, or *concurrency* if that is more.

        The other arguments are those of ``consume``. Switches greenlets.
        """
        if not callable(handler):
            raise TypeError(f'subscribe: the handler {handler!r} cannot be called')
        concurrency, prefetch = check_concurrency(concurrency, prefetch)
        if not callable(on_error) and on_error not in POLICIES:
            raise ValueError(f'subscribe: on_error is one of {", ".join(POLICIES)} or a callable, not {on_error!r}')
        queue = name('queue', queue)
        tag = name('consumer_tag', consumer_tag) or self._consumers.fresh_tag(self.channel_id)
        channel: Any = self  # of which this class is a part
        inbox = SubscriptionInbox(channel, self._connection, tag, no_ack, handler, concurrency, on_error)
        self._begin_inbox(inbox, queue, prefetch, exclusive, arguments, recover)
        return Consumer(inbox)

    @property
    def callbacks(self) -> Mapping[str, Callable[[Message], object] | None]:
        """Consumer tag -> callback, of the consumers that this channel has at any time. Read-only."""
        return Callbacks(self._consumers)

    @property
    def cancel_callbacks(self) -> Mapping[str, Callable[[str], object]]:
        """Consumer tag -> on_cancel, of those consumers that have one. Read-only."""
        return CancelCallbacks(self._consumers)

    def _begin_unawaited(self, inbox: Inbox, queue: str) -> None:
        """Start a consumer ahead of what is sent next, without waiting for the broker's consent. Does not switch.

        A refusal closes the channel, and the inbox gets the reason. It is not started again after a loss.
        """
        self._check(Basic.Consume)
        if inbox.brings_work:
            self._connection._unfinished_handlers.check_taking()
        entry = inbox.entry
        entry.queue, entry.era, inbox.term = queue, self._era, self._consumers.term
        self._consumers.enter(entry)
        args = (0, queue, entry.tag, False, entry.no_ack, False, False, None)
        self._ask_to_consume(entry.tag, args, wait=False, recover=False)

    def _begin_inbox(
        self, inbox: Inbox, queue: str, prefetch: int, exclusive: bool, arguments: Arguments, recover: bool
    ) -> None:
        no_ack = inbox.entry.no_ack
        if arguments and OFFSET in arguments:
            if no_ack or not prefetch:
                raise ValueError('a stream is read with a prefetch above 0 and with acks')
            check_offset(arguments[OFFSET])
        self._check(Basic.Consume)
        self._check_queue(inbox.entry, queue, prefetch, arguments)
        if not no_ack:
            self._use_prefetch(prefetch)
        self._begin_consumer(inbox.entry, queue, False, exclusive, False, arguments, recover)


def check_concurrency(concurrency: int, prefetch: int | None) -> tuple[int, int]:
    """Both, checked, and the prefetch that goes with None."""
    concurrency = CONCURRENCY('concurrency', concurrency)
    if prefetch is None:
        return concurrency, min(max(PREFETCH, concurrency), PREFETCH_LIMIT)
    return concurrency, PREFETCH_COUNT('prefetch', prefetch)
