"""Message: what is published and what is delivered.

Layer 1. The bytes are in ``wire.Content``, which decodes properties and
delivery info only when the program asks for them; this class adds what needs a
channel: acking, nacking and rejecting a delivery. Does not belong here: how a channel does that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypedDict, TypeVar

from . import exceptions
from .wire import Content
from .wire.spec import PROPERTIES

if TYPE_CHECKING:
    from datetime import datetime

    from typing_extensions import Never, Unpack

    from .channel.channel import Channel

__all__ = ('Body', 'Message', 'MessageProperties', 'PublishProperties')

#: What can be sent as the body of a message; a str by its content_encoding, UTF-8 where there is none.
Body = bytes | bytearray | memoryview | str

T = TypeVar('T', covariant=True)


class MessageProperties(TypedDict, total=False):
    """The properties of a message, for type checkers; None means absent. A test compares them with the wire's."""

    content_type: str | None
    content_encoding: str | None
    application_headers: Mapping[str, Any] | None
    delivery_mode: int | None
    priority: int | None
    correlation_id: str | None
    reply_to: str | None
    expiration: str | None
    message_id: str | None
    timestamp: float | datetime | None
    type: str | None
    user_id: str | None
    app_id: str | None
    cluster_id: str | None


class PublishProperties(MessageProperties, total=False):
    """Those that ``Channel.publish`` takes: *headers* is another name of application_headers."""

    headers: Mapping[str, Any] | None


if TYPE_CHECKING:

    class _Property(Generic[T]):
        """A property as an attribute, which can be read but not set: what is set would not be published."""

        def __get__(self, message: object, owner: object = None) -> T: ...
        def __set__(self, message: object, value: Never) -> None: ...


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
    _incarnation = 0

    CLASS_ID = 60
    PROPERTIES: ClassVar[list[tuple[str, str]]] = list(PROPERTIES)

    if TYPE_CHECKING:
        # None when the message was made locally. Where messages are handled, they were delivered: `| Any` has type
        # checkers know what these are and demand no check for None.
        channel: Channel | Any
        delivery_tag: int | Any

        # Each raises AttributeError where the message does not have that property.
        content_type: _Property[str]
        content_encoding: _Property[str]
        application_headers: _Property[dict[str, Any]]
        delivery_mode: _Property[int]
        priority: _Property[int]
        correlation_id: _Property[str]
        reply_to: _Property[str]
        expiration: _Property[str]
        message_id: _Property[str]
        timestamp: _Property[int]
        type: _Property[str]
        user_id: _Property[str]
        app_id: _Property[str]
        cluster_id: _Property[str]

    def __init__(
        self,
        body: Body = '',
        children: object = None,
        channel: Channel | None = None,
        **properties: Unpack[MessageProperties],
    ) -> None:
        try:
            Content.__init__(self, body, properties)  # not by super(): each publish makes one
        except TypeError:
            # Something without a length, as None: publishing it says what is wrong.
            Content.__init__(self, b'', properties)
            self.body = body
        self.channel = channel

    def __repr__(self) -> str:
        where = f' tag {self.delivery_tag}' if self.delivery_tag else ''
        return f'<{type(self).__name__}{where}, {self._size} bytes>'

    # py-amqp's messages grow frame by frame, and have these attributes to tell how far they are. Ours arrive whole.

    @property
    def frame_method(self) -> tuple[int, int] | None:
        """Numbers of class and method that brought it; None when it was made locally."""
        return self._method

    @property
    def frame_args(self) -> bytes | None:
        """The payload of its method frame, with the numbers; None when it was made locally, or unpickled."""
        return self._method_payload

    @property
    def body_size(self) -> int:
        """Bytes of the body as it arrived; 0 when it was made locally."""
        return 0 if self._method is None else self._size

    @property
    def body_received(self) -> int:
        """The same as ``body_size``."""
        return self.body_size

    @property
    def ready(self) -> bool:
        """Whether it has arrived; False when it was made locally."""
        return self._method is not None

    def ack(self, multiple: bool = False) -> None:
        """Acknowledge this delivery, and with *multiple* all earlier ones of its channel.

        Does nothing when the channel was closed by an error and reopened, or has called basic_recover, since:
        the broker has requeued the message, and its tag means another one now.
        Does not switch greenlets. Raises RecoverableConnectionError when the
        channel or connection it came over is gone, or it came over none.
        """
        channel = self.channel
        # As _settling_channel, without another call for each message.
        if channel is not None and channel._incarnation == self._incarnation and self.delivery_tag is not None:
            channel.basic_ack(self.delivery_tag, multiple)
        else:
            self._settling_channel()  # raises, or counts an ack that comes too late

    def nack(self, multiple: bool = False, requeue: bool = True) -> None:
        """Refuse this delivery; the broker queues it again, or drops or dead-letters it. Errors as ``ack``."""
        channel = self._settling_channel()
        if channel is not None:
            channel.basic_nack(self.delivery_tag, multiple, requeue)

    def reject(self, requeue: bool = False) -> None:
        """Refuse this one delivery with basic.reject. Errors as ``ack``."""
        channel = self._settling_channel()
        if channel is not None:
            channel.basic_reject(self.delivery_tag, requeue)

    def _settling_channel(self) -> Channel | None:
        """The channel to settle this delivery on; None if the broker has taken the delivery back since."""
        channel = self.channel
        if channel is None or self.delivery_tag is None:
            raise exceptions.RecoverableConnectionError('this message was not delivered by a channel')
        if channel._incarnation == self._incarnation:
            return channel
        channel._count_stale_settlement()
        return None
