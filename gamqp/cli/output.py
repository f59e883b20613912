"""What a command prints: results on stdout, progress and errors on stderr.

Layer 5. A write to stdout waits until a pipe has room, and only the greenlet that writes waits: a reader that
is slow must not stop the heartbeats. Does not belong here: what is printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from .. import green
from .pictures import Pictures
from .redaction import redacted

__all__ = ('ROOM_OF_A_PIPE', 'Output', 'OutputClosed', 'is_terminal', 'messages')

# The least room that a pipe has when it is reported as writable (PIPE_BUF of POSIX is 512; of Linux 4096, and macOS
# reports it for as much as it then takes).
ROOM_OF_A_PIPE = 512 if sys.platform == 'darwin' else 4096

# Seconds between two lines of progress.
_INTERVAL = 1.0

# The numbers of colours, by the names that rich gives them, too.
_COLOURS = {'red': 31, 'green': 32, 'yellow': 33, 'bright_black': 90}


def messages(count: int) -> str:
    """'1 message', '2,000 messages'."""
    return f'{count:,} message{"" if count == 1 else "s"}'


class OutputClosed(Exception):
    """Whoever read stdout has gone: the command has nothing left to do."""


class Output:
    """stdout and stderr of one command.

    quiet: no progress and no summary. on_closed: called in a greenlet of its own when whoever read stdout has gone
    while there is nothing to write; else the next write raises.
    """

    def __init__(self, quiet: bool = False, on_closed: Callable[[], object] | None = None) -> None:
        self.quiet = quiet
        self._on_closed = on_closed
        self._is_terminal = is_terminal(2)
        self._colours = is_terminal(1) and not os.environ.get('NO_COLOR') and os.environ.get('TERM') != 'dumb'
        self._pictures: Pictures | None = None
        self._next = 0.0  # when progress may be shown again
        self._shown = False  # a line of progress stands on the terminal, without a line feed

    # -- results ---------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Write to stdout. Switches. Raises OutputClosed when nobody reads it any more."""
        if self._on_closed is not None:
            green.backend().spawn(_watch_pipe, self._on_closed)
            self._on_closed = None
        if self._shown:
            self._shown = False
            self._to_stderr('\r\033[K')
        view = memoryview(data)
        try:
            while view:
                select.select([], [1], [])
                view = view[os.write(1, view[:ROOM_OF_A_PIPE]) :]
        except (BrokenPipeError, ConnectionResetError):
            raise OutputClosed from None

    def line(self, text: str) -> None:
        """Write a line of text to stdout."""
        self.write(text.encode('utf-8', 'surrogateescape') + b'\n')

    def result(self, value: Mapping[str, Any]) -> None:
        """Write one line of JSON to stdout."""
        self.line(json.dumps(value, ensure_ascii=False))

    def painted(self, text: str, colour: str) -> str:
        """The text in a colour (red, green, yellow, bright_black), where stdout is a terminal that shows colours."""
        return f'\033[{_COLOURS[colour]}m{text}\033[0m' if self._colours else text

    @property
    def pictures(self) -> Pictures | None:
        """What draws for stdout, where that is a terminal that shows colours and rich is installed; else None."""
        if self._colours and self._pictures is None:
            with contextlib.suppress(ImportError):
                self._pictures = Pictures()
        return self._pictures

    # -- for whoever watches ------------------------------------------------------------

    def progress(self, text: str) -> None:
        """Show how far it is, at most once a second; only on a terminal."""
        now = time.monotonic()
        if not self.quiet and self._is_terminal and now >= self._next:
            self._next = now + _INTERVAL
            self._replace(text)

    def live(self, text: str) -> None:
        """A line a second of what is going on: each in place of the last on a terminal, else below it."""
        if self.quiet:
            return
        if self._is_terminal:
            self._replace(text)
        else:
            self._to_stderr(f'{text}\n')

    def note(self, text: str) -> None:
        """Say something on stderr that is no error: a summary."""
        if not self.quiet:
            self.error(text)

    def error(self, text: str) -> None:
        """Say something on stderr, also when --quiet was given."""
        start = '\r\033[K' if self._shown else ''
        self._shown = False
        self._to_stderr(f'{start}{text}\n')

    def _replace(self, text: str) -> None:
        """Put a line in place of the last one on the terminal: what fits of it, since only one row is replaced."""
        self._shown = True
        text = redacted(text)
        with contextlib.suppress(OSError):
            text = text[: (os.get_terminal_size(2).columns or len(text) + 1) - 1]
        pictures = self.pictures
        self._to_stderr(f'\r\033[K{text if pictures is None else pictures.line(text)}')

    def _to_stderr(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a closed stderr is no reason to end
            os.write(2, redacted(text).encode('utf-8', 'replace'))


def _watch_pipe(on_closed: Callable[[], object]) -> None:
    """Wait until a pipe has no reader any more: its end for writing is reported as readable then, and only then."""
    if stat.S_ISFIFO(os.fstat(1).st_mode):
        select.select([1], [], [])
        on_closed()


def is_terminal(descriptor: int) -> bool:
    """Whether a descriptor is open, and a terminal."""
    try:
        return os.isatty(descriptor)
    except OSError:
        return False
