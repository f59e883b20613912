"""A program on a recovering connection, with something of everything: what it declares and what its consumers get."""

from __future__ import annotations

import os
from typing import Any

import greenlets

import gamqp
from gamqp import Recovery, exceptions, testing

__all__ = ('QUICK', 'Program')

#: Settings of ``Recovery`` with which an outage is short.
QUICK: dict[str, Any] = {'first_delay': 0, 'delay': 0.1, 'max_delay': 0.1}


class Program:
    """A connection with something of everything, and what its consumers have got."""

    def __init__(self, broker: testing.Broker, rpc_timeout: float = 5, **settings: Any) -> None:
        self.broker = broker
        self.events: list[tuple[str, Any]] = []
        self.connection = gamqp.connect(
            broker.url,
            recover=Recovery(**{**QUICK, **settings}),
            rpc_timeout=rpc_timeout,
            on_lost=lambda error: self.events.append(('lost', error)),
            on_recovering=lambda attempt, *_: self.events.append(('recovering', attempt)),
            on_recovered=lambda report: self.events.append(('recovered', report)),
            on_given_up=lambda error: self.events.append(('given up', error)),
        )
        self.handled: list[bytes] = []
        self.iterated: list[bytes] = []
        self.called: list[bytes] = []
        self.tasks: list[greenlets.Task] = []

    def furnish(self) -> Program:
        channel = self.channel = self.connection.channel()
        channel.confirm_select()
        channel.exchange_declare('from', 'fanout', auto_delete=False)
        channel.exchange_declare('ex', 'topic', auto_delete=False)
        channel.exchange_bind('ex', 'from')
        for name in ('handled', 'iterated', 'called'):
            channel.queue_declare(name, durable=True, auto_delete=False)
            channel.queue_bind(name, 'ex', '#')
        self.consumer = channel.subscribe('handled', lambda message: self.handled.append(message.body), prefetch=7)
        self.deliveries = channel.consume('iterated', prefetch=5)
        channel.basic_qos(0, 3, False)
        channel.basic_consume('called', callback=lambda message: (self.called.append(message.body), message.ack()))
        self.tasks = [greenlets.spawn(self._iterate), greenlets.spawn(self._drain)]
        return self

    def _iterate(self) -> None:
        for message in self.deliveries:
            self.iterated.append(message.body)
            message.ack()

    def _drain(self) -> None:
        while True:
            self.connection.drain_events()

    def works(self, body: bytes) -> None:
        """A message that is published now comes to every consumer."""
        self.channel.publish(body, 'from', 'key', mandatory=True).wait(greenlets.PATIENCE)
        for got in (self.handled, self.iterated, self.called):
            greenlets.wait_until(lambda got=got: body in got, what=f'{body!r} in {got}')  # type: ignore[misc]

    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def wait_recovered(self, count: int = 1) -> Any:
        greenlets.wait_until(lambda: self.names().count('recovered') >= count, what=str(self.events))
        return [what for name, what in self.events if name == 'recovered'][count - 1]

    def fork(self) -> None:
        """The connection belongs to the parent: a child that uses it is told so, and ends."""
        pid = os.fork()
        if not pid:
            code = 1
            try:
                self.channel.queue_declare('child')
            except exceptions.RecoverableConnectionError as exc:
                code = 0 if 'forked' in str(exc) and self.connection.state == 'closed' else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def end(self) -> None:
        self.connection.close()
        for task in self.tasks:
            task.kill()
