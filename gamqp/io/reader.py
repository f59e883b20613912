"""The body of the reader greenlet, the only code that receives on a connection's socket.

Layer 2. The reader receives what has arrived, has the decoder cut it into events, and hands them to the
connection. Then it lets the hub run before it reads again, so that one busy connection does not keep the
others from running. It runs no user code. It waits for the socket and, when too many messages are
undelivered, for the program to take some. It has only a weak reference to the connection, so that one
without other references can be collected although its reader waits. Does not belong here: what events mean.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .. import exceptions
from . import abandoned

if TYPE_CHECKING:
    from .link import Link

__all__ = ('run',)


def run(link: Link) -> None:
    """Body of the greenlet. It ends when the link has ended, and ends the link when somebody kills it. Switches."""
    batch = link.batch
    try:
        while link.reason is None:
            if link.must_pause():
                batch.wake_later()
                link.pause()
                continue
            # wait_readable switches, so the link may have ended when it returns.
            only, batch.only = batch.only, None
            if link.transport.wait_readable(only) and link.reason is None and not link.must_pause():
                # must_pause is asked a second time: while a call waits for its reply the reader goes on beyond the
                # limits, and that reply may have come while this greenlet waited for the socket.
                _read_batch(link)
    except OSError as exc:
        link.lose(exc)
    except BaseException as exc:
        # Somebody killed the reader, or gamqp has a bug. Without a reader no call would ever get its reply,
        # so the link ends, and every waiting greenlet gets the error.
        link.lose(exc)
        raise
    finally:
        batch.wake_later()
        link.lose(exceptions.RecoverableConnectionError('the connection was abandoned'))


def _read_batch(link: Link) -> None:
    decoder = link.decoder
    # Nothing below switches greenlets. So nothing can end the reader in the middle of a batch.
    try:
        count = link.transport.recv_into(decoder.room())
    except BlockingIOError:
        return  # with TLS: the input was not a complete record
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
        # The connection was garbage-collected. Close is sent once; from then on only its answer counts.
        abandoned.abandon(link)
        if abandoned.is_agreed(events) or decoder.error is not None:
            link.lose(exceptions.RecoverableConnectionError('the connection was abandoned'))
        return
    batch = link.batch
    batch.is_open = batch.opens
    try:
        owner._on_events(events)
    except exceptions.AMQPError as exc:
        owner._on_protocol_error(exc)
    finally:
        batch.is_open = False
    # After the events: the decoder returns those that came before the violation of the protocol.
    if decoder.error is not None and link.reason is None:
        owner._on_protocol_error(decoder.error)
