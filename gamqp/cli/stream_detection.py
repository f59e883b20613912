"""Whether a queue is a stream, which AMQP has no question for.

Layer 5. Does not belong here: consuming streams.
"""

from __future__ import annotations

import re

from .. import exceptions
from ..connection import Connection

__all__ = ('is_stream',)

# A declaration that can never make a queue, since streams have no priorities. Of a queue that is there the broker
# compares only the arguments that its own type knows, and names one that differs: of any queue but a stream it comes to
# one of these two.
_OF_A_STREAM: dict[str, str | int] = {'x-queue-type': 'stream', 'x-max-priority': 5}

_DIFFERS = re.compile(r"inequivalent arg '([^']+)' for queue .* current is the value '(.*)' of type '(\w+)'", re.S)

# More arguments than a stream can have.
_ROUNDS = 12


def is_stream(connection: Connection, queue: str) -> bool:
    """Whether it is a stream; False also where this user may not ask. Changes nothing. Switches."""
    arguments = dict(_OF_A_STREAM)
    for _ in range(_ROUNDS):
        refusal = _refusal(connection, queue, arguments)
        if refusal is None:
            return True
        # One that differs is given as the queue has it, until all agree.
        match = _DIFFERS.search(refusal)
        if match is None or match[1] in arguments:
            return False
        arguments[match[1]] = int(match[2]) if match[2].isdigit() and match[3] != 'longstr' else match[2]
    return False


def _refusal(connection: Connection, queue: str, arguments: dict[str, str | int]) -> str | None:
    channel = connection.channel()
    try:
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)
    except exceptions.ChannelError as exc:
        return exc.reply_text or ''
    finally:
        if channel.is_open:
            channel.close()
    return None
