"""Runs the programs: the canned broker, a client for some jobs, and rounds in which the clients take turns.

Does not belong here: which clients there are, and what is made of the figures.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench_peers import PROGRAMS, Peer

__all__ = ('JOBS', 'CannotRun', 'Job', 'canned_broker', 'compare', 'echo_server', 'program', 'say')

HERE = Path(__file__).parent
#: Of a run of one program: it does jobs of seconds.
LIMIT = 120
#: Messages of one run, at most; and how many tell how many there should be.
MOST = 3_000_000


class CannotRun(Exception):
    """A program failed."""


@dataclasses.dataclass
class Job:
    """What is done. first: messages of a first, short run. on_rabbitmq: whether it makes sense with a real broker."""

    name: str
    title: str
    size: int = 100
    first: int = 2000
    on_rabbitmq: bool = False


JOBS = {
    job.name: job
    for job in (
        Job('consume', 'consume without acks, 100 B'),
        Job('drain_events', 'consume with drain_events, 100 B'),
        Job('ack', 'consume, ack each, 100 B'),
        Job('publish', 'publish without confirms, 100 B'),
        Job('confirm', 'publish, wait for each confirm, 100 B', first=200, on_rabbitmq=True),
        Job('window', 'publish, 1,000 confirms outstanding, 100 B', on_rabbitmq=True),
        Job('large', 'consume without acks, 100 kB', size=100_000, first=100),
        Job('rpc', 'request and reply, 100 B', first=200, on_rabbitmq=True),
    )
}


def say(text: str) -> None:
    """Tell on stderr how it goes."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def canned_broker(*tls: str) -> Iterator[str]:
    """The URL of a canned broker of one's own. tls: (certfile, keyfile) of its certificate."""
    command = [sys.executable, str(HERE / 'canned_broker.py'), *(('--tls', *tls) if tls else ())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise CannotRun('the canned broker does not start')
        try:
            yield f'amqp://guest:guest@127.0.0.1:{port}/%2F'
        finally:
            process.stdin.close()  # it ends then
            process.wait()


@contextlib.contextmanager
def echo_server(python: str, url: str) -> Iterator[None]:
    """What answers the requests of ``rpc`` on a real broker, while it lasts."""
    command = [python, str(PROGRAMS / 'echo_server.py'), url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        if not process.stdout.readline():
            raise CannotRun('the server of requests does not start')
        try:
            yield
        finally:
            process.stdin.close()
            process.wait()


def program(command: Sequence[str], environment: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """Run a program, and return the lines of JSON that it printed. Raises CannotRun."""
    try:
        done = subprocess.run(
            command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        raise CannotRun(f'not done after {LIMIT} seconds') from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f'exit status {done.returncode}'])[-1]
        raise CannotRun(last)
    return [json.loads(line) for line in done.stdout.splitlines()]


def _run(peer: Peer, url: str, jobs: Sequence[tuple[Job, int]]) -> list[dict[str, Any]]:
    words = [word for job, count in jobs for word in (job.name, str(count), str(job.size))]
    return [{'peer': peer.name, **figures} for figures in program([*peer.command, url, *words], peer.environment)]


class Rounds:
    """The runs of all clients with one broker."""

    def __init__(self, peers: Sequence[Peer], jobs: Sequence[Job], url: str, broker: str) -> None:
        self._url, self._broker = url, broker
        self._pairs = [(peer, job) for job in jobs for peer in peers]
        self._counts: dict[tuple[str, str], int] = {}
        self.failures: dict[str, str] = {}
        self.found: list[dict[str, Any]] = []

    def small(self, count: int) -> None:
        """Each job with *count* messages; one process for all jobs of a client."""
        for peer in {peer.name: peer for peer, _ in self._pairs}.values():
            jobs = [(job, count) for one, job in self._pairs if one is peer]
            self._note(peer, self._try(peer, jobs))

    def calibrate(self, seconds: float) -> None:
        """Find out how many messages take about so many seconds."""
        for peer, job in self._told('numbers of messages are chosen'):
            for figures in self._try(peer, [(job, job.first)]):
                if not figures.get('cannot'):
                    rate = figures['count'] / figures['seconds']
                    self._counts[peer.name, job.name] = max(job.first, min(MOST, round(rate * seconds)))

    def one(self, name: str) -> None:
        """One round: each client does each job once."""
        for peer, job in self._told(name):
            count = self._counts.get((peer.name, job.name))
            if count is not None:
                self._note(peer, self._try(peer, [(job, count)]))

    def _told(self, what: str) -> Iterator[tuple[Peer, Job]]:
        """All pairs; says when another job begins."""
        last = None
        for peer, job in self._pairs:
            if job is not last:
                last = job
                say(f'{what}: {job.name} ({self._broker})')
            yield peer, job

    def _try(self, peer: Peer, jobs: Sequence[tuple[Job, int]]) -> list[dict[str, Any]]:
        try:
            return _run(peer, self._url, jobs)
        except CannotRun as error:
            name = f'{peer.name} {" ".join(job.name for job, _ in jobs)} ({self._broker})'
            if name not in self.failures:
                say(f'FAILED: {name}: {error}')
            self.failures[name] = str(error)
            return []

    def _note(self, peer: Peer, lines: list[dict[str, Any]]) -> None:
        for figures in lines:
            if not figures.pop('cannot', False):
                self.found.append({'broker': self._broker, **figures})


def compare(
    peers: Sequence[Peer], jobs: Sequence[Job], brokers: dict[str, str], rounds: int, seconds: float, small: int
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """All jobs with all clients, in alternating rounds. Returns the figures of each run, and what failed.

    brokers: name -> URL; 'canned' does all jobs, others those that a real broker makes different. seconds: that a job
    should take, about. small: instead, one round of so many messages; 0 for none.
    """
    all_rounds = []
    for broker, url in brokers.items():
        its = [job for job in jobs if broker == 'canned' or job.on_rabbitmq]
        if its:
            all_rounds.append(Rounds(peers, its, url, broker))
    for number in range(0 if small else rounds + 1):
        for each in all_rounds:
            if number:
                each.one(f'round {number} of {rounds}')
            else:
                each.calibrate(seconds)
    for each in all_rounds if small else ():
        each.small(small)
    failures = {name: why for each in all_rounds for name, why in each.failures.items()}
    return [figures for each in all_rounds for figures in each.found], failures
