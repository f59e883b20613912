"""The numbers of all connections of the process for Prometheus: ``gamqp.prometheus.register()``.

Layer 5; needs prometheus_client. A scrape runs in a thread of its own (in a patched process: in a
greenlet). It reads the numbers directly and does not ask the hubs by run_in_hub: a hub that is blocked would
block the scrape that should show it, and a hub that waits for the scraping thread would wait for ever. Direct
reading is safe: they are plain numbers, each changed by one thread only, and if a dict changes while it is read,
it is read again. After some connections the scrape lets others run: the greenlets of its thread if that has
connections, else other threads. So the numbers of one scrape may be some milliseconds apart.
Does not belong here: anything that waits for a hub.
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections import deque
from collections.abc import Iterable
from typing import Any

import greenlet

from .green import os_threads
from .green.forking import at_fork
from .io import process_end
from .state.counters import Counters
from .telemetry import stats

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import REGISTRY, CollectorRegistry
    from prometheus_client.registry import Collector as Base
except ImportError as exc:
    raise ImportError("gamqp.prometheus needs prometheus_client: pip install 'gamqp[prometheus]'") from exc

__all__ = ('Collector', 'register')

LABELS = ('connection', 'host', 'vhost')

# The most sets of labels that a scrape has. Each is a time series of every metric below, and a program may give every
# connection a name of its own. A new set replaces one whose connections have all ended; if there is none, the
# connection is counted under OTHERS.
MOST_LABELS = 200
OTHERS = '(others)'

# Connections that are read before others may run.
PIECE = 25

MULTIPROCESS = (
    'PROMETHEUS_MULTIPROC_DIR is set: prometheus_client gathers from several processes only what they keep in files '
    'there, and the numbers of gamqp are not. To export them, let each process serve its own registry, e.g. with '
    'prometheus_client.start_http_server on a port of its own'
)

# When so many connections were opened since the last scrape, they are sorted in without one.
MOST_FRESH = 1000

# name in stats -> name of the metric (of a counter without its _total) and its help.
COUNTERS = {
    'opened': ('connections_opened', 'Times that a connection was opened, again included.'),
    'addresses_failed': ('failed_addresses', 'Addresses of brokers that could not be connected to.'),
    'published': ('published_messages', 'Messages handed over to be sent.'),
    'confirmed': ('confirmed_messages', 'Publishes that the broker confirmed.'),
    'nacked': ('nacked_messages', 'Publishes that the broker refused.'),
    'returned': ('returned_messages', 'Publishes that came back because no queue took them.'),
    'lost': ('lost_confirms', 'Publishes whose channel ended before their confirm came.'),
    'delivered': ('delivered_messages', 'Messages that arrived.'),
    'redelivered': ('redelivered_messages', 'Those of them that had been delivered before.'),
    'acked': ('acked_messages', 'Deliveries that were acked.'),
    'rejected': ('rejected_messages', 'Deliveries that were nacked or rejected.'),
    'given_back': ('given_back_messages', 'Deliveries that went back to their queue before the program saw them.'),
    'stale_settlements': ('stale_settlements', 'Acks and the like that came too late for their channel.'),
    'unnoticed': (
        'unnoticed_messages',
        'Publishes refused or returned whose receipt nobody has looked at.',
    ),
    'bytes_in': ('received_bytes', 'Bytes received, without the overhead of TLS.'),
    'bytes_out': ('sent_bytes', 'Bytes sent, without the overhead of TLS.'),
    'blocked_seconds': ('blocked_seconds', 'Time for which the broker took no messages (a resource alarm).'),
    'write_wait_seconds': ('write_wait_seconds', 'Time that greenlets waited to publish.'),
    'outages': ('outages', 'Losses that a connection recovers from.'),
    'recovery_attempts': ('recovery_attempts', 'Attempts to open a lost connection again.'),
    'recoveries': ('recoveries', 'Outages that have ended with an open connection.'),
    'recovery_skipped': ('recovery_skipped_records', 'Exchanges, queues and the like that could not be restored.'),
    'lost_publishes': ('lost_publishes', 'Publishes without confirms that a loss has cut off in the send queue.'),
    'stale_replies': ('stale_rpc_replies', 'RPC replies that were not sent: a loss had put their requests back.'),
}
# The same, and the function that combines the values of several connections.
GAUGES: dict[str, tuple[str, str, Any]] = {
    'connections': ('connections', 'Connections that are open.', sum),
    'channels': ('channels', 'Channels that are open.', sum),
    'consumers': ('consumers', 'Consumers.', sum),
    'unconfirmed': ('unconfirmed_messages', 'Publishes whose confirm has not come yet.', sum),
    'undelivered_messages': ('undelivered_messages', 'Messages that wait in memory for the program.', sum),
    'undelivered_bytes': ('undelivered_bytes', 'The size of their bodies, and of large properties.', sum),
    'spooled_messages': ('spooled_messages', 'Messages that wait in temporary files for the program.', sum),
    'spooled_bytes': ('spooled_bytes', 'What these files hold.', sum),
    'unsettled': ('unsettled_messages', 'Deliveries that were not acked, nacked or rejected yet.', sum),
    'oldest_unsettled_seconds': ('oldest_unsettled_seconds', 'The age of the oldest of them.', max),
    'send_queue_bytes': ('send_queue_bytes', 'Bytes that wait to be sent.', sum),
    'hub_lag_seconds': ('hub_lag_seconds', 'By how much the hub is, or was when it last looked, late.', max),
    'worst_hub_lag_seconds': ('worst_hub_lag_seconds', 'The most by which the hub was late.', max),
    'recovering': ('recovering_connections', 'Connections that are being opened again.', sum),
    'last_recovery_seconds': ('last_recovery_seconds', 'How long the latest outage lasted that is over.', max),
}

Labels = tuple[str, ...]

# Held for short moments, between threads. Reentrant, because the garbage collector may run meanwhile, and with it
# finalizers that come here.
_guard = os_threads.HiddenRLock()


#: A lock that is never released: a thread that waits for it for a moment lets other threads run.
_never = os_threads.Lock()
_never.acquire()

_collectors: weakref.WeakSet[Collector] = weakref.WeakSet()


def _reset_after_fork() -> None:
    """In a forked child the thread that holds the lock may be missing, and nothing has been counted."""
    global _guard
    _guard = os_threads.HiddenRLock()
    for collector in list(_collectors):
        collector._forget()


at_fork('prometheus', in_child=_reset_after_fork)


def register(registry: CollectorRegistry = REGISTRY) -> Collector:
    """Report every connection of this process, also those opened later, to Prometheus. Returns the Collector.

    A forked child begins at zero, with its own connections. Where PROMETHEUS_MULTIPROC_DIR
    is set it warns (RuntimeWarning): prometheus_client's files do not have these numbers.
    Raises ValueError when the registry has one already. Does not switch greenlets.
    """
    if any(os.environ.get(name) for name in ('PROMETHEUS_MULTIPROC_DIR', 'prometheus_multiproc_dir')):
        warnings.warn(MULTIPROCESS, RuntimeWarning, stacklevel=2)
    collector = Collector()
    registry.register(collector)
    return collector


class Collector(Base):
    """Counters and gauges of all connections, by name, host and virtual host; made by ``register``.

    The name is the connection's ``name``, '' where there is none; connections of the same
    name, host and vhost are reported in one sum. Counters include connections that have
    ended. A scrape has at most 200 sets of these labels. A further one replaces the set
    whose connections have all ended the longest ago; that begins at zero if its name
    is used again. If there is no such set, the connection is reported as '(others)'.
    The Collector holds connections weakly. After ``registry.unregister`` it learns of no
    more connections.
    """

    def __init__(self) -> None:
        self._forget()
        _collectors.add(self)
        stats.observers[:] = [one for one in stats.observers if one() is not None]
        stats.observers.append(weakref.WeakMethod(self._opened))
        for link in process_end.open_links():
            connection = link.owner()
            if connection is not None:
                self._opened(connection)

    def _forget(self) -> None:
        # The last of both: what was counted for other labels before, e.g. of the host that it was connected to.
        self._fresh: deque[tuple[Counters, weakref.ref[Any], Labels, dict[str, float]]] = deque()
        self._known: dict[Counters, tuple[weakref.ref[Any], Labels, dict[str, float]]] = {}
        self._ended: dict[Labels, dict[str, float]] = {}  # sums of connections that have ended
        self._exported: dict[Labels, dict[str, float]] = {}
        self._labels: dict[Labels, None] = {}  # those of the latest connection are the last ones

    def describe(self) -> Iterable[Metric]:
        """The metrics without values, for the registry."""
        return self._families().values()

    def collect(self) -> Iterable[Metric]:
        """One scrape. From any thread; in a thread with connections it switches greenlets."""
        with _guard.lock:
            self._sort_in()
            known = list(self._known.items())
            totals = {labels: dict(self._ended.get(labels, ())) for labels in sorted(self._labels)}
        gauges: dict[Labels, list[dict[str, float]]] = {labels: [] for labels in totals}
        backends: dict[int, Any] = {}  # of the threads that have connections
        for number, (counts, (ref, labels, before)) in enumerate(known, 1):
            self._look(counts, ref, before, totals[labels], gauges[labels], backends)
            if not number % PIECE:
                _let_others_run(backends)
        for name, family in self._families().items():
            for labels in totals:
                family.add_metric(labels, self._value(name, labels, totals, gauges))
            yield family
            _let_others_run(backends)

    def _value(self, name: str, labels: Labels, totals: Any, gauges: Any) -> float:
        if name in GAUGES:
            values = [numbers[name] for numbers in gauges[labels]]
            return float(GAUGES[name][2](values)) if values else 0
        # Never less than before: the hub may be between two steps, in which a number is in neither of two sums.
        with _guard.lock:
            exported = self._exported.setdefault(labels, {}) if labels in self._labels else {}
            exported[name] = max(totals[labels].get(name, 0), exported.get(name, 0))
            return exported[name]

    @staticmethod
    def _families() -> dict[str, Any]:
        counters: dict[str, Any] = {
            name: CounterMetricFamily(f'gamqp_{metric}', text, labels=LABELS)
            for name, (metric, text) in COUNTERS.items()
        }
        gauges = {
            name: GaugeMetricFamily(f'gamqp_{metric}', text, labels=LABELS)
            for name, (metric, text, _) in GAUGES.items()
        }
        return {**counters, **gauges}

    def _look(
        self,
        counts: Counters,
        ref: Any,
        before: dict[str, float],
        totals: dict[str, float],
        gauges: list[dict[str, float]],
        backends: Any,
    ) -> None:
        connection = ref()
        if connection is None:
            numbers = stats.totals(counts)
        else:
            if connection._green is not None:
                backends[connection._affinity.thread] = connection._green
            numbers = stats.collect(connection)
            numbers['connections'] = int(connection.is_open)
            gauges.append(numbers)
        _add(totals, numbers, before)

    # -- in the threads of the connections -------------------------------------------------

    def _opened(self, connection: Any) -> None:
        before = stats.totals(connection._counts)
        before['opened'] -= 1  # the opening that this is about counts for the new labels
        self._fresh.append((connection._counts, weakref.ref(connection), _labels_of(connection), before))
        if len(self._fresh) > MOST_FRESH:  # nobody scrapes
            with _guard.lock:
                self._sort_in()

    def _sort_in(self) -> None:
        """Add new connections, and the sums of ended ones. Their Counters are kept here until then."""
        self._sort_out()
        for _ in range(len(self._fresh)):
            counts, ref, labels, before = self._fresh.popleft()
            labels = self._bounded(labels)
            if counts not in self._known:
                self._known[counts] = ref, labels, {}
                continue
            _, old_labels, old = self._known[counts]
            if labels != old_labels:  # opened again, on another host
                _add(self._ended.setdefault(old_labels, {}), before, old)
                self._known[counts] = ref, labels, before
        self._sort_out()

    def _sort_out(self) -> None:
        for counts, (ref, labels, before) in list(self._known.items()):
            if ref() is None:
                del self._known[counts]
                _add(self._ended.setdefault(labels, {}), stats.totals(counts), before)

    def _bounded(self, labels: Labels) -> Labels:
        if labels not in self._labels and len(self._labels) >= MOST_LABELS and not self._make_room():
            labels = (OTHERS,) * len(LABELS)
        self._labels.pop(labels, None)
        self._labels[labels] = None
        return labels

    def _make_room(self) -> bool:
        """Remove the set of labels whose connections have all ended the longest ago. Returns whether there was one."""
        in_use = {labels for _, labels, _ in self._known.values()}
        for labels in self._labels:
            if labels not in in_use and labels[0] != OTHERS:
                for book in (self._labels, self._ended, self._exported):
                    book.pop(labels, None)
                return True
        return False


def _let_others_run(backends: dict[int, Any]) -> None:
    """Let greenlets of this thread run, or other threads. backends: the library of each thread with connections."""
    backend = backends.get(os_threads.get_ident())
    if backend is None:
        _never.acquire(True, 0.0001)
        return
    hub = backend.hub()
    if greenlet.getcurrent() is not getattr(hub, 'greenlet', hub):
        backend.sleep(0)


def _labels_of(connection: Any) -> Labels:
    return stats.name_of(connection), str(connection.host), str(connection.virtual_host)


def _add(totals: dict[str, float], numbers: dict[str, float], before: dict[str, float]) -> None:
    for name in COUNTERS:
        totals[name] = totals.get(name, 0) + numbers[name] - before.get(name, 0)
