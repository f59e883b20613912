"""The place where a tracer looks in: ``install`` puts a Tracing there, for one connection or for all.

Layer 3. ``gamqp.opentelemetry`` is made on this; another tracer can be. What must
not enter: any tracer, and what its spans are made of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ('Tracing', 'install', 'installed')

#: Whether anything was ever installed: all that a publish and a delivery look at in a program without a tracer.
#: (``Connection.tracing`` itself, found on the class, costs ten times as much.)
installed = False


def install(where: Any, tracing: Tracing | None) -> None:
    """Set ``tracing`` of a connection or, for all that have none of their own, of a class of them; None removes it.

    Does not switch greenlets.
    """
    global installed
    installed = True
    where.tracing = tracing


class Tracing:
    """Wraps each publish and each message that is handled; to be derived from. Does nothing itself.

    What the methods raise comes out of the publish, or is the handler's error.
    They run in the program's greenlets, never in the reader's.
    """

    def publish(
        self,
        connection: Any,
        exchange: str,
        routing_key: str,
        body: Any,
        properties: dict[str, Any],
        send: Callable[[dict[str, Any]], int],
    ) -> int:
        """Call ``send(properties)`` once and return what it returns, after it has handed over the message.

        properties: by py-amqp's names, perhaps the program's own dict: to change
        them, give *send* another one. body: bytes, or a str that is not encoded yet.
        *send* waits where the publish has to, and raises why nothing was sent.
        """
        return send(properties)

    def publish_mandatory(
        self,
        connection: Any,
        exchange: str,
        routing_key: str,
        body: Any,
        properties: dict[str, Any],
        send: Callable[[dict[str, Any]], int],
    ) -> int:
        """``publish`` for a message that may come back; then ``returned`` is called."""
        return self.publish(connection, exchange, routing_key, body, properties, send)

    def returned(self, connection: Any, message: Any) -> None:
        """A message has come back, because no queue took it. Called in a greenlet of its own."""

    def process(self, connection: Any, message: Any, handler: Callable[[Any], Any]) -> None:
        """Call ``handler(message)`` once: the callback inside drain_events, or the handler of ``subscribe``.

        What it raises must come out.
        """
        handler(message)
