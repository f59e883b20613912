"""What ``Channel.subscribe`` starts: worker greenlets call a handler with the messages of one queue.

Layer 3. A worker is started when a message arrives and ends when none is left, so a consumer without messages
has no greenlet. Does not belong here: how messages arrive (``inbox``), and what the program sees of it (``consumer``).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Container, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

import greenlet

from .. import green
from ..basic_message import Message
from ..state.durations import in_seconds
from ..state.handler_failures import HandlerFailures, delay
from ..telemetry import tracing
from ..telemetry.log_fields import log_fields
from .blocking_handlers import watch_of
from .delayed_requeue import MOST_DELAYED, DelayedRequeue
from .handler_error_text import identity_of, in_one_line, kind_of
from .inbox import Inbox

if TYPE_CHECKING:
    from ..channel.channel import Channel
    from ..connection.connection import Connection

__all__ = ('POLICIES', 'OnError', 'Policy', 'SubscriptionInbox')

logger = logging.getLogger('gamqp.consumer')

Policy = Literal['requeue', 'reject', 'stop']

REQUEUE: Policy = 'requeue'
REJECT: Policy = 'reject'
STOP: Policy = 'stop'
POLICIES = (REQUEUE, REJECT, STOP)

# The states of a worker.
STARTING = 'starting'  # it was spawned and has not run yet
WORKING = 'working'
WAITING = 'waiting'  # its handler called cancel or join, and waits for the other workers

# Exceptions that end the worker. All others end only the call of the handler.
ENDS = (greenlet.GreenletExit, KeyboardInterrupt, SystemExit)

# Seconds for which a worker pauses, at most, after a failure when no more messages can be kept.
LONGEST_SLEEP = 1.0

OnError = Policy | Callable[[Message, BaseException], Policy | None]


class SubscriptionInbox(Inbox):
    """The part of a subscription that the channel holds, with its workers.

    Counters: acked (handled, and acked here), failed (the handler raised), in_flight (being handled now).
    """

    __slots__ = (
        '_blocking',
        '_failures',
        '_has_left_some',
        '_idle',
        '_kept',
        '_looks',
        '_run',
        '_stopped_by',
        '_workers',
        'acked',
        'concurrency',
        'failed',
        'handler',
        'in_flight',
        'on_error',
    )

    if TYPE_CHECKING:
        channel: Channel
        connection: Connection

    def __init__(
        self,
        channel: Channel,
        connection: Connection,
        tag: str,
        no_ack: bool,
        handler: Callable[[Message], object],
        concurrency: int,
        on_error: OnError,
    ) -> None:
        super().__init__(channel, connection, tag, no_ack)
        self.handler = handler
        self.concurrency = concurrency
        self.on_error = on_error
        self.acked = self.failed = self.in_flight = 0
        self._workers: dict[Any, str] = {}  # greenlet -> its state
        # Calls the handler with a message.
        self._run: Callable[[Callable[[Message], object], Message], None] = connection._run_handler
        self._blocking = watch_of(connection, tag, handler)
        self._failures: HandlerFailures | None = None  # made when the handler has failed for the first time
        self._kept: DelayedRequeue | None = None  # messages to be requeued later; made as _failures
        self._looks = False  # _check_starting will be called
        self._has_left_some = False  # messages stay unsettled, and the warning was logged
        self._idle: green.Gate | None = None  # greenlets wait here for the handlers to finish; made when needed
        self._stopped_by: BaseException | None = None

    @property
    def busy(self) -> bool:
        return bool(self._workers) or self.spooled > 0

    def works_apart_from(self, some: Container[Any]) -> bool:
        others = [does for worker, does in self._workers.items() if worker not in some]
        if len(others) == len(self._workers):
            return self.busy
        # A worker asks. The workers that wait for the others wait for it, too, so they do not count.
        if any(does is not WAITING for does in others):
            return True
        # Messages on disk are still to be handled, if another worker can be started for them.
        return self.spooled > 0 and len(self._workers) - len(others) < self.concurrency

    # -- ending ----------------------------------------------------------------------

    def cancel(self, wait: bool, timeout: float | None) -> None:
        """See ``Consumer.cancel``. Switches greenlets."""
        self.connection._affinity.check()
        deadline = green.Deadline(timeout)
        if not self.over and not self.entry.discard:
            patience = self.connection.rpc_timeout if timeout is None else min(timeout, self.connection.rpc_timeout)
            self.channel._end_consumer(self.entry, wait, patience)
        if wait:
            self._wait_until(self._others_idle, deadline)

    def join(self, timeout: float | None) -> None:
        """See ``Consumer.join``. Switches greenlets."""
        self.connection._affinity.check()
        self._wait_until(lambda: self.over and self._others_idle(), green.Deadline(timeout))
        if self._stopped_by is not None:
            raise self._stopped_by
        if self.reason is not None:
            self.reason.throw()

    def _others_idle(self) -> bool:
        if greenlet.getcurrent() not in self._workers:
            return not self.busy
        # Workers that wait here do not wait for each other: they would wait for ever.
        return not self.works_apart_from([worker for worker, does in self._workers.items() if does is WAITING])

    def _wait_until(self, condition: Callable[[], bool], deadline: green.Deadline) -> None:
        if self._idle is None:
            self._idle = green.Gate(self.connection._green)
        me = greenlet.getcurrent()
        if me in self._workers:
            self._workers[me] = WAITING
            self._wake_waiting()  # other workers that wait may have waited for this one only
        try:
            while not condition():
                if not self._idle.wait(deadline.left()) and not condition():
                    raise TimeoutError(
                        f'consumer {self.tag}: {self.in_flight} handlers run after {in_seconds(deadline.seconds)}'
                    )
        finally:
            if me in self._workers:
                self._workers[me] = WORKING

    # -- from the reader ---------------------------------------------------------------

    def arrived(self, count: int = 1) -> None:
        for _ in range(min(count, self.concurrency - len(self._workers))):
            self._start_worker()

    @property
    def has_hearer(self) -> bool:
        return bool(self._idle) and not self.entry.discard

    @property
    def is_unheard(self) -> bool:  # type: ignore[override]
        return not (self.over or self.entry.discard or self._idle)

    def ended(self) -> None:
        self._wake_waiting()

    def _start_worker(self) -> None:
        self._workers[self.connection._green.spawn(self._work)] = STARTING
        if not self._looks:
            self._looks = True
            self.connection._green.run_soon(self._check_starting)

    def _check_starting(self) -> None:
        """Called in the hub when new workers should have run: end those that were killed before, which ran nothing."""
        self._looks = False
        for worker in [worker for worker, does in self._workers.items() if does is STARTING]:
            if worker.dead:
                self._end_worker(worker)
            elif not self._looks:
                self._looks = True
                self.connection._green.run_soon(self._check_starting)

    def _wake_waiting(self) -> None:
        if self._idle is not None:
            self._idle.wake_all()

    # -- workers -------------------------------------------------------------------------

    def _work(self) -> None:
        """Body of a worker greenlet: handle messages until none is left. Switches."""
        me = greenlet.getcurrent()
        self._workers[me] = WORKING
        begun = self._look_for_blocking(None)
        try:
            while self.messages:
                if self.connection._flow_control.turn_overdue():
                    self._look_for_blocking(begun)
                    self.connection._flow_control.let_others_run()
                    begun = self._look_for_blocking(None)
                if self.messages:
                    message = self.take()
                    if message is None:
                        self.connection._flow_control.let_others_run()
                    else:
                        self._handle(message)
        finally:
            self._look_for_blocking(begun)
            self._end_worker(me)

    def _look_for_blocking(self, begun: float | None) -> float:
        """Between two messages: a worker begins (None), or has not let others run since *begun*.

        Returns the time now.
        """
        watch = self._blocking
        if watch is None:
            return 0.0
        now = monotonic() if begun is None else watch.look(begun)
        self._run = watch.run if watch.armed else self.connection._run_handler
        return now

    def _end_worker(self, worker: Any) -> None:
        del self._workers[worker]
        if self.messages:
            self._start_worker()  # this one was killed before it had handled all of them
        elif not self._workers:
            self.messages = None
            self.settled_idle()
        self._wake_waiting()

    def _handle(self, message: Message) -> None:
        self.in_flight += 1
        try:
            self._run(self.handler, message)
            self._ack(message)
        except ENDS:
            self._refuse(message, REQUEUE)
            raise
        except BaseException as exc:
            # This includes gevent.Timeout: it ends the call of the handler, not the worker.
            self._fail(message, exc)
        finally:
            self.in_flight -= 1

    def _ack(self, message: Message) -> None:
        if self._is_unsettled(message):
            message.ack()
            self.acked += 1

    def _fail(self, message: Message, error: BaseException) -> None:
        self.failed += 1
        if self._failures is None:
            self._failures = HandlerFailures()
        count, is_new = self._failures.note(identity_of(message), message.redelivered, kind_of(error))
        on_error = self.on_error
        if not callable(on_error):
            self._follow(on_error, message, error, count)
            if is_new:
                text = 'consumer %s: the handler failed on %r (%s)'
                self._log(message, text, self.tag, message, on_error, exc_info=error)
            else:
                text = 'consumer %s: the handler failed on %r again, %s times in a row (%s): %s'
                self._log(message, text, self.tag, message, count, on_error, in_one_line(error))
            return
        policy: str | None = REQUEUE
        try:
            answer = on_error(message, error)
            if answer is not None and answer not in POLICIES:
                raise ValueError(f'on_error returned {answer!r}, not one of {", ".join(POLICIES)} or None')
            policy = answer
        except ENDS:
            policy = None
            self._refuse(message, REQUEUE)
            raise
        except BaseException:
            self._log(message, 'consumer %s: on_error failed itself; the message is requeued', self.tag, exc_info=True)
        finally:
            self._follow(policy, message, error, count)

    def _log(self, message: Any, text: str, *args: Any, exc_info: Any = None) -> None:
        """Log an error, where a tracer wants it: in the span of the message."""

        def write() -> None:
            fields = log_fields(self.connection, self.entry, message)
            logger.error(text, *args, exc_info=exc_info, extra=fields)

        tracer = self.connection._tracing if tracing.installed else None
        if tracer is None:
            write()
        else:
            tracer.failed(self.connection, message, write)

    def _follow(self, policy: str | None, message: Message, error: BaseException, count: int) -> None:
        if policy == STOP and self._stopped_by is None:
            self._stopped_by = error
            if not self.over and not self.entry.discard:
                # Before the message is requeued, or the broker would deliver it to this consumer again.
                self.channel._end_consumer(self.entry, wait=False)
        if policy == REQUEUE and not (self.over or self.entry.discard or self.entry.of_stream or self.entry.no_ack):
            self._requeue_later(message, delay(count))
        elif policy is not None:
            self._refuse(message, policy)

    def _requeue_later(self, message: Message, seconds: float) -> None:
        """Requeue a message after a while: delivered at once, it would fail again. The worker is free meanwhile."""
        if self._kept is None:
            self._kept = DelayedRequeue(self.connection._green, self._requeue)
        if len(self._kept) < MOST_DELAYED:
            self._kept.add(message, seconds)
            return
        try:
            self.connection._green.sleep(min(seconds, LONGEST_SLEEP))
        finally:
            self._refuse(message, REQUEUE)

    def _requeue(self, message: Message) -> None:
        self._refuse(message, REQUEUE)

    def take_all(self, give_back: bool = False) -> Iterator[None]:
        kept = [] if self._kept is None else self._kept.take_all()
        rest = super().take_all(give_back)
        return itertools.chain(self._give_back(kept), rest) if kept and give_back else rest

    def _give_back(self, messages: list[Message]) -> Iterator[None]:
        for message in messages:
            self.channel._give_back_known(message, self.entry.of_stream)
            yield

    def _refuse(self, message: Message, policy: str) -> None:
        """Requeue or reject a message, unless it was acked or the like meanwhile, or needs no ack."""
        if self._is_unsettled(message):
            if self.entry.of_stream:
                message.ack()  # a stream cannot requeue
            elif self.entry.numbered and self.connection._queue_types.streams_refuse_nack:
                self._leave_unsettled(message)
            elif policy == REJECT:
                message.reject(requeue=False)
            else:
                message.nack(requeue=True)

    def _leave_unsettled(self, message: Message) -> None:
        """Neither ack nor nack a message that seems to be of a stream, and log that once.

        A stream refuses a nack. But if this is a copy of the message in another queue, an ack would lose it.
        """
        if not self._has_left_some:
            self._has_left_some = True
            logger.warning(
                'consumer %s: %r stays unsettled: queue %r seems to be a stream, which takes nothing back. '
                'Pass x-stream-offset, or declare the queue over this connection, to have failed messages passed over',
                self.tag,
                message,
                self.entry.queue,
                extra=log_fields(self.connection, self.entry, message),
            )

    def _is_unsettled(self, message: Message) -> bool:
        return not self.entry.no_ack and self.channel._awaits_settlement(message)
