"""The numbers of a connection as one dict, and the calls of the program's ``metrics`` hook with it.

Layer 3. The counters are increased where things happen, which takes some nanoseconds each. Everything else is computed
here when it is asked for, so a connection whose numbers nobody reads pays nothing for them.
Does not belong here: formats of monitoring systems, see ``gamqp.prometheus``.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable
from typing import Any

from ..green import os_threads
from ..green.forking import at_fork
from ..green.os_threads import get_ident
from ..state import counters as state
from ..state.counters import Counters
from .measured_protocols import MeasuredConnection, NamedConnection

__all__ = ('MetricsReporter', 'collect', 'name_of', 'notify_observers', 'observers', 'totals')

logger = logging.getLogger('gamqp.stats')

# Attempts of another thread than the hub's to read the numbers: one fails when the hub changes a dict meanwhile.
TRIES = 100

# The sums of so many names of connections are kept after the connections have ended. Then the name that was
# reported longest ago is dropped.
MOST_NAMES = 1000

#: name -> the sums of what all connections of that name with a metrics hook have counted and reported.
_names: dict[str, dict[str, float]] = {}
_names_lock = os_threads.Lock()

#: Called with each connection that has been opened: weak references to callables.
observers: list[weakref.WeakMethod[Callable[[MeasuredConnection], object]]] = []


def notify_observers(connection: MeasuredConnection, failed: Callable[[str, BaseException], None]) -> None:
    """The connection has been opened. Does not switch.

    failed: what only counts costs no connection; called with a text and the error, and does not switch.
    """
    for ref in list(observers):
        observer = ref()
        if observer is not None:
            try:
                observer(connection)
            except Exception as exc:
                failed('the metrics learn nothing of %s', exc)


def name_of(connection: NamedConnection) -> str:
    """The name of a connection, as the broker's management shows it; '' if it has none."""
    return str(connection.name or connection.client_properties.get('connection_name') or '')


def collect(connection: MeasuredConnection) -> dict[str, float]:
    """The numbers of a connection. May be called in any thread. Does not switch.

    Counters, from when the connection object was made on, over all its sockets:

    * opened: how often it was opened; addresses_failed: how many addresses of brokers could not be connected to,
      or have not let it in, on the way there;
    * published: publishes that were sent or queued;
    * confirmed, nacked, returned: publishes by the broker's answer; it confirms returned ones, too;
    * lost: publishes whose channel ended before their confirm came, so that their fate is not known;
    * unnoticed: nacked or returned publishes whose Receipt the program has not looked at;
    * delivered: messages that arrived, those of basic_get included; redelivered: those of them that the broker had
      delivered before;
    * acked, rejected: deliveries that the program has acked, or has nacked or rejected;
    * given_back: deliveries that the program never saw because their consumer was cancelled, and unacked deliveries of
      a stream whose consumer has ended;
    * stale_settlements: acks, nacks and rejects that came after the end of their channel, and were not sent;
    * bytes_in, bytes_out: without the overhead of TLS;
    * blocked_seconds: for how long the broker took no messages (connection.blocked);
    * write_wait_seconds: for how long greenlets waited to publish, added when a wait ends;
    * outages, recovery_attempts, recoveries: losses that a connection recovers from, attempts to open it again, and
      outages that have ended with an open connection; recovery_skipped: records that could not be restored;
    * lost_publishes: publishes without confirms that were still queued at such a loss, and were dropped;
      stale_replies: replies of an ``RPCServer`` that were not sent, since their requests had gone back to the queue.

    Gauges, which are about this moment:

    * channels, consumers; unconfirmed publishes;
    * undelivered_messages, undelivered_bytes: arrived, in memory, and not taken by the program yet;
    * spooled_messages, spooled_bytes: the same in temporary files;
    * unsettled: deliveries that were not acked, nacked or rejected; oldest_unsettled_seconds: the age of the oldest;
    * send_queue_bytes: bytes that the kernel has not taken yet;
    * hub_lag_seconds, worst_hub_lag_seconds: by how much the hub is, or was at the latest look, late; the most so far;
    * recovering: 1 during an outage; last_recovery_seconds: how long the latest one lasted that is over.

    So, with publisher confirms on all channels,
    published = confirmed + nacked + lost + unconfirmed. Without no_ack, and while
    no channel is closed, delivered = acked + rejected + given_back + unsettled.
    Raises RuntimeError in another thread if the hub keeps changing the connection.
    """
    for _ in range(TRIES):
        try:
            return {**totals(connection._counts), **_gauges(connection)}
        except RuntimeError:
            # This is another thread than the hub's, and the hub changed a dict while this thread read it.
            pass
    raise RuntimeError('stats: the connection did not stand still for a moment')


def totals(counts: Counters) -> dict[str, float]:
    """The counters alone, without what is not complete yet, such as the time of a block that lasts."""
    return {
        'opened': counts.opened,
        'addresses_failed': counts.addresses_failed,
        'published': counts.published,
        'confirmed': counts.confirmed,
        'nacked': counts.nacked,
        'returned': counts.returned,
        'lost': counts.lost,
        'delivered': counts.delivered - counts.returned,
        'redelivered': counts.redelivered,
        'acked': counts.acked,
        'rejected': counts.rejected,
        'given_back': counts.given_back,
        'stale_settlements': counts.stale_settlements,
        'unnoticed': counts.unnoticed,
        'bytes_in': counts.bytes_in,
        'bytes_out': counts.bytes_out,
        'blocked_seconds': counts.blocked_seconds,
        'write_wait_seconds': counts.write_wait_seconds,
        'outages': counts.outages,
        'recovery_attempts': counts.recovery_attempts,
        'recoveries': counts.recoveries,
        'recovery_skipped': counts.recovery_skipped,
        'lost_publishes': counts.lost_publishes,
        'stale_replies': counts.stale_replies,
    }


def _gauges(connection: MeasuredConnection) -> dict[str, float]:
    """The gauges, and blocked_seconds with the seconds of a block that lasts until now."""
    channels = list(connection.channels.values())
    link, overflow = connection._link, connection._backpressure.overflow
    watch = None if link is None else link.hub_monitor
    now = time.monotonic()
    # One loop without a switch, so that the numbers are of the same moment. There may be thousands of channels.
    consumers = unconfirmed = unsettled = 0
    oldest = now
    for channel in channels:
        consumers += channel.consumer_count
        unconfirmed += channel.unconfirmed
        count = channel.unsettled
        if count:
            unsettled += count
            entry = channel._oldest_unsettled()
            if entry is not None:
                oldest = min(oldest, entry[2])
    return {
        'blocked_seconds': connection._counts.blocked_seconds + max(0.0, connection._flow_control.blocked_for(now)),
        'channels': len(channels),
        'consumers': consumers,
        'unconfirmed': unconfirmed,
        'undelivered_messages': connection._backpressure.budget.messages,
        'undelivered_bytes': connection._backpressure.budget.bytes,
        'spooled_messages': 0 if overflow is None else overflow.messages,
        'spooled_bytes': 0 if overflow is None else overflow.bytes,
        'unsettled': unsettled,
        'oldest_unsettled_seconds': now - oldest,
        'send_queue_bytes': 0 if link is None else link.writer.queued,
        'hub_lag_seconds': 0.0 if watch is None else watch.lag_at(now),
        'worst_hub_lag_seconds': 0.0 if watch is None else max(watch.worst_lag, watch.lag_at(now)),
        'recovering': int(connection.recovery is not None),
        'last_recovery_seconds': connection._counts.last_recovery_seconds,
    }


def collect_for_hook(connection: MeasuredConnection) -> dict[str, Any]:
    """The dict for the hook: ``collect``, the name, and the counters summed over all connections of that name."""
    numbers, name = collect(connection), name_of(connection)
    if name:
        reported = connection._counts.reported
        with _names_lock:
            sums = _names.pop(name, {})
            for counter in totals(connection._counts):
                sums[counter] = sums.get(counter, 0) + numbers[counter] - reported.get(counter, 0)
                reported[counter] = numbers[counter]
            _names[name] = sums
            if len(_names) > MOST_NAMES:
                del _names[next(iter(_names))]
            numbers.update(sums)
    return {'name': name, **numbers}


def _reset_after_fork() -> None:
    """In a forked child: all counters start at zero, and the parent may hold the lock for ever."""
    global _names_lock
    _names_lock = os_threads.Lock()
    _names.clear()
    for counts in list(state.every):
        counts.reset()


at_fork('counters', in_child=_reset_after_fork)


class MetricsReporter:
    """Calls the program's hook every *interval* seconds, in a greenlet of its own, and once after the connection's end.

    The counters of connections with the same name, one after the other or at the same
    time, are reported as one sum, so that they never decrease when a program connects again.

    While the hook runs it is not called again; when it returns it gets the newest
    numbers. What it raises is logged.
    """

    def __init__(self, connection: MeasuredConnection, interval: float) -> None:
        self._connection_ref = weakref.ref(connection, self._dropped)
        self._green = connection._green
        self._interval = interval
        self._thread = get_ident()
        self._process = os.getpid()
        self._news: dict[str, Any] | None = None  # the numbers with which the hook is to be called next
        self._caller: Any = None
        self._timer: Any = None
        self._arm()

    def stop(self) -> None:
        """The connection has ended: report for the last time. Does not switch."""
        if self._timer is not None:
            self._cancel()
            if os.getpid() == self._process:  # a forked child does not report its parent's connection
                self._report()

    def _dropped(self, ref: object) -> None:
        if get_ident() == self._thread:  # in another thread the timer must not be touched; it ends itself later
            self._cancel()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = self._green.call_later(self._interval, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._report():
            self._arm()

    def _report(self) -> bool:
        """Have the hook called. Returns False if the connection has been garbage-collected."""
        connection = self._connection_ref()
        if connection is None:
            return False
        self._news = collect_for_hook(connection)
        if self._caller is None or self._caller.dead:
            self._caller = self._green.spawn(self._call, connection.metrics)
        return True

    def _call(self, hook: Callable[[dict[str, Any]], Any]) -> None:
        while self._news is not None:
            news, self._news = self._news, None
            try:
                hook(news)
            except Exception:
                logger.exception('the metrics hook %r failed', hook)
