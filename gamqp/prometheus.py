"""The numbers of all connections of the process for Prometheus: ``gamqp.prometheus.register()``.

Layer 4; needs prometheus_client. A scrape comes from a thread of its own (or, in a
patched process, a greenlet). It is not sent to the hubs by run_in_hub: a hub that
is held up must not hold up the scrape that would tell so, nor one that waits for
the scraping thread. Everything is read where it is instead: plain numbers, each
changed by one thread only, and a look at a dict that changes meanwhile is taken
again. So a scrape neither switches greenlets nor touches a hub, and the numbers of
one scrape may be some microseconds apart. What must not enter: anything that waits.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Iterable
from typing import Any

from . import stats
from .green import native
from .io import goodbye
from .state.counts import Counts

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import REGISTRY, CollectorRegistry
    from prometheus_client.registry import Collector as Base
except ImportError as exc:
    raise ImportError("gamqp.prometheus needs prometheus_client: pip install 'gamqp[prometheus]'") from exc

__all__ = ('Collector', 'register')

LABELS = ('connection', 'host', 'vhost')

# Sets of labels above which names of connections are told no more: each makes a time
# series of every row below, for ever, and a program may make up a name per connection.
MOST_LABELS = 200
OTHERS = '(others)'

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
_lock = native.RLock()


def _renew_lock() -> None:
    """In a forked child the thread that holds it may be missing."""
    global _lock
    _lock = native.RLock()


os.register_at_fork(after_in_child=_renew_lock)


def register(registry: CollectorRegistry = REGISTRY) -> Collector:
    """Have every connection of this process, those to come too, told to Prometheus. Returns the Collector.

    Raises ValueError when the registry has one already. Does not switch greenlets.
    """
    collector = Collector()
    registry.register(collector)
    return collector


class Collector(Base):
    """Counters and gauges of all connections, by name, host and virtual host; made by ``register``.

    The name is the connection's ``name``, '' where there is none; those of the same
    name, host and vhost are told together. Counters also hold what connections
    counted that have ended. Connections are held weakly. A Collector that is dropped
    (``registry.unregister``) learns of no more connections.
    """

    def __init__(self) -> None:
        self._fresh: deque[tuple[Counts, weakref.ref[Any], Labels]] = deque()
        self._known: dict[Counts, tuple[weakref.ref[Any], Labels]] = {}
        self._ended: dict[Labels, dict[str, float]] = {}  # sums of those that are gone
        self._told: dict[tuple[Labels, str], float] = {}
        self._labels: set[Labels] = set()
        stats.observers[:] = [one for one in stats.observers if one() is not None]
        stats.observers.append(weakref.WeakMethod(self._opened))
        for link in _open_links():
            connection = link.owner()
            if connection is not None:
                self._opened(connection)

    def describe(self) -> Iterable[Metric]:
        return self._families().values()

    def collect(self) -> Iterable[Metric]:
        """One scrape. From any thread; does not switch greenlets."""
        families = self._families()
        with _lock:
            self._sort_in()
            totals = {labels: dict(ended) for labels, ended in self._ended.items()}
            gauges: dict[Labels, list[dict[str, float]]] = {labels: [] for labels in self._labels}
            for counts, (ref, labels) in list(self._known.items()):
                self._look(counts, ref, totals.setdefault(labels, {}), gauges[labels])
            for labels in sorted(self._labels):
                for name in COUNTERS:
                    # Never less than before: a look may fall between two steps of what the hub does.
                    value = max(totals[labels].get(name, 0), self._told.get((labels, name), 0))
                    self._told[labels, name] = value
                    families[name].add_metric(labels, value)
                for name, (_, _, together) in GAUGES.items():
                    values = [numbers[name] for numbers in gauges[labels]]
                    families[name].add_metric(labels, together(values) if values else 0)
        return families.values()

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

    def _look(self, counts: Counts, ref: Any, totals: dict[str, float], gauges: list[dict[str, float]]) -> None:
        connection = ref()
        if connection is None:
            numbers = stats.totals(counts)
        else:
            numbers = stats.collect(connection)
            numbers['connections'] = int(connection.connected)
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
        for _ in range(len(self._fresh)):
            counts, ref, labels = self._fresh.popleft()
            if counts not in self._known:  # else it was opened again
                self._known[counts] = ref, self._bounded(labels)
        for counts, (ref, labels) in list(self._known.items()):
            if ref() is None:
                del self._known[counts]
                _add(self._ended.setdefault(labels, {}), stats.totals(counts))

    def _bounded(self, labels: Labels) -> Labels:
        if labels not in self._labels and len(self._labels) >= MOST_LABELS:
            labels = (OTHERS,) * len(LABELS)
        self._labels.add(labels)
        return labels


def _labels_of(connection: Any) -> Labels:
    name = connection.name or connection.client_properties.get('connection_name') or ''
    return str(name), str(connection.host), str(connection.virtual_host)


def _add(totals: dict[str, float], numbers: dict[str, float]) -> None:
    for name in COUNTERS:
        totals[name] = totals.get(name, 0) + numbers[name]


def _open_links() -> list[Any]:
    for _ in range(stats.TRIES):
        try:
            return list(goodbye.alive)
        except RuntimeError:
            pass  # another thread has opened or closed one meanwhile
    return []
