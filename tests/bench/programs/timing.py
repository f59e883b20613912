"""What the programs share: their arguments, the message that all of them send, the clock, and the line that they print.

    PROGRAM URL JOB COUNT SIZE [JOB COUNT SIZE …]

For each job a line of JSON: what was done, seconds by the wall, seconds of the processor. Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ('CORRELATION_ID', 'ECHO', 'HEADERS', 'PROPERTIES', 'SINK', 'WINDOW', 'Broker', 'Job', 'main')

CORRELATION_ID = '4cc0b8c2-0000-4000-8000-000000000000'
HEADERS = {'lang': 'py', 'task': 'proj.tasks.add'}
#: As programs with tasks set them.
PROPERTIES: dict[str, Any] = {
    'content_type': 'application/json',
    'content_encoding': 'utf-8',
    'delivery_mode': 2,
    'correlation_id': CORRELATION_ID,
}
#: Where publishes go: no queue of this name need be there. And where requests go.
SINK, ECHO = 'sink', 'echo'
#: Publishes that may be without confirm at a time, in the job ``window``.
WINDOW = 1000


@dataclasses.dataclass
class Broker:
    """Where the broker is."""

    url: str
    host: str
    port: int
    user: str
    password: str
    vhost: str

    @classmethod
    def of(cls, url: str) -> Broker:
        """From amqp://user:password@host:port/vhost."""
        parts = urlsplit(url)
        return cls(
            url,
            parts.hostname or 'localhost',
            parts.port or 5672,
            unquote(parts.username or 'guest'),
            unquote(parts.password or 'guest'),
            unquote(parts.path[1:]) or '/',
        )


class Job:
    """One job: so many messages of so many bytes. The clock runs from ``start`` to ``stop``."""

    def __init__(self, name: str, count: int, size: int) -> None:
        self.name, self.count, self.size = name, count, size
        self.body = b'x' * size
        #: The queue of which the canned broker sends the messages of this job.
        self.queue = f'replay-{count}-{size}-2'
        self.acks = name == 'ack'
        self._wall = self._processor = 0.0
        self.figures: dict[str, Any] = {'job': name, 'count': count, 'size': size}

    def start(self) -> None:
        """Start the clock."""
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Stop the clock."""
        processor = time.process_time() - self._processor
        self.figures.update(seconds=time.perf_counter() - self._wall, processor=processor)


def main(client: str, version: str, jobs: Mapping[str, Callable[[Broker, Job], None]]) -> None:
    """Do the jobs of the command line, one after the other; one that this client cannot do is told so."""
    broker, words = Broker.of(sys.argv[1]), sys.argv[2:]
    for at in range(0, len(words), 3):
        job = Job(words[at], int(words[at + 1]), int(words[at + 2]))
        job.figures.update(client=client, version=version)
        if job.name in jobs:
            jobs[job.name](broker, job)
        else:
            job.figures['cannot'] = True
        print(json.dumps(job.figures), flush=True)
