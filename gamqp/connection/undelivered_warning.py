"""Whose undelivered messages fill the memory that a connection may use for them: one warning in the log.

Layer 4. Looks at each consumer that has messages here, in a greenlet of its own and with turns of
the hub between. Does not belong here: when the warning is due.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..green.yielding import with_turns
from ..telemetry.log_fields import log_fields

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ('warn',)

logger = logging.getLogger('gamqp.connection')

Held = tuple[int, str, int]  # channel number, consumer tag, messages


def warn(connection: Connection) -> None:
    """Body of a greenlet: name the channel that has most of the messages, and its consumer with most of them."""
    of_channels: Counter[int] = Counter()
    of_consumers: Counter[tuple[int, str]] = Counter()
    for number, tag, count in with_turns(connection._green, _held(connection)):
        of_channels[number] += count
        of_consumers[number, tag] += count
    if not of_channels:
        return
    number, count = of_channels.most_common(1)[0]
    (_, tag), most = max(of_consumers.items(), key=lambda one: (one[0][0] == number, one[1]))
    backpressure = connection._backpressure
    overflow = backpressure.overflow
    logger.warning(
        '%s reads no more until messages are handled: %s of %s undelivered messages (%s bytes in all, and %s '
        'in temporary files) are of channel %s, %s of them of consumer %r. A lower prefetch, acks or more '
        'handlers help',
        repr(connection),
        count,
        backpressure.budget.messages + (0 if overflow is None else overflow.messages),
        backpressure.budget.bytes,
        0 if overflow is None else overflow.bytes,
        number,
        most,
        tag,
        extra=log_fields(connection),
    )


def _held(connection: Connection) -> Iterator[Held]:
    yield from connection._event_queue.holders()
    for number, channel in list(connection.channels.items()):
        for inbox in channel._inboxes():
            yield number, inbox.tag, len(inbox.messages or ())
        yield number, '', 0  # a channel without any counts as a step, too
    overflow = connection._backpressure.overflow
    if overflow is not None:
        yield from overflow.holders()
