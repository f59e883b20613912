"""The numbers of all connections of the process for Prometheus: ``gamqp.prometheus.register()``.

Layer 5; needs prometheus_client. A scrape comes from a thread of its own (or, in a
patched process, a greenlet). It is not sent to the hubs by run_in_hub: a hub that
is held up must not hold up the scrape that would tell so, nor one that waits for
the scraping thread. Everything is read where it is instead: plain numbers, each
changed by one thread only, and a look at a dict that changes meanwhile is taken
again. Between some connections and the next ones it lets others run: the greenlets
of its thread if that has connections, else the other threads. So the numbers of one
scrape may be some milliseconds apart. What must not enter: anything that waits for a hub.
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

# Sets of labels that are told at the same time: each makes a time series of every row below, and a program may make
# up a name per connection. A new one takes the place of one whose connections have all ended; where there is none,
# it goes among the others.
MOST_LABELS = 200
OTHERS = '(others)'

# Connections that are looked at in one go, before others get a turn.
PIECE = 25

MULTIPROCESS = (
    'PROMETHEUS_MULTIPROC_DIR is set: prometheus_client gathers from several processes only what they keep in files '
    'there, and the numbers of gamqp are not. To have them told, let each process serve its own registry, e.g. with '
    'prometheus_client.start_http_server on a port of its own'
)

# Connections that may be opened between two scrapes before they are put in order without one.
MOST_FRESH = 1000

# name in stats -> name of the metric (of a counter without its _total) and its help.
COUNTERS = {
    'opened': ('connections_opened', 'Times that a connection was opened, again included.'),
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
}
# The same, and how those of several connections are put together.
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
}

Labels = tuple[str, ...]

# Held for a moment, between threads. Reentrant, because what is collected in that moment may be anything.
_lock = os_threads.RLock()


#: Held by nobody else: who waits for it in vain has let other threads run.
_never = os_threads.Lock()
_never.acquire()

_collectors: weakref.WeakSet[Collector] = weakref.WeakSet()


def _reset_after_fork() -> None:
    """In a forked child the thread that holds the lock may be missing, and nothing has been counted."""
    global _lock
    _lock = os_threads.RLock()
    for collector in list(_collectors):
        collector._forget()


at_fork('prometheus', in_child=_reset_after_fork)


def register(registry: CollectorRegistry = REGISTRY) -> Collector:
    """Have every connection of this process, those to come too, told to Prometheus. Returns the Collector.

    A forked child begins at zero, with its own connections. Where PROMETHEUS_MULTIPROC_DIR
    is set it warns (RuntimeWarning): what is told in that way does not hold these numbers.
    Raises ValueError when the registry has one already. Does not switch greenlets.
    """
    if any(os.environ.get(name) for name in ('PROMETHEUS_MULTIPROC_DIR', 'prometheus_multiproc_dir')):
        warnings.warn(MULTIPROCESS, RuntimeWarning, stacklevel=2)
    collector = Collector()
    registry.register(collector)
    return collector


class Collector(Base):
    """Counters and gauges of all connections, by name, host and virtual host; made by ``register``.

    The name is the connection's ``name``, '' where there is none; those of the same
    name, host and vhost are told together. Counters also hold what connections
    counted that have ended. 200 sets of these labels are told at the same time: when
    there is another one, that of connections that have all ended, the longest ago, is
    told no more, and begins at zero if its name comes again; where there is none, the
    new one is told as '(others)'. Connections are held weakly. A Collector that is
    dropped (``registry.unregister``) learns of no more connections.
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
        self._fresh: deque[tuple[Counters, weakref.ref[Any], Labels]] = deque()
        self._known: dict[Counters, tuple[weakref.ref[Any], Labels]] = {}
        self._ended: dict[Labels, dict[str, float]] = {}  # sums of those that are gone
        self._told: dict[Labels, dict[str, float]] = {}
        self._labels: dict[Labels, None] = {}  # that of the latest connection last

    def describe(self) -> Iterable[Metric]:
        return self._families().values()

    def collect(self) -> Iterable[Metric]:
        """One scrape. From any thread; in one with connections it switches greenlets now and then."""
        with _lock:
            self._sort_in()
            known = list(self._known.items())
            totals = {labels: dict(self._ended.get(labels, ())) for labels in sorted(self._labels)}
        gauges: dict[Labels, list[dict[str, float]]] = {labels: [] for labels in totals}
        backends: dict[int, Any] = {}  # of the threads that have connections
        for number, (counts, (ref, labels)) in enumerate(known, 1):
            self._look(counts, ref, totals[labels], gauges[labels], backends)
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
        # Never less than before: a look may fall between two steps of what the hub does.
        with _lock:
            told = self._told.setdefault(labels, {}) if labels in self._labels else {}
            told[name] = max(totals[labels].get(name, 0), told.get(name, 0))
            return told[name]

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
        self, counts: Counters, ref: Any, totals: dict[str, float], gauges: list[dict[str, float]], backends: Any
    ) -> None:
        connection = ref()
        if connection is None:
            numbers = stats.totals(counts)
        else:
            if connection.green is not None:
                backends[connection.thread] = connection.green
            numbers = stats.collect(connection)
            numbers['connections'] = int(connection.is_open)
            gauges.append(numbers)
        _add(totals, numbers)

    # -- in the threads of the connections -------------------------------------------------

    def _opened(self, connection: Any) -> None:
        self._fresh.append((connection.counts, weakref.ref(connection), _labels_of(connection)))
        if len(self._fresh) > MOST_FRESH:  # nobody scrapes
            with _lock:
                self._sort_in()

    def _sort_in(self) -> None:
        """Take in who is new, and the sums of who is gone. A connection's counts outlive it, here."""
        self._sort_out()
        for _ in range(len(self._fresh)):
            counts, ref, labels = self._fresh.popleft()
            if counts not in self._known:  # else it was opened again
                self._known[counts] = ref, self._bounded(labels)
        self._sort_out()

    def _sort_out(self) -> None:
        for counts, (ref, labels) in list(self._known.items()):
            if ref() is None:
                del self._known[counts]
                _add(self._ended.setdefault(labels, {}), stats.totals(counts))

    def _bounded(self, labels: Labels) -> Labels:
        if labels not in self._labels and len(self._labels) >= MOST_LABELS and not self._make_room():
            labels = (OTHERS,) * len(LABELS)
        self._labels.pop(labels, None)
        self._labels[labels] = None
        return labels

    def _make_room(self) -> bool:
        """Tell no more of those whose connections have all ended, the longest ago."""
        in_use = {labels for _, labels in self._known.values()}
        for labels in self._labels:
            if labels not in in_use and labels[0] != OTHERS:
                for book in (self._labels, self._ended, self._told):
                    book.pop(labels, None)
                return True
        return False


def _let_others_run(backends: dict[int, Any]) -> None:
    """Greenlets of this thread, or other threads. backends: those of threads that have connections."""
    backend = backends.get(os_threads.get_ident())
    if backend is None:
        _never.acquire(True, 0.0001)
        return
    hub = backend.hub()
    if greenlet.getcurrent() is not getattr(hub, 'greenlet', hub):
        backend.sleep(0)


def _labels_of(connection: Any) -> Labels:
    return stats.name_of(connection), str(connection.host), str(connection.virtual_host)


def _add(totals: dict[str, float], numbers: dict[str, float]) -> None:
    for name in COUNTERS:
        totals[name] = totals.get(name, 0) + numbers[name]
