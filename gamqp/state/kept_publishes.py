"""Publishes that a loss has left without a confirm, and that go out again: each with its frames, and who waits for it.

State, no I/O. Does not belong here: which of them go out again, and when (``gamqp.recovery``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from .confirm_matching import Barrier, Confirms
from .confirms_at_end import Ending
from .return_matching import Frames, Key
from .waiter_protocols import MakeError, PublishWaiter

__all__ = ('KeepingConfirms', 'Kept', 'KeptPublishes', 'hand_over')


class Kept(NamedTuple):
    """One publish. observer: see ``Confirms.observe``. key: of a mandatory one."""

    frames: Frames
    waiter: PublishWaiter | None
    observer: Callable[[Any], Any] | None
    key: Key | None


class KeepingConfirms(Confirms):
    """Keeps the frames of each publish until it is settled.

    unsent: the lowest tag of those that have not been sent, where the rest may have been.
    """

    __slots__ = ('frames', 'unsent')

    def __init__(self, walk: Callable[[Iterator[bool | None]], Any] | None = None) -> None:
        super().__init__(walk)
        self.frames: dict[int, Frames] = {}
        self.unsent = 0

    def enter(self, tag: int, waiter: PublishWaiter | None = None, frames: Frames | None = None) -> None:
        if frames is not None:
            self.frames[tag] = frames
        super().enter(tag, waiter)

    def _settle(self, tag: int, ok: bool) -> None:
        self.frames.pop(tag, None)
        super()._settle(tag, ok)

    def fail_all(self, make_error: MakeError, unsent: int = 0, make_unsent: MakeError | None = None) -> Ending:
        self.frames = {}
        return super().fail_all(make_error, unsent, make_unsent)

    def get(self, tag: int) -> Kept | None:
        """This publish, which stays here until ``remove``. None if it has been settled, or has its verdict."""
        if tag not in self.waiting or self.covers(tag):
            return None
        observer = None if self._observers is None else self._observers.get(tag)
        key = None if self._mandatory is None else self._mandatory.key(tag)
        return Kept(self.frames[tag], self.waiting[tag], observer, key)

    def remove(self, tag: int) -> None:
        """It is somewhere else now."""
        del self.waiting[tag], self.frames[tag]
        if self._observers is not None:
            self._observers.pop(tag, None)
        if self._mandatory is not None and self._mandatory.forget(tag):
            self._mandatory = None

    def barriers_up_to(self, tag: int | None) -> Iterator[Barrier]:
        """Take out the barriers for publishes up to this one; None for all."""
        while self._barriers and (tag is None or self._barriers[0].tag <= tag):
            yield self._barriers.popleft()


class KeptPublishes:
    """Of one channel, oldest first.

    plain: frames of those without confirms. sources: the others. frame_max: of the connection that was lost. streams:
    returns whether a queue is known as a stream. make_error, make_unsent: make the errors of those that cannot go out
    again.
    """

    __slots__ = ('frame_max', 'is_stream', 'make_error', 'make_unsent', 'plain', 'sources')

    def __init__(
        self, frame_max: int, is_stream: Callable[[str], bool], make_error: MakeError, make_unsent: MakeError
    ) -> None:
        self.plain: deque[Frames] = deque()
        self.sources: deque[KeepingConfirms] = deque()
        self.frame_max = frame_max
        self.is_stream = is_stream
        self.make_error = make_error
        self.make_unsent = make_unsent

    def __len__(self) -> int:
        """Those that somebody wants a confirm for."""
        return sum(map(len, self.sources))

    def __bool__(self) -> bool:
        return bool(self.plain or self.sources)


def hand_over(source: Confirms, tags: list[int], frames: Iterable[Frames], to: KeepingConfirms) -> None:
    """Move the latest publishes of *source* to an empty object, in which they have the same tags.

    And the barriers that wait for them, unless they wait for another one, too.
    """
    if source._observers:
        to._observers = {tag: source._observers.pop(tag) for tag in tags if tag in source._observers}
    for tag, each in zip(tags, frames, strict=True):
        waiter = source.waiting.pop(tag)
        to.published = tag
        key = None if source._mandatory is None else source._mandatory.key(tag)
        if key is None or source._mandatory is None:
            to.enter(tag, waiter, each)
        else:
            source._mandatory.forget(tag)
            to.enter_mandatory(tag, waiter, *key, each)
    if tags and not source.latest(1):
        while source._barriers and source._barriers[-1].tag >= tags[0]:
            to._barriers.appendleft(source._barriers.pop())
