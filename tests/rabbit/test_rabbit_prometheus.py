"""gamqp.prometheus: what a scrape tells of the connections of the process, asked from another thread or over HTTP."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import urllib.request

import broker_tools
import greenlets
import inside
import prometheus_client as client
import pytest
from proxy import Proxy

import gamqp.prometheus
from gamqp.telemetry import stats

#: Metric of a counter -> its name in stats.
COUNTERS = {f'gamqp_{metric}_total': name for name, (metric, _) in gamqp.prometheus.COUNTERS.items()}


class Scraper:
    """A registry with our collector in it, and what a scrape from another thread gives."""

    def __init__(self):
        self.registry = client.CollectorRegistry()
        self.collector = gamqp.prometheus.register(self.registry)
        self.vhost = None

    def scrape(self):
        """(metric, connection name) -> value, of this virtual host."""
        found = {}
        for family in broker_tools.in_thread(lambda: list(self.registry.collect())):
            for sample in family.samples:
                if sample.labels['vhost'] in (self.vhost, gamqp.prometheus.OTHERS):
                    found[sample.name, sample.labels['connection']] = sample.value
        return found

    def of(self, name):
        return {metric: value for (metric, owner), value in self.scrape().items() if owner == name}


@pytest.fixture
def scraper(rabbit):
    scraper = Scraper()
    scraper.vhost = rabbit.vhost
    return scraper


def test_a_scrape_tells_what_stats_tells(rabbit, scraper):
    with rabbit.connect(name='worker') as connection:
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        channel.publish(b'x' * 100, routing_key=queue).wait()
        channel.publish(b'x' * 100, routing_key=queue).wait()
        channel.basic_get(queue).ack()
        held = channel.basic_get(queue)
        stats = connection.stats()
        told = scraper.of('worker')
        for metric, name in COUNTERS.items():
            assert told[metric] == stats[name], metric
        for name in ('channels', 'consumers', 'undelivered_bytes', 'send_queue_bytes', 'undelivered_messages'):
            assert told[f'gamqp_{name}'] == stats[name]
        assert told['gamqp_connections'] == 1
        assert told['gamqp_unsettled_messages'] == 1
        assert told['gamqp_unconfirmed_messages'] == 0
        assert told['gamqp_oldest_unsettled_seconds'] >= stats['oldest_unsettled_seconds']
        assert told['gamqp_published_messages_total'] == 2
        assert told['gamqp_received_bytes_total'] > 200
        held.ack()


def test_connections_that_were_open_before_are_found(rabbit):
    with rabbit.connect(name='early') as connection:
        scraper = Scraper()
        scraper.vhost = rabbit.vhost
        assert scraper.of('early')['gamqp_connections'] == 1
        assert scraper.of('early')['gamqp_sent_bytes_total'] == connection.stats()['bytes_out']


def test_connections_of_the_same_name_are_told_together(rabbit, scraper):
    with rabbit.connect(name='twin') as one, rabbit.connect(name='twin') as two, rabbit.connect() as other:
        for number, connection in enumerate((one, two, other)):
            channel = connection.channel()
            queue = channel.queue_declare(exclusive=True).queue
            broker_tools.publish_all(channel, queue, [b'x'] * (number + 1))
            channel.basic_get(queue)
            greenlets.sleep(0.05)
        before = [connection.stats()['oldest_unsettled_seconds'] for connection in (one, two)]
        told = scraper.of('twin')
        after = [connection.stats()['oldest_unsettled_seconds'] for connection in (one, two)]
        assert told['gamqp_connections'] == 2
        assert told['gamqp_published_messages_total'] == 3
        assert told['gamqp_unsettled_messages'] == 2
        assert max(before) <= told['gamqp_oldest_unsettled_seconds'] <= max(after)
        assert scraper.of('')['gamqp_published_messages_total'] == 3


def test_what_has_ended_stays_counted_even_if_no_scrape_has_seen_it(rabbit, scraper):
    published = 0
    for number in range(5):
        with rabbit.connect(name='short') as connection:
            channel = connection.channel()
            queue = channel.queue_declare(exclusive=True).queue
            broker_tools.publish_all(channel, queue, [b'x'] * number)
            published += number
        del connection, channel
        gc.collect()
        if number % 2:
            told = scraper.of('short')
            assert told['gamqp_published_messages_total'] == published
    told = scraper.of('short')
    assert told['gamqp_published_messages_total'] == published
    assert told['gamqp_connections_opened_total'] == 5
    assert told['gamqp_connections'] == told['gamqp_channels'] == 0
    assert inside.remembered_by(scraper.collector)['known'] == 0, 'what is collected is kept as a sum only'


def test_a_connection_that_is_opened_on_another_host_counts_for_that_from_then_on(rabbit, scraper):
    def told(front):
        families = broker_tools.in_thread(lambda: list(scraper.registry.collect()))
        samples = [sample for family in families for sample in family.samples]
        host = f'127.0.0.1:{front.port}'
        found = {one.name: one.value for one in samples if one.labels['host'] == host}
        names = ('connections', 'connections_opened_total', 'published_messages_total')
        return tuple(found.get(f'gamqp_{name}', 0) for name in names)

    with Proxy(rabbit.node.port) as one, Proxy(rabbit.node.port) as two:
        connection = gamqp.connect([one.url(rabbit), two.url(rabbit)], shuffle=False, name='mover')
        connection.channel().publish(b'x', routing_key='nowhere').wait()
        assert (told(one), told(two)) == ((1, 1, 1), (0, 0, 0))
        for _ in range(2):
            connection.close()
            one.close()
            connection.connect()
            channel = connection.channel()
            channel.publish(b'x', routing_key='nowhere').wait()
        assert (told(one), told(two)) == ((0, 1, 1), (1, 2, 2))
        connection.close()
        del connection, channel
        gc.collect()
        assert (told(one), told(two)) == ((0, 1, 1), (0, 2, 2))


def test_no_counter_goes_back_over_losses_and_reconnects(rabbit, scraper):
    highest = {}

    def look():
        told = scraper.of('lossy')
        for metric in COUNTERS:
            if metric in told:
                assert told[metric] >= highest.get(metric, 0), metric
                highest[metric] = told[metric]

    with Proxy(rabbit.node.port) as proxy:
        connection = gamqp.connect(proxy.url(rabbit), name='lossy')
        for number in range(4):
            channel = connection.channel()
            queue = channel.queue_declare(exclusive=True).queue
            channel.publish(b'x', routing_key=queue).wait()
            look()
            proxy.cut()
            greenlets.wait_until(lambda: not connection.connected)  # noqa: B023
            look()
            if number % 2:
                connection = gamqp.connect(proxy.url(rabbit), name='lossy')
            else:
                connection.connect()
            look()
        connection.close()
        look()
    assert highest['gamqp_confirmed_messages_total'] == 4
    assert highest['gamqp_connections_opened_total'] == 5


def test_scrapes_while_everything_changes(rabbit, scraper):
    errors, scraped, stop = [], [0], threading.Event()

    def scrape():
        try:
            while not stop.is_set():
                list(scraper.registry.collect())
                scraped[0] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=scrape) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            with rabbit.connect(name='busy') as connection:
                channels = [connection.channel() for _ in range(5)]
                queue = channels[0].queue_declare(exclusive=True).queue
                consumer = channels[0].subscribe(queue, lambda message: None)
                for channel in channels:
                    channel.publish(b'x', routing_key=queue).wait()
                greenlets.wait_until(lambda: consumer.acked == 5)  # noqa: B023
    finally:
        stop.set()
        for thread in threads:
            broker_tools.in_thread(thread.join)
    assert not errors
    assert scraped[0] > 5
    assert scraper.of('busy')['gamqp_confirmed_messages_total'] == 50


def test_a_scrape_answers_while_the_hub_is_held_up_by_the_one_who_waits_for_it(rabbit, scraper):
    with rabbit.connect(name='held'):
        greenlets.sleep(0.05)
        answer = []
        time.sleep(1.5)  # the real one, longer than the hub's interval of looking at the clock
        thread = threading.Thread(target=lambda: answer.append(list(scraper.registry.collect())))
        thread.start()
        thread.join(20)
        assert answer
        lag = max(
            sample.value
            for family in answer[0]
            for sample in family.samples
            if sample.name == 'gamqp_hub_lag_seconds' and sample.labels['connection'] == 'held'
        )
        assert lag > 0.3


def test_over_http(rabbit, scraper):
    server, thread = client.start_http_server(0, '127.0.0.1', scraper.registry)
    try:
        with rabbit.connect(name='web'):
            url = f'http://127.0.0.1:{server.server_port}/metrics'
            text = broker_tools.in_thread(lambda: urllib.request.urlopen(url, timeout=20).read().decode())
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert '# TYPE gamqp_published_messages_total counter' in text
    assert '# TYPE gamqp_hub_lag_seconds gauge' in text
    assert f'connection="web",host="127.0.0.1:{rabbit.node.port}",vhost="{rabbit.vhost}"' in text


def test_many_names_do_not_become_many_series(rabbit, scraper, monkeypatch):
    monkeypatch.setattr(gamqp.prometheus, 'MOST_LABELS', 3)
    for number in range(6):
        with rabbit.connect(name=f'made up {number}'):
            pass
    names = {name for _, name in scraper.scrape()}
    assert names == {'made up 0', 'made up 1', 'made up 2', gamqp.prometheus.OTHERS}
    assert scraper.of(gamqp.prometheus.OTHERS)['gamqp_connections_opened_total'] == 3


def test_nothing_piles_up_when_nobody_scrapes(rabbit, scraper, monkeypatch):
    monkeypatch.setattr(gamqp.prometheus, 'MOST_FRESH', 3)
    for _ in range(9):
        with rabbit.connect(name='unseen') as connection:
            pass
        del connection
        gc.collect()
        remembered = inside.remembered_by(scraper.collector)
        assert remembered['fresh'] <= 4
        assert remembered['known'] <= 4
    assert scraper.of('unseen')['gamqp_connections_opened_total'] == 9


def test_a_registry_takes_one_and_one_that_is_dropped_learns_no_more(scraper):
    with pytest.raises(ValueError, match='Duplicated'):
        gamqp.prometheus.register(scraper.registry)
    gc.collect()
    living = [one for one in stats.observers if one() is not None]
    scraper.registry.unregister(scraper.collector)
    scraper.collector = None
    gc.collect()
    assert len([one for one in stats.observers if one() is not None]) == len(living) - 1


def test_the_names_are_as_prometheus_wants_them():
    for family in gamqp.prometheus.Collector().describe():
        assert family.name.startswith('gamqp_')
        assert family.documentation.endswith('.')
        assert not family.name.endswith('_total')
        text = f'{family.name} '
        assert not any(wrong in text for wrong in ('_ms ', '_msec ', '_kb ', '_time '))


def test_a_name_whose_connections_have_ended_makes_room_for_another(rabbit, scraper, monkeypatch):
    monkeypatch.setattr(gamqp.prometheus, 'MOST_LABELS', 3)

    def names():
        return {name for metric, name in scraper.scrape() if metric == 'gamqp_connections'}

    with rabbit.connect(name='stays'):
        for number in range(6):
            with rabbit.connect(name=f'comes {number}'):
                assert scraper.of(f'comes {number}')['gamqp_connections'] == 1
            gc.collect()
            told = scraper.of('stays')
            assert told['gamqp_connections_opened_total'] == 1
        assert names() == {'stays', 'comes 4', 'comes 5'}
        with rabbit.connect(name='comes 0'):
            gc.collect()
            assert scraper.of('comes 0')['gamqp_connections_opened_total'] == 1
            assert names() == {'stays', 'comes 5', 'comes 0'}
    remembered = inside.remembered_by(scraper.collector)
    assert remembered['exported'] == remembered['labels'] == 3


@pytest.mark.parametrize('where', ['the hub', 'another thread'])
def test_a_scrape_lets_others_run(rabbit, scraper, where):
    """In a patched process the thread that scrapes is a greenlet."""
    connections = [gamqp.Connection(name=f'{number % 50}') for number in range(1000)]
    for connection in connections:
        inside.make_ready(connection, greenlets.backend)
        inside.connection_opened(scraper.collector, connection)
    turns, scraped = [0], []

    def take_turns():
        while not scraped:
            turns[0] += 1
            greenlets.sleep(0)

    def scrape():
        families = list(scraper.registry.collect())
        scraped.extend(families)

    others = greenlets.spawn(take_turns)
    greenlets.sleep(0)
    begun = turns[0]
    if where == 'the hub':
        scrape()
    else:
        thread = threading.Thread(target=scrape)
        thread.start()
        others.get(60)
        thread.join()
    pieces = 1000 // gamqp.prometheus.PIECE + len(scraped)
    assert turns[0] - begun >= (pieces if where == 'the hub' else pieces // 4)
    others.get()
    assert sum(sample.value for family in scraped for sample in family.samples) >= 0


def test_two_scrapes_at_the_same_time_do_not_disturb_each_other(rabbit, scraper):
    with rabbit.connect(name='both') as connection:
        channel = connection.channel()
        results = []

        def scrape():
            for _ in range(20):
                channel.publish(b'x', routing_key='nowhere').wait()
                for family in scraper.registry.collect():
                    for sample in family.samples:
                        if sample.name == 'gamqp_published_messages_total' and sample.labels['connection'] == 'both':
                            results.append(sample.value)

        for task in [greenlets.spawn(scrape) for _ in range(3)]:
            task.get()
    assert len(results) == 60
    assert results == sorted(results)
    assert results[-1] == 60


@pytest.mark.parametrize('variable', ['PROMETHEUS_MULTIPROC_DIR', 'prometheus_multiproc_dir'])
def test_where_several_processes_are_gathered_from_files_it_says_that_it_does_not_take_part(
    monkeypatch, tmp_path, variable
):
    monkeypatch.setenv(variable, str(tmp_path))
    with pytest.warns(RuntimeWarning, match='let each process serve its own registry'):
        gamqp.prometheus.register(client.CollectorRegistry())


@pytest.mark.parametrize(
    ('module', 'needs', 'extra'),
    [
        ('gamqp.prometheus', 'prometheus_client', 'prometheus'),
        ('gamqp.opentelemetry', 'opentelemetry', 'opentelemetry'),
    ],
)
def test_without_the_package_it_says_what_to_install(module, needs, extra):
    """And gamqp itself does not need it."""
    program = f'import sys; sys.modules[{needs!r}] = None; import gamqp; print(gamqp.__name__); import {module}'
    command = {
        'args': [sys.executable, '-c', program],
        'env': {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))},
    }
    done = broker_tools.in_thread(lambda: subprocess.run(**command, capture_output=True, text=True))
    assert done.stdout == 'gamqp\n'
    assert f"pip install 'gamqp[{extra}]'" in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith('ImportError')
