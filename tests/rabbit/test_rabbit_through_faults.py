"""A program that publishes and consumes on recovering connections, through faults of every kind: nothing is lost.

What is missing all the same is judged by the record of what went over the wire: what the broker confirmed, and the
client never settled, the broker has lost.

By default some thousand messages and a few cuts, with the broker of the run. ``GAMQP_TEST_LONG=1``: 1,000,000
confirmed messages, 100 faults, 50 publishers and 1,000 consumers on a cluster of three; 0.1: a tenth of the messages
and faults.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import greenlets
import pytest
from cluster import Cluster
from node import Node
from node_admin import NodeError
from proxy import Proxy
from wire_record import WireRecord

LONG = float(os.environ.get('GAMQP_TEST_LONG') or 0)
SEED = int(os.environ.get('GAMQP_TEST_SEED') or time.time_ns() % 10**6)
MESSAGES, FAULTS = (int(LONG * 1_000_000), int(LONG * 100)) if LONG else (2_000, 4)
PUBLISHERS, CONSUMERS = (50, 1_000) if LONG else (12, 50)
PROGRAM = Path(__file__).parent / 'programs' / 'through_faults.py'

# Seconds for which a peer says nothing: longer than the heartbeats of the program are waited for.
SILENCE = 10.0

pytestmark = [
    pytest.mark.any_broker,
    pytest.mark.slow,
    pytest.mark.real_seconds,
    pytest.mark.limit(180 + LONG * 5400),
    pytest.mark.skipif(greenlets.GREEN == 'eventlet', reason='once is enough'),
]


class Program:
    """The program under way."""

    def __init__(self, urls: list[str]) -> None:
        numbers = [str(number) for number in (MESSAGES, PUBLISHERS, CONSUMERS)]
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), greenlets.GREEN, *numbers, *urls],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.confirmed = 0
        self.ready = threading.Event()
        self.report: dict[str, Any] | None = None
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith('{'):
                self.report = json.loads(line)
            elif line.strip().isdigit():
                self.confirmed = int(line)
            self.ready.set()
        self.ready.set()

    def kill(self) -> None:
        """In any case: it may have ended."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdin.close()
        self.process.stdout.close()

    def end(self) -> dict[str, Any]:
        """The faults are over: what it has to say."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.reader.join()
        assert self.report is not None, self.process.returncode
        return self.report


class Faults:
    """What is done to the nodes and to the way there; each returns when it is over."""

    def __init__(self, nodes: list[Node], proxies: list[Proxy], cluster: Cluster | None, draw: random.Random) -> None:
        self.nodes, self.proxies, self.cluster, self.draw = nodes, proxies, cluster, draw
        self.done: Counter[str] = Counter()

    def plan(self, count: int) -> list[Callable[[], None]]:
        """So many, in any order; a third or more of them are those that take seconds, on nodes of our own."""
        slow = [self.alarm, self.silence, self.suspend, self.kill, self.restart, self.drain]
        plan = [] if self.cluster is None else slow * max(1, count // (3 * len(slow)))
        plan += self.draw.choices([self.cut_what_goes, self.cut_what_comes, self.cut], k=count - len(plan))
        self.draw.shuffle(plan)
        return plan

    def run(self, fault: Callable[[], None]) -> None:
        fault()
        self.done[fault.__name__] += 1

    def _way(self) -> Any:
        return self.draw.choice(self.proxies)

    def cut_what_goes(self) -> None:
        self._way().up.cut_after(self.draw.randrange(20_000), reset=self.draw.random() < 0.5)

    def cut_what_comes(self) -> None:
        self._way().down.cut_after(self.draw.randrange(20_000), reset=self.draw.random() < 0.5)

    def cut(self) -> None:
        self._way().cut(reset=self.draw.random() < 0.5)

    def silence(self) -> None:
        proxy = self._way()
        proxy.up.pause()
        proxy.down.pause()
        time.sleep(SILENCE)
        proxy.up.resume()
        proxy.down.resume()

    def suspend(self) -> None:
        with self.draw.choice(self.nodes).suspended():
            time.sleep(SILENCE)
        self._heal()

    def kill(self) -> None:
        node = self.draw.choice(self.nodes)
        node.kill()
        node.start(120)
        self._heal()

    def restart(self) -> None:
        node = self.draw.choice(self.nodes)
        node.stop()
        node.start(120)
        self._heal()

    def alarm(self) -> None:
        node = self.draw.choice(self.nodes)
        node.set_memory_watermark(0)
        time.sleep(1)
        node.set_memory_watermark(0.4)

    def drain(self) -> None:
        assert self.cluster is not None
        node = self.draw.choice(self.nodes)
        with contextlib.suppress(NodeError):  # some of its channels may not end in time
            self.cluster.drain(node)
        time.sleep(2)
        self.cluster.revive(node)

    def _heal(self) -> None:
        if self.cluster is not None:
            self.cluster.heal()


@contextlib.contextmanager
def nodes_for(rabbit: Any) -> Iterator[tuple[list[Node], list[str], Cluster | None]]:
    """Nodes and their URLs: that of the run, or a cluster."""
    if LONG:
        with Cluster(rabbit.label) as cluster:
            yield cluster.nodes, cluster.urls(), cluster
    else:
        yield [rabbit.node], [rabbit.url], None


def test_nothing_that_was_confirmed_is_lost(rabbit: Any, tmp_path: Path) -> None:
    """Nothing came twice but what had no confirm at a loss, nothing came of what was not sent, no receipt is open."""
    if rabbit.label == 'external':
        pytest.skip('the broker is not ours')
    draw = random.Random(SEED)
    print('seed', SEED)
    record = WireRecord(tmp_path)
    with nodes_for(rabbit) as (nodes, urls, cluster), contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(Proxy(node.port, record=record)) for node in nodes]
        ways = zip(urls, nodes, proxies, strict=True)
        program = Program([url.replace(f':{node.port}/', f':{proxy.port}/') for url, node, proxy in ways])
        stack.callback(program.kill)
        assert program.ready.wait(120)
        faults = Faults(nodes, proxies, cluster, draw)
        plan = faults.plan(FAULTS)
        for number, fault in enumerate(plan):
            share = MESSAGES * number // len(plan)
            began = time.monotonic()
            # Spread over the messages, as far as these come fast enough.
            while program.confirmed < share and time.monotonic() - began < (5 if LONG else 1):
                time.sleep(0.05)
            time.sleep(draw.uniform(0.2, 1 if LONG else 0.3))
            faults.run(fault)
        report = program.end()
    missing = report.pop('missing')
    print(dict(faults.done), json.dumps(report), 'missing', missing[:20])
    assert report['confirmed'] >= MESSAGES and not report['errors']
    assert report['came, but were unsent'] == report['twice without a doubt'] == []
    assert report['open'] == report['balance'] == 0 and report['drained']
    assert report['states'] == ['open'] and report['consumers'] == CONSUMERS
    assert report['outages'] == report['recoveries'] > 0
    record.read()
    assert len(record.confirmed) >= report['confirmed'] <= len(record.deliveries) + len(missing)
    count, back = report.get('came back', (0, []))
    assert record.faults_of_client((b'%d' % one for one in missing), {b'%d' % one for one in back}) == {}
    if not missing or not (LONG and rabbit.label == '3.10'):
        assert missing == [] and report['left'] == 0
    else:
        # Quorum queues of this version forget messages, or keep them from their consumers, when a node is killed.
        assert report['left'] == count
