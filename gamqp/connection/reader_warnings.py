"""Warnings of a connection's reader, and what its recovery has to say, on their way to the log.

Layer 4. A log handler is user code and may wait, so one greenlet of its own writes what these have to say, in order.
A broker can cause warnings as fast as it can send, so only so many wait, and so many are written a second; the
others are counted. Does not belong here: what is worth a warning.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ('ReaderWarnings',)

logger = logging.getLogger('gamqp.connection')

# Warnings at once at most: one for each of a few thousand channels that are closed together is noise.
BURST = 100
# Seconds until there may be one more.
PAUSE = 0.1


class _Entry(NamedTuple):
    """One record of the log."""

    logger: logging.Logger
    level: int
    text: str
    args: tuple[Any, ...]
    fields: dict[str, Any]
    error: BaseException | None = None


class ReaderWarnings:
    """The warnings of one connection."""

    __slots__ = ('_allowed', '_greenlet', '_left_out', '_looked_at', '_waiting')

    def __init__(self) -> None:
        # In order of arrival. The reader and the recovery add, and _write takes from the front and formats. While a
        # log handler waits it grows by BURST entries and then by one each PAUSE seconds at most.
        self._waiting: deque[_Entry] = deque()
        # One at a time, so the warnings keep their order.
        self._greenlet: Any = None  # that writes
        # _allowed is how many warnings may come now: one more each PAUSE seconds, BURST at most. What finds less than
        # 1 is counted in _left_out, and the next one that is let in says so.
        self._left_out = 0
        self._allowed = float(BURST)
        self._looked_at = 0.0

    def warn(
        self, spawn: Callable[[Callable[[], None]], Any], text: str, args: tuple[Any, ...], fields: dict[str, Any]
    ) -> None:
        """Have a warning written by a greenlet that ``spawn(function)`` starts. Does not switch.

        fields: of the record, for loggers that write JSON.
        """
        self.write(spawn, logger, logging.WARNING, text, args, fields)

    def write(
        self,
        spawn: Callable[[Callable[[], None]], Any],
        logger: logging.Logger,
        level: int,
        text: str,
        args: tuple[Any, ...],
        fields: dict[str, Any],
        error: BaseException | None = None,
    ) -> None:
        """The same for any level and logger. args: formatted later. error: whose traceback is written, too."""
        # First: where nobody listens nothing is counted, formatted or started.
        if not logger.isEnabledFor(level):
            return
        now = time.monotonic()
        self._allowed = min(float(BURST), self._allowed + (now - self._looked_at) / PAUSE)
        self._looked_at = now
        if self._allowed < 1:
            self._left_out += 1
            return
        self._allowed -= 1
        if self._left_out:
            text, args = '%s (%s warnings before this one were left out)', (text % args, self._left_out)
            self._left_out = 0
        self._waiting.append(_Entry(logger, level, text, args, fields, error))
        if sys.is_finalizing():
            self._write()  # no greenlet runs any more that this could keep waiting, or that could do it
        # dead: one that was killed before it ran has not reset the attribute.
        elif self._greenlet is None or self._greenlet.dead:
            self._greenlet = spawn(self._write)

    def _write(self) -> None:
        try:
            # Switches in a log handler that waits. What the reader adds meanwhile is written, too.
            while self._waiting:
                one = self._waiting.popleft()
                try:
                    one.logger.log(one.level, one.text, *one.args, exc_info=one.error, extra=one.fields)
                except Exception:  # of a filter of the program; those behind it are still to be written
                    if logging.raiseExceptions:  # as logging itself tells what a handler raises
                        traceback.print_exc()
                del one  # and the error with it, while the next one waits
        finally:
            self._greenlet = None  # also when it is killed: the next warning starts another
