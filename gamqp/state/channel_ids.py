"""Channel numbers: which are free, in constant time.

State, no I/O. A number that is released is used again as late as possible. A late frame of the old
channel would otherwise be taken for one of the new channel with that number.
Does not belong here: channels.
"""

from __future__ import annotations

from collections import deque

from .. import exceptions

__all__ = ('ChannelIds',)


class ChannelIds:
    """Numbers 1 to *limit* (the negotiated channel_max)."""

    __slots__ = ('_fresh', '_limit', '_rested', '_resting', '_taken')

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._fresh = 1  # take() has never returned this number or a higher one
        # Released numbers, the one released first in front. claim() leaves its own here.
        self._rested: deque[int] = deque()
        self._resting: set[int] = set()  # the same numbers, to look them up
        self._taken: set[int] = set()  # numbers in use, by take() and by claim()

    def __len__(self) -> int:
        return len(self._taken)

    def take(self) -> int:
        """A free number. Raises ResourceError with the counts when there is none."""
        # Numbers that were never used come first: nothing late can arrive for those.
        # _fresh never goes back, so all calls together take *limit* steps here.
        while self._fresh <= self._limit:
            channel_id = self._fresh
            self._fresh += 1
            # What claim() has taken is passed over; release() will put it behind the others.
            if channel_id not in self._taken:
                self._taken.add(channel_id)
                return channel_id
        while self._rested:
            channel_id = self._rested.popleft()
            self._resting.remove(channel_id)
            if channel_id not in self._taken:
                self._taken.add(channel_id)
                return channel_id
        raise exceptions.ResourceError(
            f'no free channel: {len(self._taken)} are open and channel_max is {self._limit}. '
            'Close channels that are done with, share them, or use a second connection.',
            # Class and method of channel.open, which the caller cannot send.
            (20, 10),
        )

    def claim(self, channel_id: int) -> None:
        """Take the number *channel_id*. Raises ConnectionError when it is taken or out of range."""
        if not 1 <= channel_id <= self._limit:
            raise exceptions.ConnectionError(f'channel {channel_id!r} is not between 1 and {self._limit}')
        if channel_id in self._taken:
            raise exceptions.ConnectionError(f'channel {channel_id} is in use already')
        self._taken.add(channel_id)

    def release(self, channel_id: int) -> None:
        """Give a number back; one that was not taken is ignored."""
        if channel_id in self._taken:
            self._taken.remove(channel_id)
            # One that was claimed from above _fresh is found there when its turn comes.
            # A number that claim() has taken may still have its place in the queue. A second place for it would let the
            # queue grow with each claim and release.
            if channel_id < self._fresh and channel_id not in self._resting:
                self._rested.append(channel_id)
                self._resting.add(channel_id)
