"""What callable passwords have given for one login, and when that ends.

Layer 4, held by Connection; each ``connect`` has its own. A callable may take its time, so it is asked before the
socket is opened; the mechanism that logs in takes what it has given. Nothing of it is kept afterwards, so that no
error report can show it.
Does not belong here: the mechanisms (``sasl``), and the renewal of what has an end (``secret_renewal``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..state import token_expiry

__all__ = ('CallablePasswords',)


class CallablePasswords:
    """Of one login. end: of what was given last, in seconds since 1970, if it is a token that tells; else None."""

    __slots__ = ('_given', 'end')

    def __init__(self) -> None:
        # By id, since a callable need not be hashable; the mechanisms hold the callables, so no id is used again
        # meanwhile.
        self._given: dict[int, Any] = {}  # id of a callable -> what it has given
        # Not forgotten with _given: it is no secret, and the renewal plans by it.
        self.end: float | None = None

    def __repr__(self) -> str:
        return f'<CallablePasswords {len(self._given)} given, end {self.end}>'

    def ask(self, callables: Iterable[Callable[[], Any]]) -> None:
        """Ask each callable once, for the login that follows. Switches if the callables do."""
        # No local variable holds what was given while a callable runs: its error is often stored with all that is in
        # the frames, and what the object holds is forgotten by then.
        for one in callables:
            # Two mechanisms may have the same callable. It is asked once, since a server of tokens may count the calls.
            if id(one) not in self._given:
                password = one()  # switches if the callable does
                self.end = token_expiry.end_of(password) if isinstance(password, str) else None
                self._given[id(one)] = password
                del password

    def take(self, one: Callable[[], Any]) -> Any:
        """What this callable has given for the login that is under way. Asks it if nobody has."""
        if id(one) in self._given:
            # Taken out: from here on only the caller's frame holds it.
            return self._given.pop(id(one))
        # A mechanism of the program, or a second question of the broker: may switch, within connect_timeout.
        return one()

    def forget(self) -> None:
        """The login is over, or has failed."""
        self._given.clear()

    @property
    def is_empty(self) -> bool:
        """Whether nothing that was given is kept."""
        return not self._given
