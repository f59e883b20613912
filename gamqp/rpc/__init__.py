"""Requests and answers over queues: a client that waits for the answer, a server that calls a handler.

Layer 5. Replies go by RabbitMQ's direct reply-to. Does not belong here: worker greenlets and acks, which a
subscription has (``gamqp.consuming``). Public: RPCClient, RPCServer, and the names of the headers that
bring back an error, ERROR and ERROR_TYPE.
"""

from __future__ import annotations

from .client import ERROR, ERROR_TYPE, RPCClient
from .server import RPCServer

__all__ = ('ERROR', 'ERROR_TYPE', 'RPCClient', 'RPCServer')
