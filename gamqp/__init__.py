"""gamqp: AMQP 0-9-1 for programs that live on greenlets.

Any number of greenlets may use one connection, and one channel, at the same
time. One greenlet per connection reads, one object writes, one greenlet beats;
everybody else waits on a slot of their own.

The layers, upper ones import lower ones only (a test enforces it):

    5  programs     pool, groups, partitioning, rpc, testing, compat, kombu, prometheus, opentelemetry, cli
    4  connection   connection, recovery
    3  channel      channel, consuming, telemetry
    2  I/O          green (gevent | eventlet), transport, io (reader, writer, heartbeat)
    1  state        state, sasl, basic_message, protocol
    0  wire         wire (bytes <-> values), exceptions

Here are the names that programs import. Does not belong here: code.
"""

from __future__ import annotations

from . import sasl, serialization, spec, utils  # noqa: F401  reachable as gamqp.spec …, as py-amqp's are
from .about import VERSION, __version__, version_info, version_info_t
from .basic_message import Message
from .channel.channel import Channel
from .channel.receipt import Receipt
from .compat.drop_in import install_as_amqp
from .compat.promises import promise
from .connection import Connection, connect
from .consuming.consumer import Consumer
from .consuming.iterator import Deliveries
from .exceptions import (
    AccessRefused,
    AMQPError,
    AMQPNotImplementedError,
    CertificateRefused,
    ChannelError,
    ChannelNotOpen,
    ConnectionError,
    ConnectionForced,
    ConsumerCancelled,
    ConsumerTimeout,
    ContentTooLarge,
    EncodeError,
    FrameError,
    FrameSyntaxError,
    InternalError,
    InvalidCommand,
    InvalidPath,
    IrrecoverableChannelError,
    IrrecoverableConnectionError,
    Lost,
    MessageNacked,
    NoConsumers,
    NotAllowed,
    NotFound,
    PreconditionFailed,
    RecoverableChannelError,
    RecoverableConnectionError,
    ResourceError,
    ResourceLocked,
    Returned,
    RPCError,
    UnexpectedFrame,
    WrongThread,
    error_for_code,
)
from .groups.group import Group
from .groups.group_consumer import GroupConsumer
from .partitioning import PartitionConsumers, Partitions, partitions
from .pool.pool import Pool
from .rpc.client import RPCClient
from .rpc.server import RPCServer
from .state.recovery_settings import Recovery

__all__ = (
    'VERSION',
    'AMQPError',
    'AMQPNotImplementedError',
    'AccessRefused',
    'CertificateRefused',
    'Channel',
    'ChannelError',
    'ChannelNotOpen',
    'Connection',
    'ConnectionError',
    'ConnectionForced',
    'Consumer',
    'ConsumerCancelled',
    'ConsumerTimeout',
    'ContentTooLarge',
    'Deliveries',
    'EncodeError',
    'FrameError',
    'FrameSyntaxError',
    'Group',
    'GroupConsumer',
    'InternalError',
    'InvalidCommand',
    'InvalidPath',
    'IrrecoverableChannelError',
    'IrrecoverableConnectionError',
    'Lost',
    'Message',
    'MessageNacked',
    'NoConsumers',
    'NotAllowed',
    'NotFound',
    'PartitionConsumers',
    'Partitions',
    'Pool',
    'PreconditionFailed',
    'RPCClient',
    'RPCError',
    'RPCServer',
    'Receipt',
    'RecoverableChannelError',
    'RecoverableConnectionError',
    'Recovery',
    'ResourceError',
    'ResourceLocked',
    'Returned',
    'UnexpectedFrame',
    'WrongThread',
    '__version__',
    'connect',
    'error_for_code',
    'install_as_amqp',
    'partitions',
    'promise',
    'version_info',
    'version_info_t',
)


def __getattr__(name: str) -> object:
    if name == 'namedtuple':  # py-amqp leaves it lying about
        from collections import namedtuple

        return namedtuple
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
