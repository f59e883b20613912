"""Consumers of a scripted peer: how they are started, and the messages they get."""

from __future__ import annotations

from typing import Any

import greenlets
import inside
from greenlet import getcurrent
from script import ScriptedBroker, frames

import gamqp
from gamqp import green

__all__ = ('Work', 'begin', 'ended', 'fail', 'messages', 'start', 'started', 'subscribed')


def begin(peer: ScriptedBroker, how: Any, deliver: int = 0) -> Any:
    """What *how()*, a call that starts a consumer, returns: consume-ok has come, and that many messages behind it."""
    starting = greenlets.spawn(how)
    while (said := peer.next()).name != 'basic.consume':
        peer.send(f'{said.name}-ok', said.channel)
    ok = frames('basic.consume-ok', said.channel, consumer_tag=said.consumer_tag)
    peer.raw(ok + messages(said.consumer_tag, range(1, deliver + 1)))
    return starting.get()


def started(peer: ScriptedBroker, how: Any, deliver: int = 0) -> Any:
    """The same for a call of consume or subscribe; the messages have arrived."""
    consumer = begin(peer, how, deliver)
    greenlets.wait_until(lambda: consumer.delivered == deliver)
    return consumer


def start(peer: ScriptedBroker, channel: gamqp.Channel, deliver: int = 0, **arguments: Any) -> gamqp.Deliveries:
    """An iterator with that many messages."""
    deliveries: gamqp.Deliveries = started(peer, lambda: channel.consume('q', **arguments), deliver)
    return deliveries


def messages(consumer_tag: str, tags: Any) -> bytes:
    """Deliveries of the bodies b'1', b'2' …: the numbers are their delivery tags."""
    return b''.join(
        frames('basic.deliver', consumer_tag=consumer_tag, delivery_tag=tag, body=b'%d' % tag) for tag in tags
    )


def subscribed(
    peer: ScriptedBroker, channel: gamqp.Channel, handler: Any, deliver: int = 0, **arguments: Any
) -> gamqp.Consumer:
    consumer: gamqp.Consumer = started(peer, lambda: channel.subscribe('q', handler, **arguments), deliver)
    return consumer


def ended(peer: ScriptedBroker, consumer: gamqp.Consumer) -> None:
    peer.send('basic.cancel-ok', consumer_tag=consumer.tag)
    greenlets.wait_until(lambda: inside.has_ended(consumer))


def fail(message: Any) -> None:
    raise LookupError(f'not {message.body!r}')


class Work:
    """A handler that can be looked at and told what to do: by body."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.workers: list[Any] = []
        self.running = self.most = 0
        self.held: dict[str, Any] = {}
        self.does: dict[str, Any] = {}  # body -> what its handler calls

    def hold(self, *bodies: int) -> None:
        """The handlers of these wait until ``go``."""
        for body in bodies:
            self.held[str(body)] = green.Event(greenlets.backend)

    def go(self, body: int) -> None:
        self.held[str(body)].set()

    def __call__(self, message: Any) -> None:
        body = bytes(message.body).decode()
        self.begun.append(body)
        self.workers.append(getcurrent())
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if body in self.held:
                self.held[body].wait()
            if body in self.does:
                self.does[body](message)
        finally:
            self.running -= 1
