"""Message: what is published and what is delivered.

Layer 1. The bytes live in ``wire.Content``, which decodes properties and
delivery info only when they are asked for; this class adds what needs a
channel: settling a delivery.
"""

from __future__ import annotations

from typing import Any, ClassVar

from . import exceptions
from .wire import Content
from .wire.spec import PROPERTIES, PROPERTY_NAMES

__all__ = ('Message',)


class Message(Content):
    """A message.

    body: bytes or str. A str is sent encoded by the content_encoding property,
    UTF-8 where there is none. children: ignored, kept for py-amqp's signature.
    channel: the channel it came from, or None. properties: content_type,
    content_encoding, application_headers (a dict), delivery_mode (2: persistent),
    priority, correlation_id, reply_to, expiration, message_id, timestamp (seconds, or
    a datetime; it arrives as seconds), type, user_id, app_id, cluster_id; None means absent,
    other names are ignored. Those that are present are attributes, too: ``message.reply_to``.
    """

    # Of the channel, when this was delivered; set on the object only when it is not 0.
    incarnation = 0

    CLASS_ID = 60
    PROPERTIES: ClassVar[list[tuple[str, str]]] = list(PROPERTIES)

    def __init__(self, body: Any = '', children: Any = None, channel: Any = None, **properties: Any) -> None:
        try:
            Content.__init__(self, body, properties)  # not by super(): each publish makes one
        except TypeError:
            # Something without a length, as None: publishing it says what is wrong.
            Content.__init__(self, b'', properties)
            self.body = body
        self.channel = channel

    def __getattr__(self, name: str) -> Any:
        # Asked only for what is no attribute, and by copy and pickle for private names of bare objects.
        if name in PROPERTY_NAMES:
            properties = self.properties
            if name in properties:
                return properties[name]
        raise AttributeError(f'{type(self).__name__!r} object has no attribute {name!r}', name=name, obj=self)

    def __repr__(self) -> str:
        where = f' tag {self.delivery_tag}' if self.delivery_tag else ''
        return f'<{type(self).__name__}{where}, {self.size} bytes>'

    # What py-amqp's messages tell of their frames. They arrive whole here.

    @property
    def frame_method(self) -> tuple[int, int] | None:
        """Numbers of class and method that brought it; None when it was made locally."""
        return self.method

    @property
    def frame_args(self) -> bytes | None:
        """The payload of its method frame, with the numbers; None when it was made locally, or unpickled."""
        return self.method_payload

    @property
    def body_size(self) -> int:
        """Bytes of the body as it arrived; 0 when it was made locally."""
        return 0 if self.method is None else self.size

    @property
    def body_received(self) -> int:
        """The same as ``body_size``."""
        return self.body_size

    @property
    def ready(self) -> bool:
        """Whether it has arrived; False when it was made locally."""
        return self.method is not None

    def ack(self, multiple: bool = False) -> None:
        """Acknowledge this delivery, and with *multiple* all earlier ones of its channel.

        Does nothing when the channel was closed by an error and reopened, or told to recover, since:
        the broker has requeued the message, and its tag means another one now.
        Does not switch greenlets. Raises RecoverableConnectionError when the
        channel or connection it came over is gone, or it came over none.
        """
        channel = self.channel
        # As _is_stale, without another call for each message.
        if channel is not None and channel.incarnation == self.incarnation and self.delivery_tag is not None:
            channel.basic_ack(self.delivery_tag, multiple)
        elif not self._is_stale():
            self.channel.basic_ack(self.delivery_tag, multiple)

    def nack(self, multiple: bool = False, requeue: bool = True) -> None:
        """Refuse this delivery; the broker queues it again, or drops or dead-letters it. Errors as ``ack``."""
        if not self._is_stale():
            self.channel.basic_nack(self.delivery_tag, multiple, requeue)

    def reject(self, requeue: bool = False) -> None:
        """Refuse this one delivery with basic.reject. Errors as ``ack``."""
        if not self._is_stale():
            self.channel.basic_reject(self.delivery_tag, requeue)

    def _is_stale(self) -> bool:
        if self.channel is None or self.delivery_tag is None:
            raise exceptions.RecoverableConnectionError('this message was not delivered by a channel')
        if self.channel.incarnation == self.incarnation:
            return False
        self.channel.count_stale_settlement()
        return True
