"""``gamqp perf``: what it counts is what the broker has, and its percentiles are right."""

from __future__ import annotations

import json
import math
import random
import re
import signal
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import broker_tools
import greenlets
import pytest
from commands import PATIENCE, finished, gamqp, started
from installed import is_installed

from gamqp.cli.perf_distribution import distribution, write_distributions
from gamqp.cli.perf_figures import Figures, Histogram, as_table
from gamqp.cli.perf_load import Bodies, Schedule, age_of


def queues_of(rabbit: Any) -> list[str]:
    """Queues that perf has made in the virtual host of this process."""
    return [
        one['name']
        for one in rabbit.node.api('queues')
        if one['vhost'] == rabbit.vhost and one['name'].startswith('perf.')
    ]


@pytest.mark.any_broker
def test_what_is_published_comes_and_the_queue_goes(rabbit: Any) -> None:
    done = gamqp('perf', '-C', '200', '-c', '50', '-x', '2', '-X', '2', '-y', '3', '--json', '--quiet', url=rabbit.url)
    assert done.code == 0 and done.err == '', done
    (result,) = done.lines
    assert [result[name] for name in ('published', 'confirmed', 'received')] == [800, 800, 800]
    assert sum(span.get('received', 0) for span in result['series']) == 800
    for kind in ('latency_ms', 'confirm_ms'):
        values = list(result[kind].values())
        assert values == sorted(values) and 0 < values[0] < 60_000
    assert not queues_of(rabbit)


@pytest.mark.any_broker
def test_its_counters_are_the_brokers(rabbit: Any) -> None:
    """Producers by themselves, several queues, and then consumers by themselves."""
    queues = ('--queue-pattern', 'counted-%d', '--queue-pattern-to', '2', '--quorum-queue')
    load = (
        '-x',
        '2',
        '-y',
        '0',
        '-C',
        '300',
        '-c',
        '100',
        '--json-body',
        '-s',
        '100',
        '-f',
        '--keep',
        '--json',
        '--quiet',
    )
    done = gamqp('perf', *queues, *load, url=rabbit.url)
    assert done.code == 0 and done.lines[0]['confirmed'] == 600, done
    with rabbit.connect() as connection:
        channel = connection.channel()
        for name in ('counted-1', 'counted-2'):
            broker_tools.wait_ready(channel, name, 300)
        message = channel.basic_get('counted-1')
        assert message is not None
        assert len(message.body) == 100 and json.loads(message.body)['t'] > 1.6e18 and message.delivery_mode == 2
        message.reject(requeue=True)
        done = gamqp(
            'perf', *queues, '-x', '0', '-y', '2', '-D', '300', '-A', '20', '--json', '--quiet', url=rabbit.url
        )
        assert done.code == 0 and done.lines[0]['received'] == 600, done
        for name in ('counted-1', 'counted-2'):
            broker_tools.wait_ready(channel, name, 0)
            channel.queue_delete(name)


@pytest.mark.any_broker
@pytest.mark.slow
def test_the_management_counts_the_same(rabbit: Any) -> None:
    """What it has published, received and acked; the management sees it some seconds later."""
    by_number = ('-u', broker_tools.fresh_name(), '-C', '2000', '-c', '50', '-A', '7', '-x', '2', '-y', '3')
    no_acks = ('-u', broker_tools.fresh_name(), '-C', '1000', '-a')
    by_time = ('-u', broker_tools.fresh_name(), '-z', '1', '-r', '700', '-c', '20', '-q', '10', '-f')
    told = {}
    for load in (by_number, no_acks, by_time):
        done = gamqp('perf', *load, '--keep', '--json', '--quiet', url=rabbit.url)
        assert done.code == 0, done
        (told[load],) = done.lines

    def counted(load: tuple[str, ...]) -> list[int]:
        queue = rabbit.node.api(f'queues/{quote(rabbit.vhost, "")}/{load[1]}')
        stats = queue.get('message_stats', {})
        return [stats.get(name, 0) for name in ('publish', 'deliver', 'deliver_no_ack', 'ack')]

    def agree() -> bool:
        published, delivered, _, acked = counted(by_time)
        timed = told[by_time]
        return (
            counted(by_number) == [4000, 4000, 0, 4000]
            and counted(no_acks) == [1000, 0, 1000, 0]
            # What was sent ahead when the time was over has gone back.
            and delivered >= acked
            and (published, published, acked) == (timed['published'], timed['confirmed'], timed['received'])
        )

    assert [told[by_number][name] for name in ('published', 'confirmed', 'received')] == [4000, 4000, 4000]
    assert [told[no_acks][name] for name in ('published', 'received')] == [1000, 1000]
    assert 0 < told[by_time]['published'] <= 700 * told[by_time]['seconds'] + 20
    greenlets.wait_until(agree, 60, 'the broker counts what perf counts')
    with rabbit.connect() as connection:
        for load in told:
            connection.channel().queue_delete(load[1])


@pytest.mark.any_broker
def test_a_signal_ends_it_with_the_figures(rabbit: Any) -> None:
    with started('perf', '-r', '500', '-a', url=rabbit.url) as process:
        assert process.stderr is not None
        assert re.search(rb'published \d+/s', process.stderr.readline())
        process.send_signal(signal.SIGINT)
        done = broker_tools.in_thread(finished, process)
    assert done.code == 130 and re.search(r'^received +\d+', done.out, re.M), done
    assert re.search(r'^latency( +\d+\.\d\d){7}$', done.out, re.M)
    greenlets.wait_until(lambda: not queues_of(rabbit), PATIENCE)


@pytest.mark.any_broker
@pytest.mark.slow
def test_churn_streams_pictures_and_what_makes_no_sense(rabbit: Any, tmp_path: Path) -> None:
    for kind in ('connections', 'channels', 'consumers', 'queues', 'bindings'):
        done = gamqp('perf', '--churn', kind, '-x', '2', '-C', '3', '--json', '--quiet', url=rabbit.url)
        assert done.code == 0 and done.lines[0]['cycles'] == 6 and done.lines[0]['cycle_ms'], done
    stream = ('--stream-queue', '-C', '100', '--stream-consumer-offset', 'first', '-c', '10', '--json', '--quiet')
    assert gamqp('perf', *stream, url=rabbit.url).lines[0]['received'] == 100
    changing = ('--variable-rate', '100:200ms', '--variable-rate', '0:100ms', '--variable-size', '1k:1', '-z', '1')
    done = gamqp('perf', *changing, '--json', '--quiet', url=rabbit.url)
    assert done.code == 0 and 0 < done.lines[0]['published'] <= 100
    picture = tmp_path / 'rates.png'
    done = gamqp('perf', '-C', '10', '-f', 'persistent', '--hdr', str(tmp_path / 'run'), url=rabbit.url)
    assert done.code == 0 and 'run.latency.hgrm' in done.err and (tmp_path / 'run.latency.hgrm').exists()
    done = gamqp('perf', '-C', '10', '--plot', str(picture), url=rabbit.url)
    if is_installed('matplotlib'):
        assert done.code == 0 and picture.read_bytes().startswith(b'\x89PNG')
    else:
        assert done.code == 64 and 'gamqp[plots]' in done.err
    for arguments in (('-A', '20', '--qos', '10'), ('--variable-rate', 'x'), ('--queue-pattern', 'no-number')):
        assert gamqp('perf', *arguments, url=rabbit.url).code == 64
    done = gamqp('perf', '-u', 'no.such.queue', '--predeclared', url=rabbit.url)
    assert done.code == 2


# -- figures -------------------------------------------------------------------------------


@pytest.mark.parametrize('largest', [10, 5_000, 10**9])
def test_percentiles_are_those_of_the_values(largest: int) -> None:
    draw = random.Random(1)
    values = [draw.randrange(largest) for _ in range(2000)]
    one, other = Histogram(), Histogram()
    for number, value in enumerate(values):
        (one if number % 3 else other).add(value)
    one.merge(other)
    values.sort()
    for percent in (1, 50, 75, 95, 99, 99.9, 100):
        exact = values[max(0, math.ceil(len(values) * percent / 100) - 1)]
        assert one.percentile(percent) == pytest.approx(exact, rel=0.002)
    assert (one.smallest, one.largest, one.count) == (values[0], values[-1], len(values))


def test_figures_add_up_and_are_shown() -> None:
    total, span = Figures(), Figures()
    assert total.for_programs(1.0) == {'seconds': 1.0} and as_table(total.for_programs(1.0)) == ''
    span.published, span.received = 2000, 10
    for value in (1000, 2000, 3000, -5):
        span.latency.add(value)
    total.add(span)
    total.add(span)
    found = total.for_programs(2.0)
    assert found['published'] == 4000 and found['published_per_second'] == 2000.0
    assert found['latency_ms']['min'] == 0.0 and found['latency_ms']['max'] == 3.0
    assert 'published            4,000         2,000.0 a second' in as_table(found)
    assert '  10.0 s  published 1,000/s  received 5/s  latency median 1.00' in span.live(10.0, 2.0)


def test_all_percentiles_in_the_format_of_hdrhistogram(tmp_path: Path) -> None:
    figures = Figures()
    for value in range(1000, 0, -1):
        figures.latency.add(value * 1000)
    (path,) = write_distributions(str(tmp_path / 'run'), figures)
    assert path.endswith('run.latency.hgrm')
    head, empty, *lines = Path(path).read_text().splitlines()
    assert head.split() == ['Value', 'Percentile', 'TotalCount', '1/(1-Percentile)'] and not empty
    rows = [tuple(map(float, line.split())) for line in lines if not line.startswith('#')]
    assert rows[0] == (1.0, 0.0, 1, 1.0) and rows[-1] == (1000.0, 1.0, 1000)
    for value, share, count, *_ in rows:
        assert count >= 1000 * share and value == pytest.approx(max(1000 * share, 1), rel=0.002, abs=1)
    assert lines[-2].split() == ['#[Mean', '=', *lines[-2].split()[2:]] and ' 500' in lines[-2]
    assert re.fullmatch(r'#\[Max     =     1000.000, Total count    =         1000\]', lines[-1])
    assert distribution(Histogram()).count('\n') == 4


@pytest.mark.parametrize('as_json', [False, True])
@pytest.mark.parametrize('size', [0, 12, 100])
def test_a_body_tells_its_age(size: int, as_json: bool) -> None:
    body = Bodies(Schedule(None, size), as_json).make()
    age = age_of(body)
    assert age is not None and 0 <= age < 60_000_000
    assert len(body) == max(size, 38 if as_json else 8)
    if as_json:
        assert abs(json.loads(body)['t'] / 1e9 - time.time()) < 60
    for other in (b'', b'short', b'{"t":no number at all here}', 'a text, since its message names an encoding'):
        assert age_of(other) is None
