"""The sending thread: one thread of the operating system that sends for hubs that are blocked.

Layer 2. There is one for the whole process. A hub that does not run (the program computes, waits in a
system call, or never switches greenlets) cannot send what calls have queued. This thread sends it within
10 ms, and sends heartbeats for connections that ask for that. It is started when a writer first has bytes
that it did not send. It sleeps while no writer has any, ends after a second of that, and is started again when
needed. It keeps neither the process nor a connection alive. It never logs: a log handler is user code,
and must run in a thread of the program. Does not belong here: what to send; that is decided in
``HubWriters.help`` and ``SendThreadWriter.send_overdue_heartbeat``.
"""

from __future__ import annotations

import heapq
import itertools
import os
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ..green import os_threads

if TYPE_CHECKING:

    class HeartbeatSender(Protocol):
        """What the thread needs of a writer with heartbeats."""

        def send_overdue_heartbeat(self, now: float) -> float: ...

    class HeldWriters(Protocol):
        """What the thread needs of the writers of a hub."""

        def help(self, now: float) -> float | None: ...

        def let_go(self) -> bool: ...


__all__ = ('LOOK', 'SendThread', 'send_thread', 'with_short_switch_interval')

# Seconds between two looks at a writer with unsent bytes. The first look leaves bytes to the hub when the
# hub was sending just before. So two looks, and the 5 ms for which a thread may wait for the interpreter
# lock, must be less than the promised 10 ms.
LOOK = 0.002

# Seconds until the next look after an error in gamqp itself.
AFTER_FAULT = 0.1

# Seconds without anything to do after which the thread ends.
LINGER = 1.0

# Seconds between two looks at heartbeats, at most: after an error in gamqp itself the thread must not sleep for ever.
LONGEST = 60.0

# Seconds that a fork, or the end of the interpreter, waits for the thread to end.
STOP = 0.2

# The interpreter's switch interval, in seconds, while the thread encrypts.
SHORT_INTERVAL = 0.0005

# From 3.12 on Python warns when a process with several threads forks.
_WARNS_OF_FORKS = sys.version_info >= (3, 12)


class SendThread:
    """Calls ``help(now)`` of writers with unsent bytes, and ``send_overdue_heartbeat(now)`` of those with heartbeats.

    Both return the seconds until they are to be called again; ``help`` returns None when there is nothing to do.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything. In a forked child there is no such thread, and the lock may be locked for ever."""
        # Reentrant: the garbage collector may run inside ``add`` and call ``discard``.
        self._guard = os_threads.HiddenRLock()
        self._wake = os_threads.Lock()
        self._wake.acquire()
        self._ended = os_threads.Lock()  # locked while the thread that was started last runs
        self._members: dict[int, weakref.ref[HeartbeatSender]] = {}
        self._added = False  # there are members that the thread has not looked at yet
        self._beats_at = 0.0  # when the next heartbeat of any member may be due; only the thread uses it
        self._new: deque[tuple[float, HeldWriters]] = deque()  # since when they have unsent bytes, and the writers
        self._held: list[tuple[float, int, HeldWriters]] = []  # a heap: when to look next; only the thread uses it
        self._number = itertools.count()
        self._sleeps = False  # the thread sleeps for long, and must be woken
        self._stopping = False
        self._native_id = 0
        self.running = False

    @property
    def beats(self) -> bool:
        """Whether it sends heartbeats for any connection."""
        return bool(self._members)

    def add(self, member: HeartbeatSender) -> None:
        """Send heartbeats for it from now on, after ``stop`` from ``resume`` on. Does not switch.

        Raises RuntimeError when no thread can be started.
        """
        with self._guard.lock:
            self._members[id(member)] = weakref.ref(member)
            self._added = True
            if not self._stopping:  # another thread may be forking, or the interpreter may be ending
                self._start()

    def discard(self, member: HeartbeatSender) -> None:
        """Send no more heartbeats for it. A look that is under way is not waited for. Does not switch."""
        with self._guard.lock:
            if self._members.pop(id(member), None) is not None and not self._members:
                self._nudge()

    def hold(self, writers: HeldWriters) -> None:
        """They have unsent bytes: call their ``help`` until it returns None. Does not switch.

        Raises RuntimeError as ``add`` does.
        """
        with self._guard.lock:
            self._start()
            self._new.append((time.monotonic(), writers))

    def stop(self) -> None:
        """End the thread and wait until it has ended; no other one is started before ``resume``. Does not switch.

        Writers that have nothing to send any more are dropped, so that ``resume`` need not start a thread for them.
        """
        with self._guard.lock:
            self._stopping = True
            # Read under the lock: right after it the thread may end, and another caller may start the
            # next one.
            running, ended, native_id = self.running, self._ended, self._native_id
            self._nudge()
        # Not under the lock, which the thread takes before it ends.
        if running and ended.acquire(timeout=STOP):
            ended.release()
            if _WARNS_OF_FORKS and native_id:
                _await_exit(native_id)
            # The thread has ended, so its own lists may be changed here.
            self._take_new()
            self._held = [entry for entry in self._held if not entry[2].let_go()]
            heapq.heapify(self._held)

    def resume(self) -> None:
        """After ``stop``, go on with what there is to do. Does not switch."""
        with self._guard.lock:
            self._stopping = False
            if self._has_work:
                try:
                    self._start()
                except RuntimeError:
                    pass  # the next writer with unsent bytes tries again; until then the hubs send alone

    def _start(self) -> None:
        if self._stopping:
            raise RuntimeError('the sending thread is stopped')
        if self.running:
            self._nudge()
            return
        self.running = True  # before the start: a signal handler may run in between and come here
        ended = os_threads.Lock()
        ended.acquire()
        try:
            os_threads.start_new_thread(self._run, (self._wake, ended))
        except BaseException:
            self.running = False
            raise
        self._ended = ended

    def _nudge(self) -> None:
        """Wake the thread if it sleeps for long. To be called under the lock."""
        if self._sleeps:
            self._sleeps = False
            self._wake.release()

    # -- in the thread -------------------------------------------------------------------

    def _run(self, wake: Any, ended: Any) -> None:
        self._native_id = os_threads.get_native_id()
        try:
            idle_since = time.monotonic()
            while True:
                now = time.monotonic()
                pause = min(self._help(now), self._beat(now), LINGER)
                if self._held or self._members:
                    idle_since = now
                # Under the lock, so that ``add`` and ``hold`` either see that the thread has ended, or wake it.
                with self._guard.lock:
                    if self._stopping or not (self._has_work or now - idle_since < LINGER):
                        self.running = False
                        return
                    # Read under the lock, so that what came since cannot be missed until the end
                    # of a long pause.
                    if self._new or self._added:  # they came during the calls above, and are not in *pause*
                        pause = LOOK
                    self._sleeps = pause > LOOK
                self._sleep(wake, pause)
        except BaseException:
            self.running = False  # so that another thread can be started
            raise
        finally:
            ended.release()

    @property
    def _has_work(self) -> bool:
        return bool(self._new or self._held or self._members)

    def _sleep(self, wake: Any, seconds: float) -> None:
        if wake.acquire(timeout=max(seconds, 0.001)):
            return
        with self._guard.lock:
            if self._sleeps:
                self._sleeps = False
            else:
                # Another thread has released the lock at this moment. Take it, or the next sleep would end at once.
                wake.acquire(False)

    def _help(self, now: float) -> float:
        """Call ``help`` of those whose time has come. Returns seconds until the next look."""
        self._take_new()
        held = self._held
        while held and held[0][0] <= now:
            writer = heapq.heappop(held)[2]
            try:
                pause = writer.help(now)
            except Exception:
                pause = AFTER_FAULT  # an error at one connection must not stop the thread for the others
            if pause is not None:
                heapq.heappush(held, (now + pause, next(self._number), writer))
        return held[0][0] - now if held else LONGEST

    def _take_new(self) -> None:
        """Put the new ones on the heap. One that is there already is looked at as soon as a new one."""
        new = self._new
        while new:
            since, writer = new.popleft()
            if any(entry[2] is writer for entry in self._held):
                self._held = [entry for entry in self._held if entry[2] is not writer]
                heapq.heapify(self._held)
            # The running number keeps the heap from comparing writers when two times are equal.
            heapq.heappush(self._held, (since + LOOK, next(self._number), writer))

    def _beat(self, now: float) -> float:
        """Send the heartbeats whose time has come. Returns seconds until the next look."""
        if not self._members:
            return LONGEST
        # Cleared before the members are looked at: one that is added meanwhile sets it again.
        added, self._added = self._added, False
        if now < self._beats_at and not added:
            return self._beats_at - now
        pause = LONGEST
        members = self._take_members()
        while members:  # emptied on the way, so that no reference keeps a closed writer alive during the sleep
            pause = min(pause, self._look(members.pop()))
        self._beats_at = now + pause
        return pause

    def _take_members(self) -> list[HeartbeatSender]:
        """The members that still exist."""
        with self._guard.lock:
            for key, ref in list(self._members.items()):
                if ref() is None:
                    del self._members[key]
            return [member for ref in self._members.values() if (member := ref()) is not None]

    def _look(self, member: HeartbeatSender) -> float:
        try:
            return float(member.send_overdue_heartbeat(time.monotonic()))
        except Exception:
            return LONGEST


def with_short_switch_interval(fn: Callable[[], Any]) -> None:
    """Call *fn*, which releases the interpreter lock while it encrypts, so that it gets the lock back soon.

    A thread that wants the lock waits for up to the interpreter's switch interval, 5 ms, while another thread
    computes. Waiting for it twice would exceed the promised 10 ms. So the interval is shortened during the call.
    It is left alone afterwards if the program has changed it meanwhile.
    """
    usual = sys.getswitchinterval()
    if usual <= SHORT_INTERVAL:
        fn()
        return
    sys.setswitchinterval(SHORT_INTERVAL)
    try:
        fn()
    finally:
        if abs(sys.getswitchinterval() - SHORT_INTERVAL) < SHORT_INTERVAL / 100:
            sys.setswitchinterval(usual)


def _await_exit(native_id: int) -> None:
    """Wait, at most 20 ms, until the system has removed a thread that has ended. Without /proc, do not wait."""
    nap = os_threads.Lock()
    nap.acquire()
    for _ in range(100):
        if not os.path.exists(f'/proc/self/task/{native_id}'):
            break
        nap.acquire(timeout=0.0002)


send_thread = SendThread()
