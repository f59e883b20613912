"""The interface for tracers: ``install`` sets a Tracing, for one connection or for all.

Layer 3. ``gamqp.opentelemetry`` uses it, and other tracers can. Does not belong here: a tracer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..basic_message import Body, Message
    from .measured_protocols import TraceableConnection, TracedConnection

__all__ = ('Send', 'Tracing', 'install', 'installed')

#: The type of *send*, see ``Tracing.publish``: ``send(properties)`` or ``send(properties, settled)``.
Send = Callable[..., int]

#: Whether ``install`` was ever called. Without a tracer a publish and a delivery check only this name: to look up
#: ``Connection._tracing``, an attribute of the class, takes ten times as long.
installed = False


def install(where: TraceableConnection | type[TraceableConnection], tracing: Tracing | None) -> None:
    """Set ``tracing`` of a connection, or of a class for all connections that have none of their own; None removes it.

    Does not switch greenlets.
    """
    global installed
    installed = True
    where._tracing = tracing


class Tracing:
    """Base class of tracers: its methods are called around each publish and each handler. Traces nothing itself.

    What a method raises is raised by the publish, or counts as the handler's error.
    The methods run in the program's greenlets, never in the reader's.
    """

    def publish(
        self,
        connection: TracedConnection,
        exchange: str,
        routing_key: str,
        body: Body,
        properties: dict[str, Any],
        send: Send,
    ) -> int:
        """Call ``send(properties)`` once and return its result. *send* queues the message.

        properties: by py-amqp's names. This may be the program's own dict: to change
        properties, pass another dict to *send*. body: bytes, or a str that is not encoded yet.
        *send* waits if the publish has to wait, and raises the error if nothing was sent.
        Its result is the delivery tag, 0 on a channel without publisher confirms.

        Given a second argument, *send* has ``settled(outcome)`` called once when the outcome
        is known, if the result is not 0. outcome: True when the broker has acked the message,
        False when it has nacked it, the message itself when no queue took it, or why
        the channel ended before (an exception). It is called by the reader, or where somebody
        looks at the receipt: it must not wait and must not raise.
        """
        return send(properties)

    def publish_mandatory(
        self,
        connection: TracedConnection,
        exchange: str,
        routing_key: str,
        body: Body,
        properties: dict[str, Any],
        send: Send,
    ) -> int:
        """``publish`` for a mandatory message. If no queue takes it, ``returned`` is called later."""
        return self.publish(connection, exchange, routing_key, body, properties, send)

    def returned(self, connection: TracedConnection, message: Message) -> None:
        """The broker returned a message because no queue took it. Called in a greenlet of its own."""

    def process(self, connection: TracedConnection, message: Message, handler: Callable[[Message], object]) -> None:
        """Call ``handler(message)`` once, and raise what it raises.

        handler: the callback of a consumer, inside drain_events, or the handler of ``subscribe``.
        """
        handler(message)

    def failed(self, connection: Any, message: Any, log: Callable[[], Any]) -> None:
        """Call ``log()`` once. It writes to the log that the handler of ``subscribe`` has failed on this message.

        In the greenlet that has called ``process`` for it, after that has raised.
        """
        log()
