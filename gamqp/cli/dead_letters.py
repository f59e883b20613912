"""Where a dead letter came from: the header x-death of RabbitMQ.

Layer 5. Pure. Does not belong here: moving it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..basic_message import Message
from .exit_codes import CommandFailed

__all__ = ('Destination', 'origin_of', 'without_deaths')


class Destination(NamedTuple):
    """Where a message is published to."""

    exchange: str
    routing_key: str


def origin_of(message: Message) -> Destination:
    """The queue in which the message died last. Raises CommandFailed for one that is no dead letter."""
    deaths = message.headers.get('x-death')
    # The latest comes first.
    latest = deaths[0] if isinstance(deaths, list) and deaths else None
    queue = latest.get('queue') if isinstance(latest, Mapping) else None
    if not isinstance(queue, str) or not queue:
        raise CommandFailed('a message has no x-death header: it is no dead letter, so there is no way back')
    return Destination('', queue)


def without_deaths(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The headers without those that tell of deaths: for the broker, and for programs, it has never died."""
    return {
        key: value
        for key, value in headers.items()
        if key != 'x-death' and not key.startswith(('x-first-death-', 'x-last-death-'))
    }
