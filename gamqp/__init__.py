"""gamqp: AMQP 0-9-1 for programs that live on greenlets.

Any number of greenlets may use one connection, and one channel, at the same
time. One greenlet per connection reads, one object writes, one greenlet beats;
everybody else waits on a slot of their own.

The layers, upper ones import lower ones only (a test enforces it):

    4  integrations   what plugs into somebody else's framework
    3  public API     connection, channel, methods, basic_message, handshake …
    2  I/O            green (gevent | eventlet), transport, io (reader, writer, heartbeat)
    1  state          state, sasl
    0  wire           wire (bytes <-> values), exceptions
"""

from __future__ import annotations

from .about import VERSION, __version__
from .basic_message import Message
from .channel import Channel
from .connection import Connection, connect
from .exceptions import (
    AccessRefused,
    AMQPError,
    AMQPNotImplementedError,
    ChannelError,
    ChannelNotOpen,
    ConnectionError,
    ConnectionForced,
    ConsumerCancelled,
    ContentTooLarge,
    EncodeError,
    FrameError,
    FrameSyntaxError,
    InternalError,
    InvalidCommand,
    InvalidPath,
    IrrecoverableChannelError,
    IrrecoverableConnectionError,
    MessageNacked,
    NoConsumers,
    NotAllowed,
    NotFound,
    PreconditionFailed,
    RecoverableChannelError,
    RecoverableConnectionError,
    ResourceError,
    ResourceLocked,
    UnexpectedFrame,
    error_for_code,
)

__all__ = (
    'VERSION',
    'AMQPError',
    'AMQPNotImplementedError',
    'AccessRefused',
    'Channel',
    'ChannelError',
    'ChannelNotOpen',
    'Connection',
    'ConnectionError',
    'ConnectionForced',
    'ConsumerCancelled',
    'ContentTooLarge',
    'EncodeError',
    'FrameError',
    'FrameSyntaxError',
    'InternalError',
    'InvalidCommand',
    'InvalidPath',
    'IrrecoverableChannelError',
    'IrrecoverableConnectionError',
    'Message',
    'MessageNacked',
    'NoConsumers',
    'NotAllowed',
    'NotFound',
    'PreconditionFailed',
    'RecoverableChannelError',
    'RecoverableConnectionError',
    'ResourceError',
    'ResourceLocked',
    'UnexpectedFrame',
    '__version__',
    'connect',
    'error_for_code',
)
