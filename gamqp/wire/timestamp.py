"""Timestamp: seconds since 1970 that no datetime can hold.

Its only job is to keep the wire's type of such a number, so that a message can be published again as it
came: 2**63 and above fit no other integer type of AMQP. What does not belong here: reading and writing.
"""

from __future__ import annotations

__all__ = ('Timestamp',)


class Timestamp(int):
    """A timestamp of a header, in seconds since 1970, from year 10000 on. An int in every other respect."""

    __slots__ = ()
