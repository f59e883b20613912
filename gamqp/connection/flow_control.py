"""When a publish may go out, and when a busy program has to let others run.

Layer 4, a base class of Connection. A broker that refuses messages for a while
(connection.blocked) and a send queue that is full make publishers wait; a program
that never waits is made to breathe. What must not enter: messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent

from .. import exceptions, green
from ..state.counters import Counters
from ..state.durations import in_seconds
from ..state.settings import BlockedPolicy

__all__ = ('FlowControl',)

# How long drain_events and publish may go on without giving the hub a turn, in
# seconds, and after how many messages or bytes it is worth to look at the clock.
BREATH = 0.01
EVENTS_PER_LOOK = 32
BYTES_PER_LOOK = 64 * 1024

# Calls of on_blocked and on_unblocked that may run at the same time. Each has a greenlet of its own, and a broker
# can block and unblock as fast as it can send.
CALLS_AT_ONCE = 16


class FlowControl:
    """What a connection knows of its pace."""

    green: Any
    link: Any
    counts: Counters
    rpc_timeout: float
    blocked_policy: BlockedPolicy
    blocked_timeout: float | None
    on_blocked: Callable[[str], Any] | None
    on_unblocked: Callable[[], Any] | None

    def __init__(self) -> None:
        super().__init__()
        self.blocked_reason: str | None = None
        self.unlooked = 0  # bytes published since a publish let others run, or could have
        self.look_at = 0.0  # from when on, in seconds of time.monotonic(), a publish asks ``turn_due``
        self._unblocked: Any = None
        self._blocked_at = 0.0
        self._looked_at = 0.0
        self.until_look = EVENTS_PER_LOOK
        self._callers: list[Any] = []  # greenlets in on_blocked or on_unblocked
        self._call_missed = False  # there was one too many

    def report(self, text: str, *args: Any) -> None:
        raise NotImplementedError

    def check_open(self) -> None:
        raise NotImplementedError

    def wait_begins(self) -> None:
        raise NotImplementedError

    def wait_ends(self) -> None:
        raise NotImplementedError

    # -- from the reader --------------------------------------------------------------

    def _on_blocked(self, reason: str) -> None:
        if self.blocked_reason is None:
            self._blocked_at = time.monotonic()
        self.blocked_reason = reason
        self.report('%s: the broker takes no messages: %s', repr(self), reason)
        self._call_about_blocking()

    def _on_unblocked(self) -> None:
        self._end_blockage()
        self._unblocked.wake_all()
        self._call_about_blocking()

    def _call_about_blocking(self) -> None:
        """Call on_blocked or on_unblocked, whichever is true now; later, where too many such calls run."""
        self._callers = [caller for caller in self._callers if not caller.dead]
        if len(self._callers) >= CALLS_AT_ONCE:
            self._call_missed = True
        elif self.blocked_reason is None:
            self._spawn_call(self.on_unblocked)
        else:
            self._spawn_call(self.on_blocked, self.blocked_reason)

    def _spawn_call(self, callback: Callable[..., Any] | None, *args: str) -> None:
        if callback is not None:
            self._callers.append(self.green.spawn(self._run_call, callback, args))

    def _run_call(self, callback: Callable[..., Any], args: tuple[str, ...]) -> None:
        try:
            callback(*args)
        finally:
            self._callers.remove(getcurrent())
            if self._call_missed and self.link.reason is None:
                self._call_missed = False
                self._call_about_blocking()

    def _end_blockage(self) -> None:
        seconds = self.blocked_for(time.monotonic())
        self.blocked_reason = None  # first: a thread that looks in between must not see the time twice
        self.counts.blocked_seconds += seconds

    def blocked_for(self, now: float) -> float:
        """Seconds since the broker stopped taking messages, 0.0 if it takes them."""
        return 0.0 if self.blocked_reason is None else now - self._blocked_at

    @property
    def is_blocked(self) -> bool:
        """Whether the broker takes no messages at present (a resource alarm)."""
        return self.blocked_reason is not None

    # -- publishing ----------------------------------------------------------------------

    @property
    def must_wait_to_publish(self) -> bool:
        # As _holds_publishes, without another call: each publish asks.
        return (self.blocked_reason is not None and self.blocked_policy != 'pass') or self.link.writer.full

    @property
    def _holds_publishes(self) -> bool:
        return self.blocked_reason is not None and self.blocked_policy != 'pass'

    def wait_to_publish(self, deadline: green.Deadline | None) -> None:
        """Wait until the broker takes messages and the send queue has room. Switches.

        deadline: None for blocked_timeout while the broker refuses messages, else
        rpc_timeout. Raises Blocked when it still refuses them, TimeoutError when it
        is only slow; nothing was sent.
        """
        unblocking = deadline or green.Deadline(
            self.rpc_timeout if self.blocked_timeout is None else self.blocked_timeout
        )
        deadline = deadline or green.Deadline(self.rpc_timeout)
        begun = time.monotonic()
        self.wait_begins()  # connection.blocked and unblocked may stand behind more deliveries than there is room for
        try:
            self._wait_for_peer(deadline, unblocking)
        finally:
            self.wait_ends()
            self.counts.write_wait_seconds += time.monotonic() - begun

    def _wait_for_peer(self, deadline: green.Deadline, unblocking: green.Deadline) -> None:
        while self.must_wait_to_publish and self.link.reason is None:
            if self._holds_publishes:
                refused = self.blocked_policy == 'raise' or not self._unblocked.wait(unblocking.left())
                if refused and self._holds_publishes:
                    raise exceptions.Blocked(f'the broker takes no messages: {self.blocked_reason}')
            elif not self.link.writer.wait_for_room(deadline.left()) and not self._holds_publishes:
                raise TimeoutError(f'basic.publish: the send queue was full for {in_seconds(deadline.seconds)}')

    def wait_until_sent(self, deadline: green.Deadline) -> None:
        """Wait until the kernel has taken everything; when time runs out, the connection is given up. Switches."""
        if not self.link.writer.wait_until_empty(deadline.left()):
            # A part of the message may be out, so the stream cannot be used any further.
            self.link.lose(
                exceptions.RecoverableConnectionError(f'basic.publish: not sent within {in_seconds(deadline.seconds)}')
            )
        self.check_open()

    def turn_due(self) -> bool:
        """Whether the hub has to have a turn before a publish. Asked every BREATH at most, for it costs a system call.

        It has when a publisher that never waits has kept it from its turn for long
        enough, or when something has arrived: a program that computes between two
        publishes does not know yet that the peer has hung up.
        """
        now = time.monotonic()
        self.look_at = now + BREATH
        if self.unlooked >= BYTES_PER_LOOK:
            self.unlooked = 0
            if now - self._looked_at > BREATH:
                return True
        return bool(self.link.has_unheard)

    def turn_overdue(self) -> bool:
        """The same for a program that drains without ever having to wait.

        Who is called for each message may count ``until_look`` down itself, and ask only when it is 1.
        """
        self.until_look -= 1
        if self.until_look > 0:
            return False
        self.until_look = EVENTS_PER_LOOK
        return time.monotonic() - self._looked_at > BREATH

    def let_others_run(self) -> None:
        """Let everybody else run once. Switches."""
        self.green.sleep(0)
        self._looked_at = time.monotonic()

    def let_others_run_to_publish(self) -> None:
        """The same, and the reader reads what has arrived. Switches."""
        link = self.link
        self.let_others_run()
        if link.has_unheard:
            link.hear()
