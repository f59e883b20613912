"""A peer that sends more than the client has room for, while the client waits for a reply."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import greenlets
from script import ScriptedBroker, frames

import gamqp

#: Undelivered messages at which the client stops reading; a quarter more, and they go to the spool.
LIMIT = 40
SIZE = 20_000
#: The arguments of such a client.
LIMITED = {'tune': (10, 131072, 0), 'max_undelivered_messages': LIMIT}


def body_of(tag: int, size: int = SIZE) -> bytes:
    """Another one for each delivery."""
    return (b'%d ' % tag).ljust(size, b'.')


def deliveries(tags: Any, tag: str = 'tag', channel: int = 1, size: int = SIZE, **more: Any) -> bytes:
    return b''.join(
        frames(
            'basic.deliver',
            channel,
            **{'consumer_tag': tag, 'delivery_tag': number, 'body': body_of(number, size), **more},
        )
        for number in tags
    )


def flood(peer: ScriptedBroker, client: gamqp.Connection, said: bytes) -> None:
    """Say all this and then answer a question, of another channel, that was asked before."""
    asker = client.channels.get(9) or peer.open_channel(client, 9)
    asking = greenlets.spawn(asker.queue_declare, 'q')
    peer.expect('queue.declare', 9)
    peer.raw(said + frames('queue.declare-ok', 9, queue='q'))
    assert asking.get().queue == 'q'


def undelivered(client: gamqp.Connection) -> tuple[float, float]:
    """Messages and bytes in memory that nobody has taken yet."""
    numbers = client.stats()
    return numbers['undelivered_messages'], numbers['undelivered_bytes']


def drained(client: gamqp.Connection, got: list[Any], count: int) -> list[int]:
    """Have the callbacks called until that many messages have come. Returns their delivery tags."""
    while len(got) < count:
        client.drain_events(timeout=30)
    return [message.delivery_tag for message in got]


def nacked(peer: ScriptedBroker, count: int) -> list[int]:
    """The delivery tags of the next nacks."""
    tags = []
    for _ in range(count):
        said = peer.expect('basic.nack')
        assert said.requeue and not said.multiple
        tags.append(said.delivery_tag)
    return tags


def temporary_files() -> set[str]:
    """Files without a name that this process has in the directory for temporary files."""
    found = set()
    for number in os.listdir('/proc/self/fd'):
        try:
            path = os.readlink(f'/proc/self/fd/{number}')
        except OSError:
            continue
        if path.startswith(tempfile.gettempdir()) and path.endswith('(deleted)'):
            found.add(path)
    return found
