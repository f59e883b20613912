"""Connection, Channel and Message as kombu expects them.

Layer 5. The few methods that kombu adds to py-amqp's. Does not belong here: when a connection is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kombu import message as kombu_message
from kombu.transport import base, pyamqp

from ..basic_message import Message as AMQPMessage
from ..channel.channel import Channel as AMQPChannel
from ..connection.connection import Connection as AMQPConnection

__all__ = ('Channel', 'Connection', 'Message')

# What a message of kombu has, as far as this file knows: where a version of kombu has more, kombu makes the message.
_FIELDS = {
    *('_decoded_cache', '_state', 'accept', 'body', 'channel', 'content_encoding', 'content_type', 'delivery_info'),
    *('delivery_tag', 'headers', 'properties'),
}
_KNOWS_FIELDS = {*kombu_message.Message.__slots__} - {'__dict__'} == _FIELDS


class Message(pyamqp.Message):  # type: ignore[misc]  # kombu has no types
    """kombu's message, which knows when it comes too late to be settled.

    A channel that was closed by an error is open again at once, and counts its deliveries from 1. The broker has
    queued again what was unsettled; its tag means nothing now, which is another error, or it means another message.
    """

    _state: str
    _incarnation = 0  # of the channel, when this was delivered; set on the object only when it is not 0

    def __init__(self, msg: Any, channel: Any = None, **kwargs: Any) -> None:
        properties = msg.properties
        headers = properties.get('application_headers') or {}
        if kwargs or 'compression' in headers or not _KNOWS_FIELDS:
            super().__init__(msg, channel=channel, **kwargs)
        else:
            # As kombu's two constructors, which pass it all on as keywords: a quarter of what a message costs here.
            self.errors: list[Any] = []
            self.channel = channel
            self.delivery_tag = msg.delivery_tag
            self.content_type = properties.get('content_type')
            self.content_encoding = properties.get('content_encoding')
            self.delivery_info = msg.delivery_info
            self.headers = headers
            self.properties = properties
            self._decoded_cache = None
            self._state = 'RECEIVED'
            self.accept = None
            self.body = msg.body
        if msg._incarnation:
            self._incarnation = msg._incarnation

    def ack(self, multiple: bool = False) -> None:
        """Acknowledge it, and with *multiple* all before it; nothing where the broker has taken it back."""
        channel = self.channel
        if channel is not None and self._state == 'RECEIVED' and channel._incarnation == self._incarnation:
            # The usual case, as kombu has it, without the two sets that kombu asks for to look one tag up.
            if not channel._consumers.needs_no_ack(self.delivery_info.get('consumer_tag')):
                channel.basic_ack(self.delivery_tag, multiple)
                self._state = 'ACK'
        elif self._is_known('ACK'):
            super().ack(multiple)

    def reject(self, requeue: bool = False) -> None:
        """Refuse it, as ``ack``."""
        if self._is_known('REJECTED'):
            super().reject(requeue)

    def requeue(self) -> None:
        """Refuse it and have it queued again, as ``ack``."""
        if self._is_known('REQUEUED'):
            super().requeue()

    def _is_known(self, state: str) -> bool:
        channel = self.channel
        if channel is None or channel._incarnation == self._incarnation or self.acknowledged:
            return True
        channel._count_stale_settlement()
        self._state = state
        return False


class Channel(AMQPChannel, base.StdChannel):  # type: ignore[misc]  # kombu has no types
    """A channel that makes kombu's messages of ours, and ours of kombu's."""

    Message = Message

    def prepare_message(
        self,
        body: Any,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
    ) -> AMQPMessage:
        """Make the message that ``basic_publish`` takes."""
        others: dict[str, Any] = properties or {}
        return AMQPMessage(
            body,
            priority=priority,
            content_type=content_type,
            content_encoding=content_encoding,
            application_headers=headers,
            **others,
        )

    def prepare_queue_arguments(self, arguments: Any, **kwargs: Any) -> Any:
        """Add kombu's arguments of queues, such as max_priority, in RabbitMQ's words."""
        return base.to_rabbitmq_queue_arguments(arguments, **kwargs)

    def message_to_python(self, raw_message: Any) -> Any:
        """Make kombu's message of one that has arrived."""
        return self.Message(raw_message, channel=self)


class Connection(AMQPConnection):
    """A connection that is opened for a kombu.Connection, its *client*.

    _left_for_another: the greenlet that drains this one has meanwhile waited at another, see ``drain_events``.
    """

    Channel = Channel
    #: Nobody sends heartbeats in a process that is not patched, so there they have to be asked for.
    _heartbeat_needs_patching = True
    client: Any = None
    _left_for_another = False

    @property
    def _unraised_loss(self) -> Callable[[], BaseException] | None:
        """Makes the error of a loss that consumers of this connection have not heard of; None if there is none."""
        reason = self._life.reason
        return reason.make_error if self._event_queue.loss_unraised and reason is not None else None

    @property
    def left_a_close_unanswered(self) -> bool:
        """Whether the broker has not answered the close of a channel that nobody waits for any more."""
        return bool(self._closes_due)
