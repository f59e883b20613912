"""Consumer: a handler that gets the messages of one queue, in worker greenlets.

Layer 3. ``Channel.subscribe`` makes it. Workers are made when there is work and
end when there is none, so a consumer that waits costs no greenlet. What must
not enter: how messages arrive; that is ``gamqp.consuming``.
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
from .blocking_handlers import watch_of
from .delayed_requeue import MOST_DELAYED, DelayedRequeue
from .inbox import Inbox

if TYPE_CHECKING:
    from ..connection.connection import Connection

__all__ = ('POLICIES', 'Consumer', 'OnError', 'Policy')

logger = logging.getLogger('gamqp.consumer')

Policy = Literal['requeue', 'reject', 'stop']

REQUEUE: Policy = 'requeue'
REJECT: Policy = 'reject'
STOP: Policy = 'stop'
POLICIES = (REQUEUE, REJECT, STOP)

# What a worker does.
YOUNG = 'young'  # it has not begun
WORKING = 'working'
LEAVING = 'leaving'  # its handler waits for the end of the others

# What ends a worker, and not only what its handler does.
ENDS = (greenlet.GreenletExit, KeyboardInterrupt, SystemExit)

# Seconds that a worker pauses at a failure when no more messages can be kept.
LONGEST_SLEEP = 1.0

# Characters of an error's text in a log line.
LONGEST_TEXT = 200

OnError = Policy | Callable[[Message, BaseException], Policy | None]


class Consumer(Inbox):
    """A running subscription, made by ``Channel.subscribe``.

    tag: the consumer tag. Counters: delivered (arrived), acked (handled, and
    acked here), failed (the handler raised), in_flight (being handled now).
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

    def __init__(
        self,
        channel: Any,
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
        self._workers: dict[Any, str] = {}  # greenlet -> what it does
        self._run: Callable[[Any, Any], None] = connection._run_handler  # what calls the handler
        self._blocking = watch_of(connection, tag, handler)
        self._failures: HandlerFailures | None = None  # made when a handler has failed, as _kept
        self._kept: DelayedRequeue | None = None  # what goes back to the queue after a while
        self._looks = False  # _look_after is due
        self._has_left_some = False  # and has said so
        self._idle: green.Gate | None = None  # made when somebody waits for the handlers to finish
        self._stopped_by: BaseException | None = None

    def __repr__(self) -> str:
        state = 'ended' if self.over else 'ending' if self.entry.discard else 'running'
        return f'<Consumer {self.tag} {state}: {self.delivered} delivered, {self.in_flight} in flight>'

    @property
    def busy(self) -> bool:
        return bool(self._workers) or self.spooled > 0

    def works_apart_from(self, some: Container[Any]) -> bool:
        others = [does for worker, does in self._workers.items() if worker not in some]
        if len(others) == len(self._workers):
            return self.busy
        # A worker asks, and those that leave wait for it.
        if any(does is not LEAVING for does in others):
            return True
        # What is on disk is still to be handled, if there is a worker left to do so.
        return self.spooled > 0 and len(self._workers) - len(others) < self.concurrency

    # -- ending ----------------------------------------------------------------------

    def cancel(self, wait: bool = True, timeout: float | None = None) -> None:
        """Take no more messages; what no handler has begun goes back to the queue. Twice does no harm.

        wait: also wait for the running handlers, and for those of messages that came
        with no_ack. timeout: seconds, None for as long as they take; TimeoutError
        then, and the handlers run on. In one of its own handlers it waits for those
        others that do not wait here, too. Raises why the channel ended if the broker
        could not be told. Switches greenlets.
        """
        self.connection.check_thread()
        deadline = green.Deadline(timeout)
        if not self.over and not self.entry.discard:
            patience = self.connection.rpc_timeout if timeout is None else min(timeout, self.connection.rpc_timeout)
            self.channel._end_consumer(self.entry, wait, patience)
        if wait:
            self._wait_until(self._others_idle, deadline)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the consumer has ended and its handlers have returned. Switches greenlets.

        timeout: seconds, None for ever (TimeoutError). Returns after a cancel of
        ours; raises ConsumerCancelled when the broker cancelled it, why the channel
        or connection ended, and with on_error='stop' what the handler raised.
        """
        self.connection.check_thread()
        self._wait_until(lambda: self.over and self._others_idle(), green.Deadline(timeout))
        if self._stopped_by is not None:
            raise self._stopped_by
        if self.reason is not None:
            self.reason.throw()

    def _others_idle(self) -> bool:
        if greenlet.getcurrent() not in self._workers:
            return not self.busy
        # Those that leave do not wait for each other: while they do, none of them gets to what is on disk.
        return not self.works_apart_from([worker for worker, does in self._workers.items() if does is LEAVING])

    def _wait_until(self, condition: Callable[[], bool], deadline: green.Deadline) -> None:
        if self._idle is None:
            self._idle = green.Gate(self.connection.green)
        me = greenlet.getcurrent()
        if me in self._workers:
            self._workers[me] = LEAVING
            self._tell()  # others of its kind may wait for this one
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

    def arrived(self) -> None:
        if len(self._workers) < self.concurrency:
            self._start_worker()

    @property
    def has_hearer(self) -> bool:
        return bool(self._idle) and not self.entry.discard

    @property
    def is_unheard(self) -> bool:  # type: ignore[override]
        return not (self.over or self.entry.discard or self._idle)

    def ended(self) -> None:
        self._tell()

    def _start_worker(self) -> None:
        self._workers[self.connection.green.spawn(self._work)] = YOUNG
        if not self._looks:
            self._looks = True
            self.connection.green.run_soon(self._look_after)

    def _look_after(self) -> None:
        """In the hub, when new workers should have begun: one that was killed before runs nothing, not even finally."""
        self._looks = False
        for worker in [worker for worker, does in self._workers.items() if does is YOUNG]:
            if worker.dead:
                self._end_worker(worker)
            elif not self._looks:
                self._looks = True
                self.connection.green.run_soon(self._look_after)

    def _tell(self) -> None:
        if self._idle is not None:
            self._idle.wake_all()

    # -- workers -------------------------------------------------------------------------

    def _work(self) -> None:
        """Body of a worker greenlet: handle what is here until there is no more."""
        me = greenlet.getcurrent()
        self._workers[me] = WORKING
        begun = self._look_for_blocking(None)
        try:
            while self.messages:
                if self.connection.flow_control.turn_overdue():
                    self._look_for_blocking(begun)
                    self.connection.flow_control.let_others_run()
                    begun = self._look_for_blocking(None)
                if self.messages:
                    message = self.take()
                    if message is None:
                        self.connection.flow_control.let_others_run()
                    else:
                        self._handle(message)
        finally:
            self._look_for_blocking(begun)
            self._end_worker(me)

    def _look_for_blocking(self, begun: float | None) -> float:
        """A worker begins (None), or has worked since *begun*, without a message in hand. Returns the time."""
        watch = self._blocking
        if watch is None:
            return 0.0
        now = monotonic() if begun is None else watch.look(begun)
        self._run = watch.run if watch.armed else self.connection._run_handler
        return now

    def _end_worker(self, worker: Any) -> None:
        del self._workers[worker]
        if self.messages:
            self._start_worker()  # this one was killed
        elif not self._workers:
            self.messages = None
            self.settled_idle()
        self._tell()

    def _handle(self, message: Any) -> None:
        self.in_flight += 1
        try:
            self._run(self.handler, message)
            self._ack(message)
        except ENDS:
            self._refuse(message, REQUEUE)
            raise
        except BaseException as exc:
            # gevent.Timeout, too: it ends what the handler did, not the worker.
            self._fail(message, exc)
        finally:
            self.in_flight -= 1

    def _ack(self, message: Any) -> None:
        if self._is_open_question(message):
            message.ack()
            self.acked += 1

    def _fail(self, message: Any, error: BaseException) -> None:
        self.failed += 1
        if self._failures is None:
            self._failures = HandlerFailures()
        count, is_new = self._failures.note(_look_of(message), message.redelivered, _kind(error))
        on_error = self.on_error
        if not callable(on_error):
            self._follow(on_error, message, error, count)
            if is_new:
                logger.error('consumer %s: the handler failed on %r (%s)', self.tag, message, on_error, exc_info=error)
            else:
                text = 'consumer %s: the handler failed on %r again, %s times in a row (%s): %s'
                logger.error(text, self.tag, message, count, on_error, _in_one_line(error))
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
            logger.exception('consumer %s: on_error failed itself; the message is requeued', self.tag)
        finally:
            self._follow(policy, message, error, count)

    def _follow(self, policy: str | None, message: Any, error: BaseException, count: int) -> None:
        if policy == STOP and self._stopped_by is None:
            self._stopped_by = error
            if not self.over and not self.entry.discard:
                # Before the message goes back, or the broker would send it here again.
                self.channel._end_consumer(self.entry, wait=False)
        if policy == REQUEUE and not (self.over or self.entry.discard or self.entry.of_stream or self.entry.no_ack):
            self._requeue_later(message, delay(count))
        elif policy is not None:
            self._refuse(message, policy)

    def _requeue_later(self, message: Any, seconds: float) -> None:
        """Once more it would fail at once. The worker is free meanwhile."""
        if self._kept is None:
            self._kept = DelayedRequeue(self.connection.green, self._requeue)
        if len(self._kept) < MOST_DELAYED:
            self._kept.add(message, seconds)
            return
        try:
            self.connection.green.sleep(min(seconds, LONGEST_SLEEP))
        finally:
            self._refuse(message, REQUEUE)

    def _requeue(self, message: Any) -> None:
        self._refuse(message, REQUEUE)

    def take_all(self, give_back: bool = False) -> Iterator[None]:
        kept = [] if self._kept is None else self._kept.take_all()
        rest = super().take_all(give_back)
        return itertools.chain(self._give_back(kept), rest) if kept and give_back else rest

    def _give_back(self, messages: list[Any]) -> Iterator[None]:
        for message in messages:
            self.channel._give_back_known(message, self.entry.of_stream)
            yield

    def _refuse(self, message: Any, policy: str) -> None:
        """Requeue or reject, if the broker still waits for an answer."""
        if self._is_open_question(message):
            if self.entry.of_stream:
                message.ack()  # a stream takes nothing back
            elif self.entry.numbered and self.connection.queue_types.streams_refuse_nack:
                self._leave_unsettled(message)
            elif policy == REJECT:
                message.reject(requeue=False)
            else:
                message.nack(requeue=True)

    def _leave_unsettled(self, message: Any) -> None:
        """It seems to be of a stream, which refuses a nack; an ack would lose it if it is a copy in another queue."""
        if not self._has_left_some:
            self._has_left_some = True
            logger.warning(
                'consumer %s: %r stays unsettled: queue %r seems to be a stream, which takes nothing back. '
                'Pass x-stream-offset, or declare the queue over this connection, to have failed messages passed over',
                self.tag,
                message,
                self.entry.queue,
            )

    def _is_open_question(self, message: Any) -> bool:
        return not self.entry.no_ack and self.channel._awaits_settlement(message)


def _look_of(message: Any) -> Any:
    """What tells a message from others, as well as one can tell."""
    try:
        info = message.delivery_info
        return info['exchange'], info['routing_key'], message.size, hash(message.body)
    except Exception:
        return None  # of bytes that cannot be read


def _kind(error: BaseException) -> Any:
    """What two failures have in common that need not be logged twice in full."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return type(error), None if place is None else (place.tb_frame.f_code.co_filename, place.tb_lineno)


def _in_one_line(error: BaseException) -> str:
    try:
        text = ' '.join(str(error).split())[:LONGEST_TEXT]
    except Exception:
        text = 'an error that cannot be printed'
    return f'{type(error).__name__}: {text}' if text else type(error).__name__
