"""The exit codes of the commands, and the errors that stand for one.

Layer 5. Does not belong here: which error of a broker means which code (``running``).
"""

from __future__ import annotations

__all__ = ('FAILED', 'INTERRUPTED', 'NOTHING', 'OK', 'USAGE', 'CommandFailed', 'NothingThere', 'UsageError')

OK = 0
FAILED = 1
NOTHING = 2  # no such queue or exchange, no message, no queue that takes a message
USAGE = 64  # EX_USAGE of sysexits.h
INTERRUPTED = 130  # what a shell reports of a process that ended by SIGINT


class UsageError(Exception):
    """What was asked for makes no sense; nothing was done. The text is for the user."""


class CommandFailed(Exception):
    """The command could not do what it was asked for. The text is for the user."""


class NothingThere(Exception):
    """There was nothing to work on, or nowhere to put it. The text is for the user."""
