"""The heartbeat greenlet: sleeps, looks at the pulse, obeys.

It needs no loop of the user's and does not touch the write path: a heartbeat is
queued like any other frame set, and never behind data that is stuck, since the
peer would not see it anyway. What must not enter: the rules; they are in
``state.heartbeat``.
"""

from __future__ import annotations

import time
from typing import Any

from .. import exceptions
from ..wire import HEARTBEAT
from . import process_end

__all__ = ('beat', 'check', 'is_dead', 'run')


def run(link: Any) -> None:
    """Body of the greenlet; ends when the link does, and ends the link when it is killed."""
    heartbeat_clock = link.heartbeat_clock
    try:
        while link.reason is None:
            if link.owner() is None:
                process_end.abandon(link)  # where its end went unnoticed, in another thread
            check(link)
            now = time.monotonic()
            if link.reason is None and heartbeat_clock.must_send(now):
                beat(link)
            link.writer.catch_up()
            link.heartbeat_wait(heartbeat_clock.next_look(now, link.listening))
    except BaseException as exc:
        # Without it the broker would give us up, and we might never notice that it is gone.
        link.lose(exc)
        raise


def is_dead(link: Any) -> bool:
    """Whether the peer has been silent for too long, though we read and there is nothing left to read."""
    return link.listening and link.heartbeat_clock.peer_is_dead(time.monotonic()) and not link.transport.has_input


def check(link: Any) -> None:
    """End the link if the peer is dead."""
    if is_dead(link):
        silence = link.heartbeat_clock.silence(time.monotonic())
        link.lose(
            exceptions.ConnectionForced(
                f'too many heartbeats missed: nothing heard from the broker for {silence:.1f} s '
                f'(heartbeat interval {link.heartbeat_clock.interval} s)'
            )
        )


def beat(link: Any) -> None:
    """Send a heartbeat frame, unless other bytes are waiting to go: any traffic counts."""
    if not link.writer.queued:
        link.writer.send(HEARTBEAT)
        link.writer.flush()
    else:
        # Pretend it was sent, or the greenlet would look again at once and for ever.
        link.heartbeat_clock.sent_at = time.monotonic()
