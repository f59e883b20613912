"""The heartbeat greenlet of a connection: sends heartbeats in time, and ends the link when the peer is silent.

Layer 2. It runs by itself, so a program need not call anything for heartbeats. A heartbeat goes
through the writer like any other frame. While the kernel takes no bytes none is queued: it would
stand behind the waiting data. Does not belong here: when a heartbeat is due and when the peer
counts as dead; both are computed in ``state.heartbeat``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .. import exceptions
from ..wire import HEARTBEAT
from . import abandoned

if TYPE_CHECKING:
    from .link import Link

__all__ = ('beat', 'check', 'is_dead', 'run')


def run(link: Link) -> None:
    """Body of the greenlet. It ends when the link has ended, and ends the link when somebody kills it. Switches."""
    heartbeat_clock = link.heartbeat_clock
    try:
        while link.reason is None:
            if link.owner() is None:
                # The connection was garbage-collected in another thread, which could not touch the link.
                abandoned.abandon(link)
            check(link)
            now = time.monotonic()
            if link.reason is None and heartbeat_clock.must_send(now):
                beat(link)
            # The sending thread may have sent while the hub was blocked, and only the hub may change the
            # count of queued bytes.
            link.writer.catch_up()
            link.heartbeat_wait(heartbeat_clock.next_look(now, link.listening))
    except BaseException as exc:
        # Without this greenlet the broker would get no heartbeats and close the connection, and a broker
        # that is gone might never be noticed. So the link ends with the greenlet.
        link.lose(exc)
        raise


def is_dead(link: Link) -> bool:
    """Whether the peer was silent for two intervals while the reader was reading and nothing is left to read."""
    # While the reader has stopped nothing is received, so silence says nothing about the peer; and input that is
    # there already is a sign of life.
    return link.listening and link.heartbeat_clock.peer_is_dead(time.monotonic()) and not link.transport.has_input


def check(link: Link) -> None:
    """End the link if the peer is dead. Does not switch."""
    if is_dead(link):
        silence = link.heartbeat_clock.silence(time.monotonic())
        link.lose(
            exceptions.ConnectionForced(
                f'too many heartbeats missed: nothing heard from the broker for {silence:.1f} s '
                f'(heartbeat interval {link.heartbeat_clock.interval} s)'
            )
        )


def beat(link: Link) -> None:
    """Send a heartbeat frame, unless other bytes wait to be sent: any bytes count as a heartbeat. Does not switch."""
    if not link.writer.queued:
        link.writer.send(HEARTBEAT)
        link.writer.flush()
    else:
        # Count it as sent, although the waiting bytes are not. Otherwise a heartbeat would stay due, and
        # the greenlet would ask again in a tight loop.
        link.heartbeat_clock.sent_at = time.monotonic()
