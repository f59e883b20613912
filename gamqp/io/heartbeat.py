"""The heartbeat greenlet: sleeps, looks at the pulse, obeys.

It needs no loop of the user's and does not touch the write path: a heartbeat is
queued like any other frame set, and never behind data that is stuck, since the
peer would not see it anyway. What must not enter: the rules; they are in
``state.pulse``.
"""

from __future__ import annotations

import time
from typing import Any

from .. import exceptions
from ..wire import HEARTBEAT

__all__ = ('run',)


def run(link: Any) -> None:
    """Body of the greenlet; ends when the link does."""
    pulse = link.pulse
    while link.reason is None:
        now = time.monotonic()
        if link.listening and pulse.peer_is_dead(now) and not link.transport.has_input:
            silence = pulse.silence(now)
            link.lose(
                exceptions.ConnectionForced(
                    f'too many heartbeats missed: nothing heard from the broker for {silence:.1f} s '
                    f'(heartbeat interval {pulse.interval} s)'
                )
            )
            return
        if pulse.must_send(now):
            beat(link)
        link.heartbeat_wait(pulse.next_look(now, link.listening))


def beat(link: Any) -> None:
    """Send a heartbeat frame, unless other bytes are waiting to go: any traffic counts."""
    if not link.writer.queued:
        link.writer.send(HEARTBEAT)
        link.writer.flush()
    else:
        # Pretend it was sent, or the greenlet would look again at once and for ever.
        link.pulse.sent_at = time.monotonic()
