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

# An item of a walk; several items may be of one consumer, in memory and on disk.
Held = tuple[int, str, int]  # channel number, consumer tag, messages


def warn(connection: Connection) -> None:
    """Body of a greenlet: name the channel that has most of the messages, and its consumer with most of them."""
    # Sums over the walk, which switches: they may be of different moments, which is near enough for a warning.
    of_channels: Counter[int] = Counter()
    of_consumers: Counter[tuple[int, str]] = Counter()
    # Switches after each 1000 items. The connection may have ended when it comes back; its objects stay.
    for number, tag, count in with_turns(connection._green, _held(connection)):
        of_channels[number] += count
        of_consumers[number, tag] += count
    # No channel is left: the last one was closed before this greenlet ran.
    if not of_channels:
        return
    number, count = of_channels.most_common(1)[0]
    # True sorts above False: the largest consumer of that channel, and not the largest of all.
    (_, tag), most = max(of_consumers.items(), key=lambda one: (one[0][0] == number, one[1]))
    backpressure = connection._backpressure
    # Read once, without a switch below: it may become None at any turn of the hub.
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
    # A copy: channels are opened and closed while others run.
    for number, channel in list(connection.channels.items()):
        for inbox in channel._inboxes():
            # messages is None for an inbox that has had none yet.
            yield number, inbox.tag, len(inbox.messages or ())
        yield number, '', 0  # a channel without any counts as a step, too
    overflow = connection._backpressure.overflow
    if overflow is not None:
        yield from overflow.holders()
