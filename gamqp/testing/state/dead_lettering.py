"""What becomes of a message when it is dead-lettered: its new headers, and which queues would make a circle.

Layer 5, pure. Does not belong here: routing.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from .message import StoredMessage
from .queue import Queue

__all__ = ('dead_letter', 'is_automatic_circle')


def dead_letter(queue: Queue, message: StoredMessage, reason: str, now: float, last_death: bool) -> StoredMessage:
    """The message as it goes to the dead-letter exchange of *queue*.

    reason: 'expired', 'rejected', 'maxlen' or 'delivery_limit'. now: seconds since 1970. last_death: whether the
    headers x-last-death-* are written.
    """
    properties = dict(message.properties)
    headers = dict(message.headers)
    expiration = properties.pop('expiration', None)
    previous = headers.get('x-death')
    deaths = list(previous) if isinstance(previous, list) else []
    headers['x-death'] = _with_death(deaths, queue, message, reason, now, expiration)
    first = {'reason': reason, 'queue': queue.name, 'exchange': message.exchange}
    for name, value in first.items():
        headers.setdefault(f'x-first-death-{name}', value)
        if last_death:
            headers[f'x-last-death-{name}'] = value
    routing_keys = message.routing_keys
    if queue.dead_letter_key is not None:
        headers.pop('CC', None)
        routing_keys = (queue.dead_letter_key,)
    properties['application_headers'] = headers
    exchange = queue.dead_letter_exchange
    assert exchange is not None
    letter = message.changed(properties, exchange, routing_keys[0])
    letter.routing_keys = routing_keys
    return letter


def _with_death(
    deaths: list[Any], queue: Queue, message: StoredMessage, reason: str, now: float, expiration: Any
) -> list[Any]:
    """The x-death header with one more death: the last one stands first, and is counted if it is not new."""
    same = next((one for one in deaths if one.get('queue') == queue.name and one.get('reason') == reason), None)
    if same is not None:
        deaths.remove(same)
        return [{**same, 'count': same.get('count', 0) + 1}, *deaths]
    death = {
        'count': 1,
        'exchange': message.exchange,
        'queue': queue.name,
        'reason': reason,
        'routing-keys': list(message.routing_keys),
        'time': datetime.fromtimestamp(int(now), timezone.utc),
    }
    if expiration is not None:
        death['original-expiration'] = expiration
    return [death, *deaths]


def is_automatic_circle(letter: StoredMessage, queue: Queue, reason: str) -> bool:
    """Whether *letter* was in *queue* before and no consumer rejected it since: RabbitMQ drops it there."""
    if reason == 'rejected':
        return False
    for death in letter.headers.get('x-death', ()):
        if death.get('reason') == 'rejected':
            return False
        if death.get('queue') == queue.name:
            return True
    return False
