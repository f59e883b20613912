"""AMQP values as bytes and back, under py-amqp's names.

Layer 5. The functions are those of ``gamqp.wire``. They raise FrameSyntaxError, or EncodeError when they
encode, where py-amqp raises struct.error. Does not belong here: encoding itself.
"""

from __future__ import annotations

from typing import Any

from .wire import Content, Encoder, decode_properties, dumps, loads, write_properties
from .wire.spec import PROPERTIES

__all__ = ('GenericContent', 'decode_properties_basic', 'dumps', 'loads')

Buffer = bytes | bytearray | memoryview

# Class, weight and body size stand before the properties in a content header.
_BEFORE_PROPERTIES = 12


def decode_properties_basic(buf: Buffer, offset: int) -> tuple[dict[str, Any], int]:
    """Decode the property flags at *offset* and the properties behind them.

    Returns the properties and the offset behind the last. Raises FrameSyntaxError.
    """
    properties = decode_properties(bytes(buf), offset)
    # Every property has one encoding, so what was read is as long as what would be written.
    writer = Encoder()
    write_properties(writer, properties)
    return properties, offset + len(writer.getvalue())


class GenericContent(Content):
    """py-amqp's class for a content that a program builds from a header and bodies. Messages are ``gamqp.Message``."""

    CLASS_ID: int | None = None
    PROPERTIES: Any = tuple(PROPERTIES)

    def __init__(self, frame_method: object = None, frame_args: object = None, **props: object) -> None:
        super().__init__(b'', props)
        self.frame_method = frame_method
        self.frame_args = frame_args
        self.body_size = 0
        self.body_received = 0
        self.ready = False

    def inbound_header(self, buf: Buffer, offset: int = 0) -> int:
        """Take the payload of a header frame. Returns the offset behind it. Raises FrameSyntaxError."""
        (self.body_size,), _ = loads('L', bytes(buf), offset + 4)
        self.properties, behind = decode_properties_basic(buf, offset + _BEFORE_PROPERTIES)
        self.ready = not self.body_size
        return behind

    def inbound_body(self, buf: Buffer) -> None:
        """Take the payload of a body frame; ``ready`` is true when it was the last."""
        body: Any = self.body
        self.body = body + bytes(buf)
        self.body_received = len(self.body)
        self.ready = self.body_received >= self.body_size
