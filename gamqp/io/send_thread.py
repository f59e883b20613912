"""The sending thread: one thread of the operating system that sends what hubs leave waiting, and beats for them.

Layer 2. One for the whole process. A hub that gets no turn (the program computes,
blocks natively, or never lets it run) cannot send what calls have handed over; this
thread does it within 10 ms, and sends heartbeats for connections that ask for it. It is
started when a writer first holds something, sleeps while none does, ends after a
while of that, and is started again when it is needed. It keeps neither the process nor a
connection alive, and never logs: a log handler is user code, and this is no thread of the
user's. What must not enter: what to do for a connection; that is ``HubWriters.help`` and ``WriterThreadSide.attend``.
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
from typing import Any

from ..green import os_threads

__all__ = ('LOOK', 'SendThread', 'in_a_hurry', 'send_thread')

# Seconds between two looks at a writer that holds something. Two of them (what was sent so short
# a time ago is left to the hub), and the 5 ms that a thread may have to wait for the interpreter
# lock, make less than 10.
LOOK = 0.002

# Seconds to the next look after a fault of ours.
AFTER_FAULT = 0.1

# Seconds without anything to do after which the thread ends.
LINGER = 1.0

# Seconds between two looks at heartbeats at most: after a fault of ours it must not sleep for good.
LONGEST = 60.0

# Seconds that the thread gets to end before a fork, and at the end of the interpreter.
STOP = 0.2

# Seconds of the interpreter's switch interval while it encrypts.
HURRY = 0.0005

# Python from 3.12 on warns of forks in processes that have several threads.
_WARNS_OF_FORKS = sys.version_info >= (3, 12)


class SendThread:
    """Helps hubs whose writers hold something, by ``help(now)``, and writers with heartbeats, by ``attend(now)``.

    Both return the seconds until they are to be called again; ``help`` None when there is nothing to do.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew; in a forked child the thread is gone, and perhaps held the lock."""
        # Reentrant, because an object that is collected in the middle of add may be one to discard.
        self._lock = os_threads.RLock()
        self._wake = os_threads.Lock()
        self._wake.acquire()
        self._ended = os_threads.Lock()  # of the thread that was started last: taken until it ends
        self._members: dict[int, weakref.ref[Any]] = {}
        self._added = False  # members that the thread does not know yet
        self._beats_at = 0.0  # when the next heartbeat of any member may be due; the thread's alone
        self._new: deque[tuple[float, Any]] = deque()  # since when it holds something, and the writer
        self._held: list[tuple[float, int, Any]] = []  # a heap: when to look next; the thread's alone
        self._number = itertools.count()
        self._sleeps = False  # for long, and has to be woken
        self._stopping = False
        self._native_id = 0
        self.running = False

    @property
    def beats(self) -> bool:
        """Whether it has connections to beat for."""
        return bool(self._members)

    def add(self, member: Any) -> None:
        """Beat for it from now on, or from ``resume`` on. Raises RuntimeError when no thread can be started.

        Does not switch.
        """
        with self._lock:
            self._members[id(member)] = weakref.ref(member)
            self._added = True
            if not self._stopping:  # for the fork of another thread, or at the end of the interpreter
                self._start()

    def discard(self, member: Any) -> None:
        """Does not wait for a look that is under way. Does not switch."""
        with self._lock:
            if self._members.pop(id(member), None) is not None and not self._members:
                self._nudge()

    def hold(self, writers: Any) -> None:
        """They hold something: help until they hold nothing. Raises RuntimeError as ``add`` does. Does not switch."""
        with self._lock:
            self._start()
            self._new.append((time.monotonic(), writers))

    def stop(self) -> None:
        """End the thread, and wait for that; no other one is started before ``resume``. Does not switch.

        Those that hold nothing any more are let go of, so that ``resume`` need not start it again for them.
        """
        with self._lock:
            self._stopping = True
            running, ended, native_id = self.running, self._ended, self._native_id
            self._nudge()
        if running and ended.acquire(timeout=STOP):
            ended.release()
            if _WARNS_OF_FORKS and native_id:
                _await_exit(native_id)
            self._take_new()
            self._held = [entry for entry in self._held if not entry[2].let_go()]
            heapq.heapify(self._held)

    def resume(self) -> None:
        """After ``stop``, go on with what there is to do. Does not switch."""
        with self._lock:
            self._stopping = False
            if self._has_work:
                try:
                    self._start()
                except RuntimeError:
                    pass  # there will be another occasion, and the hubs do without

    def _start(self) -> None:
        if self._stopping:
            raise RuntimeError('the sending thread is stopped')
        if self.running:
            self._nudge()
            return
        self.running = True  # first: a signal handler may come here
        ended = os_threads.Lock()
        ended.acquire()
        try:
            os_threads.start_new_thread(self._run, (self._wake, ended))
        except BaseException:
            self.running = False
            raise
        self._ended = ended

    def _nudge(self) -> None:
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
                with self._lock:
                    if self._stopping or not (self._has_work or now - idle_since < LINGER):
                        self.running = False
                        return
                    if self._new or self._added:
                        pause = LOOK
                    self._sleeps = pause > LOOK
                self._sleep(wake, pause)
        except BaseException:
            self.running = False  # so that there will be another one
            raise
        finally:
            ended.release()

    @property
    def _has_work(self) -> bool:
        return bool(self._new or self._held or self._members)

    def _sleep(self, wake: Any, seconds: float) -> None:
        if wake.acquire(timeout=max(seconds, 0.001)):
            return
        with self._lock:
            if self._sleeps:
                self._sleeps = False
            else:
                wake.acquire(False)  # it was short, or somebody woke us just now

    def _help(self, now: float) -> float:
        """Look at those that hold something, where it is time. Returns seconds until the next look."""
        self._take_new()
        held = self._held
        while held and held[0][0] <= now:
            writer = heapq.heappop(held)[2]
            try:
                pause = writer.help(now)
            except Exception:
                pause = AFTER_FAULT  # nothing of one connection may end the service of the others
            if pause is not None:
                heapq.heappush(held, (now + pause, next(self._number), writer))
        return held[0][0] - now if held else LONGEST

    def _take_new(self) -> None:
        """Each is looked at once: what was to come later comes now."""
        new = self._new
        while new:
            since, writer = new.popleft()
            if any(entry[2] is writer for entry in self._held):
                self._held = [entry for entry in self._held if entry[2] is not writer]
                heapq.heapify(self._held)
            heapq.heappush(self._held, (since + LOOK, next(self._number), writer))

    def _beat(self, now: float) -> float:
        """Look at heartbeats, where it is time. Returns seconds until the next look."""
        if not self._members:
            return LONGEST
        added, self._added = self._added, False
        if now < self._beats_at and not added:
            return self._beats_at - now
        pause = LONGEST
        members = self._take_members()
        while members:
            pause = min(pause, self._look(members.pop()))
        self._beats_at = now + pause
        return pause

    def _take_members(self) -> list[Any]:
        """Those that are alive."""
        with self._lock:
            for key, ref in list(self._members.items()):
                if ref() is None:
                    del self._members[key]
            return [member for ref in self._members.values() if (member := ref()) is not None]

    def _look(self, member: Any) -> float:
        try:
            return float(member.attend(time.monotonic()))
        except Exception:
            return LONGEST


def in_a_hurry(fn: Callable[[], Any]) -> None:
    """Call fn, which lets go of the interpreter lock while it encrypts, and get it back soon from a hub that computes.

    A thread that wants the lock waits for the interpreter's switch interval, 5 ms: a second time
    would be too late. So the interval is shorter for this moment, unless somebody else changes it.
    """
    usual = sys.getswitchinterval()
    if usual <= HURRY:
        fn()
        return
    sys.setswitchinterval(HURRY)
    try:
        fn()
    finally:
        if abs(sys.getswitchinterval() - HURRY) < HURRY / 100:
            sys.setswitchinterval(usual)


def _await_exit(native_id: int) -> None:
    """Wait a moment until the system, too, has noticed that a thread has ended. Where it does not tell, do not."""
    nap = os_threads.Lock()
    nap.acquire()
    for _ in range(100):
        if not os.path.exists(f'/proc/self/task/{native_id}'):
            break
        nap.acquire(timeout=0.0002)


send_thread = SendThread()
