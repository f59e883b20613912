"""Why none of several hosts, or of several addresses of a host, could be connected to: one error that says it of each.

State, no I/O. Does not belong here: whether another one is tried after a failure.
"""

from __future__ import annotations

import copy

from .. import exceptions

__all__ = ('ConnectFailures',)

# The most characters of what is said about one of them.
SAID = 300


class ConnectFailures:
    """The failures of one attempt, in order.

    The class that is raised is that of the most telling one, since programs decide by it what to do; among
    equals the last counts. A refused login tells more than anything else: the other hosts of a cluster have the same
    users. Then come other refusals that will not change by themselves, TLS, a broker that hung up, and a network that
    did not answer; a refused connection tells least, because it is what every node says that is down.
    """

    __slots__ = ('_all',)

    def __init__(self) -> None:
        self._all: list[tuple[str, Exception]] = []

    def add(self, where: str, error: Exception) -> None:
        """This is why it failed there."""
        self._all.append((where, error))

    def take_error(self) -> Exception:
        """The error to raise, which is the one that there is, or a new one. The failures are forgotten."""
        # Forgotten, since the traceback of an error refers to the frame that has this object.
        failures, self._all = self._all, []
        if len(failures) == 1:
            return failures[0][1]
        chosen = max(range(len(failures)), key=lambda number: (_weight(failures[number][1]), number))
        where, best = failures[chosen]
        others = '; '.join(_said(*one) for number, one in enumerate(failures) if number != chosen)
        return _with_text(best, f'also {others}' if where in str(best) else f'at {where}; {others}')


def _weight(error: Exception) -> int:
    if isinstance(error, exceptions.AccessRefused):
        return 5
    if isinstance(error, exceptions.AMQPError):
        return 2 if isinstance(error, exceptions.RecoverableConnectionError) else 4
    if hasattr(error, 'library') or hasattr(error, 'verify_code'):  # of the ssl module, which is not known here
        return 3
    return 0 if isinstance(error, ConnectionRefusedError) else 1


def _said(where: str, error: Exception) -> str:
    text = str(error)
    if where not in text:
        text = f'{where}: {type(error).__name__}: {text}'
    return text if len(text) <= SAID else f'{text[:SAID]}…'


def _with_text(error: Exception, more: str) -> Exception:
    """A copy of the error, without its traceback, whose text has *more* at the end."""
    try:
        new = copy.copy(error)
    except Exception:  # a class of the program whose objects cannot be copied
        return exceptions.RecoverableConnectionError(f'{type(error).__name__}: {error} ({more})')
    new.__cause__, new.__suppress_context__ = error.__cause__, error.__suppress_context__
    if isinstance(new, exceptions.AMQPError):
        new.hint = f'{new.hint}; {more}' if new.hint else more
    elif isinstance(new, OSError) and new.errno is not None:
        new.strerror = f'{new.strerror} ({more})'
        new.args = (new.errno, new.strerror)
    else:
        new.args = (f'{error} ({more})',)
    return new.with_traceback(None)
