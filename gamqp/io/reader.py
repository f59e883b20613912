"""The only receive of a connection: the body of the reader greenlet.

Reads what has arrived, lets the decoder cut it, hands the batch to the
connection, and goes back to the hub before it reads again, so that a flood on
one connection starves nobody. It runs no user code and waits for nobody but the
socket and, when too much is undelivered, for the program to catch up. It knows
the connection only by a weak reference: an abandoned connection can be
collected although its reader still waits.
"""

from __future__ import annotations

import time
from typing import Any

from .. import exceptions
from . import process_end

__all__ = ('run',)


def run(link: Any) -> None:
    """Body of the greenlet; ends when the link does, and ends the link when it is killed."""
    try:
        while link.reason is None:
            if link.must_pause():
                link.pause()
            elif link.transport.wait_readable() and link.reason is None and not link.must_pause():
                # Asked again: the reply for whose sake it went on has come meanwhile.
                _read_batch(link)
    except OSError as exc:
        link.lose(exc)
    except BaseException as exc:
        # Somebody killed the reader, or a fault of ours: without it nobody would ever be woken.
        link.lose(exc)
        raise
    finally:
        link.lose(exceptions.RecoverableConnectionError('the connection was abandoned'))


def _read_batch(link: Any) -> None:
    decoder = link.decoder
    try:
        count = link.transport.recv_into(decoder.room())
    except BlockingIOError:
        return
    if not count:
        where = ' in the middle of a frame' if decoder.pending else ''
        if not link.heard:
            where = ' without a word: no broker there, or one that expects TLS'
        link.lose(exceptions.RecoverableConnectionError(f'the broker closed the socket{where}'), hung_up=True)
        return
    link.heard = True
    link.counts.bytes_in += count
    link.heartbeat_clock.heard_at = time.monotonic()
    events = decoder.commit(count)
    owner = link.owner()
    if owner is None:
        process_end.abandon(link)
        if process_end.is_agreed(events) or decoder.error is not None:
            link.lose(exceptions.RecoverableConnectionError('the connection was abandoned'))
        return
    try:
        owner.on_events(events)
    except exceptions.AMQPError as exc:
        owner.on_protocol_error(exc)
    if decoder.error is not None and link.reason is None:
        owner.on_protocol_error(decoder.error)
