"""Direct reply-to: a pseudo queue through which replies go straight to the channel that asked.

Layer 5, pure. Does not belong here: real queues.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .channel import ServerChannel
    from .server import Server

__all__ = ('PREFIX', 'QUEUE', 'ReplyConsumer', 'find_reply_channel')

QUEUE = 'amq.rabbitmq.reply-to'
PREFIX = QUEUE + '.'


class ReplyConsumer:
    """The consumer of direct replies of a channel. key: what follows PREFIX in the address of replies."""

    def __init__(self, tag: str | bytes, key: str) -> None:
        self.tag = tag
        octets = tag if isinstance(tag, bytes) else tag.encode()
        self.prefix = bytes([len(octets)]) + octets
        self.key = key


def find_reply_channel(server: Server, address: str | bytes) -> ServerChannel | None:
    """The channel that replies to this address go to."""
    text = address if isinstance(address, str) else address.decode('utf-8', 'replace')
    return server.reply_channels.get(text.removeprefix(PREFIX)) if text.startswith(PREFIX) else None
