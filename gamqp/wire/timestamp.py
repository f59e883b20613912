"""Timestamp: seconds since 1970 that no datetime can hold.

Layer 0. It only marks that the number was encoded as a timestamp, so that a message can be published again as it
arrived: numbers from 2**63 on fit no other integer type of AMQP. Does not belong here: encoding and decoding.
"""

from __future__ import annotations

__all__ = ('Timestamp',)


class Timestamp(int):
    """A timestamp of a header, in seconds since 1970, from year 10000 on. An int in every other respect."""

    __slots__ = ()
