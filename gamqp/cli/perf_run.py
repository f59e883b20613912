"""One run of ``perf``: connections, greenlets, the live line, the end.

Layer 5. Does not belong here: options (``perf_command``).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from .. import green
from ..connection import Connection
from . import broker_urls
from .exit_codes import FAILED, OK, UsageError
from .field_values import stream_offset
from .output import Output
from .parser import seconds as seconds_of
from .parser import size as size_of
from .perf_churn import Churn
from .perf_distribution import write_distributions
from .perf_figures import Figures, as_table, tables
from .perf_load import Bodies, ConsumerLoad, Producer, Schedule
from .perf_plot import check_plot, plot
from .perf_queues import Queues
from .running import Stop

__all__ = ('perf', 'show_total')

# Seconds without a message after which a consumer counts as idle.
IDLE = 2.0
# Seconds that the confirms which are outstanding in the end may take.
PATIENCE = 5.0


def perf(options: argparse.Namespace, output: Output, stop: Stop) -> int:
    """Run, and print the figures."""
    if options.plot:
        check_plot()
    if not options.autoack and options.qos and options.multi_ack_every > options.qos:
        raise UsageError(f'--multi-ack-every {options.multi_ack_every} needs a --qos of as many, at least')
    run = Run(options, output)
    stop.instead = run.end
    try:
        run.set_up()
        run.wait()
    finally:
        run.tear_down()
    total = run.total()
    if options.json:
        output.line(json.dumps({**total, 'series': run.series}))
    else:
        show_total(total, output)
        output.note(f'in {total["seconds"]:,.1f} s, with {total["processor"]:.0%} of a processor')
    if options.plot:
        plot(options.plot, run.series)
    if options.hdr:
        output.note(f'wrote {", ".join(run.distributions(options.hdr)) or "no distribution: nothing was measured"}')
    if run.error is not None:
        raise run.error
    return FAILED if total.get('refused') or total.get('errors') else OK


def show_total(total: dict[str, Any], output: Output) -> None:
    """Print the figures of a whole run, for people. Switches."""
    pictures = output.pictures
    if pictures is None:
        output.line(as_table(total))
        return
    for headings, rows in tables(total):
        output.line(pictures.table(headings, rows))


class Run:
    """The greenlets and the figures of one run."""

    def __init__(self, options: argparse.Namespace, output: Output) -> None:
        self._options, self._output = options, output
        self._queues = Queues(options)
        self._connections: list[Connection] = []
        self._producers: list[Producer | Churn] = []
        self._consumers: list[ConsumerLoad] = []
        self._producing = self._consuming = 0
        self._span, self._sum = Figures(), Figures()
        self._over = green.Event(green.backend())
        self._started = self._span_began = time.monotonic()
        self._ended: float | None = None
        self._processor = time.process_time()
        self.series: list[dict[str, Any]] = []
        self.error: Exception | None = None

    # -- beginning -----------------------------------------------------------------------

    def set_up(self) -> None:
        """Connect, declare, and start. Consumers first: the first message finds them there."""
        options = self._options
        first = self._connect()
        if options.churn:
            starts = [self._churn(first) for _ in range(max(options.producers, 1))]
        else:
            self._queues.declare(first)
            starts = [self._consumer(number) for number in range(options.consumers)]
            starts += [self._producer(number) for number in range(options.producers)]
        self._started = self._span_began = time.monotonic()
        self._processor = time.process_time()
        for each in starts:
            for start in each:
                green.backend().spawn(start)

    def _connect(self) -> Connection:
        connection = broker_urls.connect(self._options, shuffle=True, outstanding_limit=self._options.confirm or 1000)
        self._connections.append(connection)
        return connection

    def _figures(self) -> Figures:
        return self._span

    def _churn(self, connection: Connection) -> list[Callable[[], None]]:
        churn = Churn(self._options, self._figures, connection, self._options.pmessages)
        self._producers.append(churn)
        return [self._guarded(churn, True)]

    def _producer(self, number: int) -> list[Callable[[], None]]:
        options, queues = self._options, self._queues
        connection, starts = self._connect(), []
        # Each producer has one queue, as each consumer has, in turn.
        name = queues.names[number % len(queues.names)]
        for _ in range(options.producer_channels):
            properties: dict[str, Any] = {'delivery_mode': 2 if options.persistent else 1}
            if options.json_body:
                properties['content_type'] = 'application/json'
            bodies = Bodies(_schedule(options.variable_size, options.size, size_of), options.json_body)
            rate = _schedule(options.variable_rate, options.rate, float)
            producer = Producer(
                connection.channel(),
                self._figures,
                (queues.exchange, queues.key(name)),
                bodies,
                rate,
                options.pmessages,
                options.confirm,
                properties,
            )
            self._producers.append(producer)
            starts.append(self._guarded(producer, True))
        return starts

    def _consumer(self, number: int) -> list[Callable[[], None]]:
        options, queues = self._options, self._queues
        connection, starts = self._connect(), []
        arguments = {'x-stream-offset': stream_offset(options.stream_consumer_offset)} if queues.is_stream else None
        for _ in range(options.consumer_channels):
            consumer = ConsumerLoad(
                connection.channel(),
                self._figures,
                queues.names[number % len(queues.names)],
                options.qos,
                0 if options.autoack else options.multi_ack_every,
                options.consumer_latency or 0.0,
                options.consumer_rate,
                options.cmessages,
                arguments,
            )
            self._consumers.append(consumer)
            starts.append(self._guarded(consumer, False))
        return starts

    def _guarded(self, work: Producer | Churn | ConsumerLoad, produces: bool) -> Callable[[], None]:
        """What a greenlet does: the work, and to note its end."""
        if produces:
            self._producing += 1
        else:
            self._consuming += 1

        def run() -> None:
            try:
                work.run()
            except Exception as exc:
                if not self._over.done:
                    self._span.errors += 1
                    self.error = self.error or exc
                    self.end()
            finally:
                if produces:
                    self._producing -= 1
                else:
                    self._consuming -= 1

        return run

    # -- while it runs -------------------------------------------------------------------------

    def wait(self) -> None:
        """Show a line each interval, until it is time to end. Switches."""
        interval: float = self._options.interval
        while not self._over.done:
            self._over.wait(min(interval, self._left()))
            if self._is_done():
                self.end()
            if self._over.done or self._span_is_over(interval):
                self._next_span()

    def _span_is_over(self, interval: float) -> bool:
        """Whether it is time for a line; the last one has no remainder of some milliseconds behind it."""
        now, limit = time.monotonic(), self._options.time
        if limit is not None and self._started + limit - now < interval * 0.3:
            return False
        return now - self._span_began >= interval * 0.9

    def _left(self) -> float:
        limit: float | None = self._options.time
        if limit is None:
            return 0.1 if self._options.pmessages or self._options.cmessages or self._options.exit_when else 3600.0
        return max(min(self._started + limit - time.monotonic(), 0.2), 0.001)

    def _is_done(self) -> bool:
        options, now = self._options, time.monotonic()
        if options.time is not None and now >= self._started + options.time:
            return True
        if options.churn or not options.consumers:
            return self._producing == 0
        if self._consuming == 0:
            return True
        if self._producing or (options.producers and options.cmessages):
            return False
        idle = now - max([self._started, *(one.received_at for one in self._consumers)]) >= IDLE
        if options.exit_when == 'empty':
            return idle and self._queues.ready(self._connections[0]) == 0
        if options.exit_when == 'idle':
            return idle
        # The producers have sent what they had: it is over when all has come, or nothing comes any more.
        return bool(options.producers) and (self._all_came() or idle)

    def _all_came(self) -> bool:
        return self._sum.received + self._span.received >= self._sum.published + self._span.published

    def _next_span(self) -> None:
        now = time.monotonic()
        span, self._span = self._span, Figures()
        seconds = max(now - self._span_began, 1e-6)
        self._span_began = now
        self._sum.add(span)
        at = now - self._started
        self.series.append({'at': round(at, 3), **span.for_programs(seconds)})
        self._output.live(span.live(at, seconds))

    # -- the end ---------------------------------------------------------------------------------

    def end(self) -> None:
        """Begin the end. Does not switch."""
        for work in (*self._producers, *self._consumers):
            work.stopped = True
        if self._ended is None:
            self._ended = time.monotonic()
            self._processor = time.process_time() - self._processor
        self._over.set()

    def tear_down(self) -> None:
        """Wait for confirms, delete what was made, close. Switches."""
        self.end()
        for producer in self._producers:
            if isinstance(producer, Producer):
                producer.finish(PATIENCE)
        for consumer in self._consumers:
            consumer.finish()
        try:
            for connection in self._connections[1:]:
                connection.close()
            if self._connections and not self._options.churn:
                self._queues.delete(self._connections[0])
        finally:
            if self._connections:
                self._connections[0].close()

    def distributions(self, prefix: str) -> list[str]:
        """Write the percentiles of the whole run, after ``total``. Returns the names of the files."""
        return write_distributions(prefix, self._sum)

    def total(self) -> dict[str, Any]:
        """The figures of the whole run, with the confirms that were waited for after its end."""
        self._sum.add(self._span)
        self._span = Figures()
        seconds = max((self._ended or time.monotonic()) - self._started, 1e-6)
        found = self._sum.for_programs(seconds)
        return {**found, 'processor': round(self._processor / seconds, 3)}


def _schedule(texts: list[str] | None, usual: float | None, value_of: Callable[[str], float]) -> Schedule:
    """Steps of 'VALUE:SECONDS'. Raises UsageError."""
    steps = []
    for text in texts or ():
        value, _, duration = text.partition(':')
        try:
            steps.append((float(value_of(value)), seconds_of(duration)))
        except (ValueError, argparse.ArgumentTypeError):
            raise UsageError(f'VALUE:SECONDS is wanted, not {text!r}') from None
    return Schedule(steps, usual)
