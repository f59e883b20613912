"""Publishes whose outcome is not known yet: their spans, and since when they last.

Layer 3. A publish with publisher confirms lasts until its confirm; without them, until it is handed over. There the
span of a mandatory message is only kept open for a while, because the message may come back. Does not belong here: how
a span begins (``opentelemetry_spans``), and which confirm settles which publish (``state.confirm_matching``).
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from typing import Any

from opentelemetry import trace

from . import opentelemetry_names as names
from .opentelemetry_metrics import Metrics
from .opentelemetry_names import Place

__all__ = ('OpenPublish', 'OpenPublishes', 'fail', 'mark_returned')

# Seconds for which the span of a mandatory message without confirms stays open.
RETURN_WITHIN = 1.0

# Spans that one connection keeps open, at most, of either kind. Further ones, or the oldest ones, end early.
MOST_OPEN = 1000

# Outcomes that are recorded before others may run.
PIECE = 100

# With more outcomes that wait to be recorded, each publish records two first, so that they do not become more and more.
MOST_WAITING = 1000


class OpenPublish:
    """One publish. span: None if it is not recorded. place: None if nothing is measured."""

    __slots__ = ('begun', 'group', 'place', 'returned', 'span')

    def __init__(self, group: OpenPublishes, span: trace.Span | None, place: Place | None) -> None:
        self.group = group
        self.span = span
        self.place = place
        self.returned: Any = None  # the message that came back
        self.begun = time.perf_counter()

    @property
    def span_id(self) -> int:
        return self.span.get_span_context().span_id if self.span is not None else 0

    def settle(self, outcome: Any) -> None:
        """The publish has an outcome, see ``Tracing.publish``. From the reader; does not switch."""
        if self.span is not None or self.place is not None:
            self.group.note(self, outcome)

    def raise_out(self, error: BaseException) -> None:
        """It has raised, and nothing was sent."""
        seconds = time.perf_counter() - self.begun
        if self.span is not None:
            fail(self.span, error)
            self.span.end()
        if self.place is not None:
            self.group.metrics.not_sent(self.place, seconds, names.error_type(error), _context_of(self.span))

    def finish(self, outcome: Any, at: int | None, seconds: float) -> None:
        """End the span, at that time of ``time.time_ns`` or now, and measure. May switch."""
        error = '' if outcome is True else _error_of(outcome)
        span = self.span
        if span is not None:
            if outcome is False:
                span.set_attribute(names.ERROR_TYPE, error)
                span.set_status(trace.Status(trace.StatusCode.ERROR, 'refused by the broker'))
            elif isinstance(outcome, BaseException):
                fail(span, outcome)
            elif outcome is not True:
                mark_returned(span, outcome)
            span.end(at)
        if self.place is not None:
            self.group.metrics.published(self.place, seconds, error, _context_of(span))


class OpenPublishes:
    """Those of one connection.

    What the reader calls only appends. A greenlet of its own ends spans and records, since the span processors and
    exporters of the program may wait.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.green: Any = None  # of the connection, as it is now
        self._confirms: dict[int, OpenPublish] = {}  # id of the span -> a publish that has no confirm yet
        # id -> the span of a mandatory publish without confirms, and the time of the publish.
        self._returns: OrderedDict[int, tuple[trace.Span, int]] = OrderedDict()
        self._settled: deque[tuple[OpenPublish, Any, int, float]] = deque()
        # The greenlets that work on the latter two, if there is one. One that was killed before it ran is still here.
        self._late_ender: Any = None
        self._recorder: Any = None
        self._is_forgotten = False
        # Ids of spans that the confirm of a returned message has ended before ``come_back`` was called for it.
        self._told: deque[int] = deque(maxlen=MOST_OPEN)

    def handed_over(self, publish: OpenPublish, confirmed: bool, mandatory: bool) -> None:
        """The message is on its way. confirmed: a confirm will come for it."""
        if confirmed:
            if publish.span is None:
                pass
            elif len(self._confirms) < MOST_OPEN:
                self._confirms[publish.span_id] = publish
            else:  # only the measurement goes on
                # Removed first, since the confirm may come while the end of the span waits.
                span, publish.span = publish.span, None
                span.end()
            return
        seconds = time.perf_counter() - publish.begun
        if mandatory and publish.span is not None:
            # First of all: what is done with a measurement may wait, and the message may come back meanwhile.
            span, publish.span = publish.span, None
            self._keep_for_return(span)
        publish.finish(True, None, seconds)

    def _keep_for_return(self, span: trace.Span) -> None:
        kept = self._returns
        kept[span.get_span_context().span_id] = span, time.time_ns()
        if self._late_ender is None or self._late_ender.dead:
            self._late_ender = self.green.spawn(_end_late, kept, self.green.sleep)
        if len(kept) > MOST_OPEN:
            _end(kept, 1)

    def come_back(self, span_id: int, message: Any) -> bool:
        """A message was returned whose publish had this span. Returns whether that is still open, and so will tell."""
        publish = self._confirms.get(span_id)
        if publish is not None:
            publish.returned = message  # the confirm comes right behind, and ends the span
            return True
        if span_id in self._told:
            self._told.remove(span_id)
            return True
        kept = self._returns.pop(span_id, None)
        if kept is None:
            return False
        mark_returned(kept[0], message)
        kept[0].end()
        return True

    def note(self, publish: OpenPublish, outcome: Any) -> None:
        """From the reader. Does not switch."""
        if self._is_forgotten:
            return  # in a forked child, where the channels of the parent end over some turns of the hub
        self._settled.append((publish, outcome, time.time_ns(), time.perf_counter()))
        if self._recorder is None or self._recorder.dead:
            self._recorder = self.green.spawn(self._record)

    def catch_up(self) -> None:
        """Called before each publish: record some outcomes here if too many wait for the greenlet. May switch."""
        if len(self._settled) > MOST_WAITING:
            self._record_some(2)

    def _record(self) -> None:
        """Body of a greenlet: record the outcomes that have come."""
        try:
            while self._settled:
                self._record_some(PIECE)
                if self._settled:
                    self.green.sleep(0)
        finally:
            # Some are left if it is being killed, or a span processor of the program has raised.
            self._recorder = self.green.spawn(self._record) if self._settled else None

    def _record_some(self, count: int) -> None:
        for _ in range(count):
            if not self._settled:
                return
            publish, outcome, at, now = self._settled.popleft()
            self._confirms.pop(publish.span_id, None)
            if publish.returned is not None:
                outcome = publish.returned
            elif publish.span is not None and not isinstance(outcome, (bool, BaseException)):
                self._told.append(publish.span_id)
            publish.finish(outcome, at, now - publish.begun)

    def end_all(self) -> None:
        """End all that is open, at the end of the program."""
        self._record_some(len(self._settled))
        _end(self._returns, len(self._returns))
        while self._confirms:
            publish = self._confirms.popitem()[1]
            span, publish.span = publish.span, None
            if span is not None:
                span.end()

    def forget_all(self) -> None:
        """In a forked child: all that is open is the parent's, and its outcomes are not recorded here."""
        self._is_forgotten = True
        self._settled.clear()
        self._returns.clear()
        self._confirms.clear()


def _end_late(kept: OrderedDict[int, tuple[trace.Span, int]], sleep: Any) -> None:
    """Body of a greenlet: end the spans of messages that did not come back, with the time of their publish."""
    try:
        while kept:
            sleep(RETURN_WITHIN / 4)
            late = time.time_ns() - int(RETURN_WITHIN * 1e9)
            _end(kept, sum(at < late for _, at in list(kept.values())))
    finally:
        _end(kept, len(kept))


def _end(kept: OrderedDict[int, tuple[trace.Span, int]], count: int) -> None:
    for _ in range(count):
        if kept:
            _, (span, at) = kept.popitem(last=False)
            span.end(at)


def _error_of(outcome: Any) -> str:
    if outcome is False:
        return names.NACKED
    return names.error_type(outcome) if isinstance(outcome, BaseException) else _reply_code(outcome)


def _reply_code(message: Any) -> str:
    return str(message.delivery_info['reply_code'])


def _context_of(span: trace.Span | None) -> Any:
    return None if span is None else trace.set_span_in_context(span)


def mark_returned(span: trace.Span, message: Any) -> None:
    """Mark the span of a publish as failed because the message came back."""
    text = f'{_reply_code(message)} {names.as_text(message.delivery_info["reply_text"])}'
    span.add_event(names.RETURNED_EVENT, {names.RETURNED_REPLY: text})
    span.set_attribute(names.ERROR_TYPE, _reply_code(message))
    span.set_status(trace.Status(trace.StatusCode.ERROR, f'returned: {text}'))


def fail(span: trace.Span, error: BaseException) -> None:
    """Mark the span as failed. Takes gevent.Timeout and GreenletExit, too, which are no Exceptions."""
    span.set_attribute(names.ERROR_TYPE, names.error_type(error))
    span.record_exception(error)
    span.set_status(trace.Status(trace.StatusCode.ERROR, f'{type(error).__name__}: {error}'))
