"""What a scripted peer lets a recovering connection restore, and how it looks at a late start."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import greenlets
from script import ScriptedBroker

import gamqp
from gamqp import Recovery

__all__ = ('AT_ONCE', 'call', 'come_back', 'grant', 'refuse', 'rehearse', 'words')

#: Settings with which the first attempt comes at once, and the next ones, and late starts, soon.
AT_ONCE = Recovery(first_delay=0, delay=0.1, max_delay=0.1)


def call(peer: ScriptedBroker, method: Callable[..., Any], *args: Any, **how: Any) -> Any:
    """Make a call that the peer grants. Returns what came to the peer."""
    calling = greenlets.spawn(functools.partial(method, *args, **how))
    said = peer.next()
    grant(peer, said)
    calling.get()
    return said


def grant(peer: ScriptedBroker, said: Any, name: str = 'amq.gen-1') -> None:
    replies = {
        'queue.declare': {'queue': getattr(said, 'queue', '') or name},
        'basic.consume': {'consumer_tag': getattr(said, 'consumer_tag', '')},
    }
    peer.send(f'{said.name}-ok', said.channel, **replies.get(said.name, {}))


def refuse(peer: ScriptedBroker, said: Any) -> None:
    """A basic.consume, since there is no such queue."""
    peer.send('channel.close', said.channel, reply_code=404, reply_text='NOT_FOUND', class_id=60, method_id=20)


def come_back(
    peer: ScriptedBroker, client: gamqp.Connection, name: str = 'amq.gen-2', missing: tuple[str, ...] = ()
) -> list[Any]:
    """The next attempt is let in, and granted all that it asks for. Returns that, without opens and closes.

    missing: queues of which consumers are refused.
    """
    peer.handshake()
    asked = []
    closed: set[int] = set()  # channels, by the peer: it hears nothing of them until their close-ok
    opened = greenlets.spawn(client.wait_open, greenlets.PATIENCE)
    while not opened.done:
        for event in peer.take_what_came():
            if event.name == 'channel.close-ok':
                closed.remove(event.channel)
            if event.channel in closed or event.name[-3:] == '-ok':
                continue
            if event.name == 'basic.consume' and event.queue in missing:
                refuse(peer, event)
                closed.add(event.channel)
            elif event.name.startswith(('channel.', 'queue.', 'exchange.', 'basic.')):
                grant(peer, event, name)
            asked += [event] * (not event.name.startswith('channel.'))
        greenlets.sleep(0)
    opened.get()
    return asked


def rehearse(peer: ScriptedBroker) -> None:
    """What is tried on the connection's own channel, after a pause, succeeds there."""
    for name in ('channel.open', 'basic.qos', 'basic.consume', 'channel.close'):
        grant(peer, peer.expect(name, 2047))


def words(asked: list[Any]) -> list[str]:
    return [f'{said.name} {getattr(said, "queue", "") or getattr(said, "exchange", "")}'.strip() for said in asked]
