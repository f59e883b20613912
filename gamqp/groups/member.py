"""One connection of a group, with its channels and the group's consumers on it.

Layer 5. Does not belong here: how many there are, and which one a consumer gets (``group``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .. import exceptions
from ..channel.channel import Channel
from ..connection.connection import Connection

if TYPE_CHECKING:
    from .group_consumer import GroupConsumer

__all__ = ('Member',)


class Member:
    """connection: open, or recovering. consumers: the group's, in the order in which they came here.

    limit: consumers of one channel, at most. since: when it was opened, by time.monotonic().
    """

    def __init__(self, connection: Connection, limit: int) -> None:
        self.connection = connection
        self.consumers: dict[GroupConsumer, None] = {}  # a dict for a set that keeps its order
        self.since = time.monotonic()
        self._limit = limit
        self._channels: list[Channel] = []
        self._publishing: Channel | None = None
        self._is_full = False  # the broker lets it have no further channel

    def __repr__(self) -> str:
        return f'<Member {self.connection!r}, {len(self.consumers)} consumers>'

    @property
    def is_usable(self) -> bool:
        """Whether it is open, or will be by itself."""
        return self.connection.state in ('open', 'recovering')

    @property
    def has_room(self) -> bool:
        """Whether one more consumer may be started on it."""
        return not self._is_full or any(self._has_room(channel) for channel in self._channels)

    def _has_room(self, channel: Channel) -> bool:
        return channel.connection is not None and channel.consumer_count < self._limit

    def channel_with_room(self) -> Channel:
        """A channel for one more consumer. Switches. Raises ResourceError where there can be none."""
        for channel in self._channels:
            if self._has_room(channel):
                return channel
        channel = self._new_channel()
        self._channels.append(channel)
        return channel

    def publishing_channel(self) -> Channel:
        """The channel on which the group publishes here. Switches where it is opened first."""
        if self._publishing is None or self._publishing.connection is None:
            self._publishing = self._new_channel()
        return self._publishing

    def _new_channel(self) -> Channel:
        try:
            return self.connection.channel()
        except exceptions.ResourceError:
            self._is_full = True
            raise

    def forget(self, consumer: GroupConsumer) -> None:
        """It has ended."""
        self.consumers.pop(consumer, None)
