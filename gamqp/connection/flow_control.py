"""When a publish may go out, and when a busy program has to let others run.

Layer 4. A broker that refuses messages for a while (connection.blocked) and a send queue
that is full make publishers wait. A program that publishes or drains without ever having to
wait gives the hub a turn every now and then. Does not belong here: messages.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from greenlet import getcurrent

from .. import exceptions, green
from ..state.counters import Counters
from ..state.durations import in_seconds
from .owner_protocols import PublishingOwner
from .receive_backpressure import ReceiveBackpressure

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
    """Of one connection.

    owner: the connection. Held weakly.
    counts: the owner's; the time that is spent blocked and waiting is added to it.
    """

    __slots__ = (
        '_backpressure',
        '_blocked_at',
        '_call_missed',
        '_callers',
        '_counts',
        '_green',
        '_looked_at',
        '_owner',
        '_unblocked',
        'blocked_reason',
        'link',
        'look_at',
        'unlooked',
        'until_look',
    )

    def __init__(self, owner: PublishingOwner, counts: Counters, backpressure: ReceiveBackpressure) -> None:
        self._owner = weakref.ref(owner)
        self._backpressure = backpressure
        self._counts = counts
        self.link: Any = None
        # From connection.blocked to connection.unblocked or the end of the connection; _blocked_at counts only then.
        # Publishers read it for each message, so it is an attribute and no method.
        self.blocked_reason: str | None = None
        # These three are shared by all greenlets of the connection: the hub starves also when many of them take turns
        # without ever waiting.
        self.unlooked = 0  # bytes published since a publish let others run, or could have
        self.look_at = 0.0  # from when on, in seconds of time.monotonic(), a publish asks ``turn_due``
        self.until_look = EVENTS_PER_LOOK
        self._green: Any = None
        self._unblocked: Any = None  # where publishers wait for connection.unblocked
        self._blocked_at = 0.0
        # When the hub had its last turn by let_others_run, in seconds of time.monotonic().
        self._looked_at = 0.0
        # At most CALLS_AT_ONCE. A call that is missed is made up for by the next one that ends, with the state of
        # that moment: a program may miss a change, and never the last one.
        self._callers: list[Any] = []  # greenlets in on_blocked or on_unblocked
        self._call_missed = False  # there was one too many

    def begin(self, backend: ModuleType) -> None:
        """For a new socket, whose ``link`` is set as soon as there is one."""
        self.link = None
        self._green = backend
        # A new gate: whoever waits at the old one belongs to the old socket. blocked_reason is None already, by end().
        self._unblocked = green.Gate(backend)

    # -- from the reader --------------------------------------------------------------

    def on_blocked(self, reason: str) -> None:
        """The broker takes no messages from now on."""
        # A broker may send blocked twice in a row. The time counts from the first.
        if self.blocked_reason is None:
            self._blocked_at = time.monotonic()
        self.blocked_reason = reason
        owner = self._owner()
        if owner is not None:
            owner._report('%s: the broker takes no messages: %s', repr(owner), reason)
        # In a greenlet of its own: the reader is here, and the callback is the program's.
        self._call_about_blocking()

    def on_unblocked(self) -> None:
        """The broker takes messages again."""
        # The reason is gone before they wake: each of them looks at it again.
        self._end_blockage()
        self._unblocked.wake_all()
        self._call_about_blocking()

    def _call_about_blocking(self) -> None:
        """Call on_blocked or on_unblocked, whichever is true now; later, where too many such calls run."""
        owner = self._owner()
        # A greenlet that was killed before it ran has not removed itself.
        self._callers = [caller for caller in self._callers if not caller.dead]
        # A broken peer could otherwise start greenlets without end while the callbacks wait.
        if len(self._callers) >= CALLS_AT_ONCE:
            self._call_missed = True
        elif owner is None:
            pass  # the program has dropped the connection
        elif self.blocked_reason is None:
            self._spawn_call(owner.on_unblocked)
        else:
            self._spawn_call(owner.on_blocked, self.blocked_reason)

    def _spawn_call(self, callback: Callable[..., Any] | None, *args: str) -> None:
        if callback is not None:
            self._callers.append(self._green.spawn(self._run_call, callback, args))

    def _run_call(self, callback: Callable[..., Any], args: tuple[str, ...]) -> None:
        try:
            callback(*args)
        finally:
            # Also when the callback raised or was killed.
            self._callers.remove(getcurrent())
            # Not after the end: on_lost says that, and an unblocked that the broker never sent would be wrong.
            if self._call_missed and self.link is not None and self.link.reason is None:
                self._call_missed = False
                self._call_about_blocking()

    def _end_blockage(self) -> None:
        seconds = self.blocked_for(time.monotonic())
        self.blocked_reason = None  # first: a thread that looks in between must not see the time twice
        self._counts.blocked_seconds += seconds

    def end(self) -> Iterator[None]:
        """The connection has ended. Returns what wakes the publishers that wait, a step for each."""
        # The time of a block that lasts is counted up to the end.
        self._end_blockage()
        # None before the first connect(): a connection may be collected without ever having been opened.
        waiting = self._unblocked
        return iter(()) if waiting is None else waiting.wake_each()

    def blocked_for(self, now: float) -> float:
        """Seconds since the broker stopped taking messages, 0.0 if it takes them."""
        return 0.0 if self.blocked_reason is None else now - self._blocked_at

    # -- publishing ----------------------------------------------------------------------

    @property
    def must_wait_to_publish(self) -> bool:
        """Whether the broker refuses messages, or the send queue is full."""
        owner = self._owner()
        assert owner is not None  # it is in use
        # full is at 4 MiB of unsent bytes. Without that limit a publisher that is faster than the network would fill
        # the memory.
        return self._is_refused(owner) or bool(self.link.writer.full)

    def _is_refused(self, owner: PublishingOwner) -> bool:
        return self.blocked_reason is not None and owner.blocked_policy != 'pass'

    def wait_to_publish(self, deadline: green.Deadline | None) -> None:
        """Wait until the broker takes messages and the send queue has room. Switches.

        deadline: None for blocked_timeout while the broker refuses messages, else
        rpc_timeout. Raises Blocked when it still refuses them, TimeoutError when it
        is only slow; nothing was sent.
        """
        owner = self._owner()
        assert owner is not None  # it is in use
        # Two deadlines, since a broker in alarm may be waited for longer, or less long, than one that is slow. With a
        # timeout of the caller both are the same.
        unblocking = deadline or green.Deadline(
            owner.rpc_timeout if owner.blocked_timeout is None else owner.blocked_timeout
        )
        deadline = deadline or green.Deadline(owner.rpc_timeout)
        begun = time.monotonic()
        # connection.unblocked may stand behind more deliveries than there is room for: read on.
        self._backpressure.wait_begins()
        try:
            # Switches. Nothing of the message has been sent or counted yet, so the caller may be killed here.
            self._wait_for_peer(owner, deadline, unblocking)
        finally:
            self._backpressure.wait_ends()
            # Also for a wait that failed: metrics show how long publishers were held up.
            self._counts.write_wait_seconds += time.monotonic() - begun

    def _wait_for_peer(self, owner: PublishingOwner, deadline: green.Deadline, unblocking: green.Deadline) -> None:
        link = self.link  # of the channel that waits; another connect() may be under way when this greenlet wakes
        # No error of the connection is raised here. The caller checks its channel after each wait, and gets it there.
        while link.reason is None and self.must_wait_to_publish:
            # Both questions again after each wait: the broker may have blocked again since.
            if self._is_refused(owner):
                refused = owner.blocked_policy == 'raise' or not self._unblocked.wait(unblocking.left())
                # Asked again: unblocked may have come in the same pass of the hub in which the time ran out.
                if refused and self._is_refused(owner):
                    raise exceptions.Blocked(f'the broker takes no messages: {self.blocked_reason}')
            # Switches. If the broker has blocked meanwhile the other deadline counts, and the loop goes on.
            elif not link.writer.wait_for_room(deadline.left()) and not self._is_refused(owner):
                raise TimeoutError(f'basic.publish: the send queue was full for {in_seconds(deadline.seconds)}')

    def wait_until_sent(self, link: Any, timeout: float | None) -> bool:
        """Wait until the kernel has taken everything. Returns False after *timeout* seconds. Switches.

        link: on which it was queued; there may be another one by now. Raises why that has ended.
        """
        # Switches. It also returns when the writer was closed, by a failure or by the end of the link.
        if not link.writer.wait_until_empty(timeout):
            return False
        # Switches: the reader still gets a moment to read why the broker has hung up.
        link.wait_for_end()  # if the writer has failed
        owner = self._owner()
        assert owner is not None  # it is in use
        owner._check_open(link)
        return True

    def send_by(self, link: Any, deadline: green.Deadline) -> None:
        """``wait_until_sent`` for a publish: when time runs out, the connection is given up. Switches."""
        if not self.wait_until_sent(link, deadline.left()):
            # A part of the message may be out, so the stream cannot be used any further.
            # On the caller's link and not on self.link: a connection opened again since has nothing to do with it.
            link.lose(
                exceptions.RecoverableConnectionError(f'basic.publish: not sent within {in_seconds(deadline.seconds)}')
            )
            owner = self._owner()
            assert owner is not None  # it is in use
            owner._check_open(link)

    def turn_due(self) -> bool:
        """Whether the hub has to have a turn before a publish. Asked every BREATH at most, for it costs a system call.

        It has when a publisher that never waits has kept it from its turn for long
        enough, or when something has arrived: a program that computes between two
        publishes does not know yet that the peer has hung up.
        """
        now = time.monotonic()
        # Set in any case, also when nothing is due: so the next question costs nothing for a while.
        self.look_at = now + BREATH
        # Two conditions for a turn: enough was published, and it took long enough. A quick burst goes out in one
        # piece.
        if self.unlooked >= BYTES_PER_LOOK:
            self.unlooked = 0
            if now - self._looked_at > BREATH:
                return True
        # This is the system call: a look at the socket that takes nothing from it.
        return bool(self.link.has_unread_input)

    def turn_overdue(self) -> bool:
        """The same for a program that drains without ever having to wait.

        Who is called for each message may count ``until_look`` down itself, and ask only when it is 1.
        """
        self.until_look -= 1
        # Each message costs a subtraction; only every thirty-second one costs a look at the clock.
        if self.until_look > 0:
            return False
        self.until_look = EVENTS_PER_LOOK
        return time.monotonic() - self._looked_at > BREATH

    def let_others_run(self) -> None:
        """Let everybody else run once. Switches."""
        self._green.sleep(0)
        # After the switch: it took as long as the others needed.
        self._looked_at = time.monotonic()

    def let_others_run_to_publish(self) -> None:
        """The same, and the reader reads what has arrived. Switches."""
        # Kept over the switch: another greenlet may have another link here by then.
        link = self.link
        self.let_others_run()
        if link.has_unread_input:
            link.let_reader_run()
