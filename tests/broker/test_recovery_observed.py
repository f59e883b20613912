"""What an outage looks like from outside: the metrics hook, Prometheus, OpenTelemetry, and the watches over silence."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator
from typing import Any

import greenlets
import prometheus_client
import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

import gamqp
import gamqp.prometheus
from gamqp import Recovery, opentelemetry, testing

QUICK: dict[str, Any] = {'first_delay': 0, 'delay': 0.1, 'max_delay': 0.1}
GAUGES = {*gamqp.prometheus.GAUGES, 'name'}


@pytest.fixture
def broker() -> Iterator[testing.Broker]:
    with testing.Broker() as broker:
        declare(broker.url)
        yield broker


def declare(url: str) -> None:
    with gamqp.connect(url) as connection:
        connection.channel().queue_declare('jobs', durable=True, auto_delete=False)


def lose(broker: testing.Broker, connection: gamqp.Connection) -> None:
    broker.cut()
    greenlets.wait_until(lambda: connection.state == 'recovering')


@pytest.mark.parametrize('end', ['close', 'given up', 'open'])
def test_the_metrics_hook_is_called_during_an_outage_and_once_at_the_end(broker: testing.Broker, end: str) -> None:
    calls: list[dict[str, Any]] = []
    recover = Recovery(**{**QUICK, 'attempts': 3 if end == 'given up' else None})
    connection = gamqp.connect(broker.url, recover=recover, metrics=calls.append, metrics_interval=0.01)
    channel = connection.channel()
    channel.confirm_select()
    broker.drop_reply('basic.publish', times=None)
    channel.publish(b'x', routing_key='jobs')
    broker.refuse('connection.open', 530, times=None)
    lose(broker, connection)
    greenlets.wait_until(lambda: [call['recovering'] for call in calls[-3:]] == [1, 1, 1])
    assert calls[-1]['lost'] == 1
    if end == 'open':
        broker.clear_faults()
        greenlets.wait_until(lambda: calls[-1]['recoveries'])
    if end == 'given up':
        greenlets.wait_until(lambda: connection.state == 'closed')
    else:
        connection.close()
    greenlets.sleep(0.05)
    assert calls[-1]['recovering'] == 0 and calls[-2]['channels'] == 1 and calls[-1]['channels'] == 0
    for before, after in itertools.pairwise(calls):
        assert not [name for name in {*before} - GAUGES if after[name] < before[name]]
    count = len(calls)
    greenlets.sleep(0.05)
    assert len(calls) == count


def test_scrapes_during_outages_on_several_hosts_never_count_back() -> None:
    registry = prometheus_client.CollectorRegistry()
    gamqp.prometheus.register(registry)
    scrapes: list[dict[str, float]] = []

    def scrape() -> dict[str, float]:
        sums: dict[str, float] = {}
        for family in registry.collect():
            for sample in family.samples:
                if sample.labels['connection'] == 'worker':
                    sums[sample.name] = sums.get(sample.name, 0) + sample.value  # over hosts
        scrapes.append(sums)
        return sums

    with testing.Cluster(2) as cluster:
        declare(cluster.urls[0])
        with gamqp.connect(cluster.urls, recover=Recovery(**QUICK), name='worker') as connection:
            channel = connection.channel()
            channel.subscribe('jobs', lambda message: None)
            hosts = set()
            for number in range(4):
                hosts.add(connection.host)
                channel.publish(b'x', routing_key='jobs').wait()
                greenlets.wait_until(lambda: channel.unsettled == 0)
                scrape()
                node = next(one for one in cluster.nodes if one.url.endswith(f'{connection.host.split(":")[1]}/%2F'))
                node.kill()
                greenlets.wait_until(lambda count=number + 1: connection.stats()['outages'] == count)
                scrape()
                greenlets.wait_until(lambda: connection.state == 'open')
                now = scrape()
                assert (now['gamqp_connections'], now['gamqp_consumers'], now['gamqp_channels']) == (1, 1, 1)
                assert now['gamqp_recovering_connections'] == 0
                node.start()
            assert len(hosts) == 2
            assert scrapes[-1]['gamqp_outages_total'] == scrapes[-1]['gamqp_recoveries_total'] == 4
            assert scrapes[-1]['gamqp_published_messages_total'] == 4
            assert scrapes[-1]['gamqp_connections_opened_total'] == 5
        assert scrape()['gamqp_connections'] == 0
    for before, after in itertools.pairwise(scrapes):
        assert not [name for name in before if name.endswith('_total') and after[name] < before[name]]


class Spans(SpanProcessor):
    """The publishes whose spans have ended: their error.type, None where there is none."""

    def __init__(self) -> None:
        self.outcomes: list[Any] = []

    def on_end(self, span: ReadableSpan) -> None:
        attributes = span.attributes or {}
        if attributes.get('messaging.operation.type') == 'send':
            self.outcomes.append(attributes.get('error.type'))


@pytest.mark.parametrize('republish', ['none', 'all'])
def test_the_span_of_a_publish_ends_once(broker: testing.Broker, republish: Any) -> None:
    spans, provider = Spans(), TracerProvider()
    provider.add_span_processor(spans)
    with gamqp.connect(broker.url, recover=Recovery(**QUICK, republish=republish)) as connection:
        opentelemetry.instrument(connection, provider)
        channel = connection.channel()
        channel.confirm_select()
        broker.drop_reply('basic.publish')
        receipt = channel.publish(b'x', routing_key='jobs')
        broker.wait_until(lambda: len(broker.queue('jobs')))
        assert spans.outcomes == []
        broker.cut()
        greenlets.wait_until(lambda: receipt.done and spans.outcomes)
        assert spans.outcomes == (['gamqp.exceptions.Lost'] if republish == 'none' else [None])
        assert len(broker.queue('jobs')) == 1 + (republish == 'all')
        greenlets.wait_until(lambda: connection.state == 'open')
        channel.publish(b'y', routing_key='jobs').wait()
        greenlets.wait_until(lambda: len(spans.outcomes) == 2)


def threads() -> int:
    """Those of the process, also of those that Python does not know."""
    return len(os.listdir('/proc/self/task'))


def test_heartbeat_threads_and_read_timeouts_are_of_one_socket(broker: testing.Broker) -> None:
    connect = functools.partial(gamqp.connect, broker.url, recover=Recovery(**QUICK))
    with connect(heartbeat=30, heartbeat_thread=True, read_timeout=0.2) as connection:
        channel = connection.channel()
        channel.subscribe('jobs', lambda message: None)
        before = threads()
        for number in range(1, 4):
            broker.stall()  # nothing is heard while a consumer waits
            greenlets.wait_until(lambda count=number: connection.stats()['outages'] == count)
            broker.resume()
            greenlets.wait_until(lambda count=number: connection.stats()['recoveries'] == count)
            assert threads() <= before + 1  # one may be about to end
        channel.publish(b'x', routing_key='jobs').wait()
        greenlets.wait_until(lambda: connection.stats()['acked'] == 1)
