"""What callable passwords have given for the login that is under way, and when that ends.

Layer 4, held by Connection. A callable may take its time, so it is asked before the socket is opened; the mechanism
that logs in takes what it has given. Nothing of it is kept afterwards, so that no error report can show it.
Does not belong here: the mechanisms (``sasl``), and the renewal of what has an end (``secret_renewal``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..state import token_expiry

__all__ = ('CallablePasswords',)


class CallablePasswords:
    """Of one connection. end: of what was given last, in seconds since 1970, if it is a token that tells; else None."""

    __slots__ = ('_given', 'end')

    def __init__(self) -> None:
        self._given: dict[int, Any] | None = None  # id of a callable -> what it has given
        self.end: float | None = None

    def __repr__(self) -> str:
        return f'<CallablePasswords {len(self._given or ())} given, end {self.end}>'

    def ask(self, callables: Iterable[Callable[[], Any]]) -> None:
        """Ask each callable once, for the login that follows. Switches if the callables do."""
        # No local variable holds what was given while a callable runs: its error is often stored with all that is in
        # the frames, and what the object holds is forgotten by then.
        self._given = {}
        for one in callables:
            if self._given is not None and id(one) not in self._given:
                password = one()
                self.end = token_expiry.end_of(password) if isinstance(password, str) else None
                if self._given is not None:  # else the attempt was given up while the callable took its time
                    self._given[id(one)] = password
                del password

    def take(self, one: Callable[[], Any]) -> Any:
        """What this callable has given for the login that is under way. Asks it if nobody has."""
        if self._given and id(one) in self._given:
            return self._given.pop(id(one))
        return one()

    def forget(self) -> None:
        """The login is over, or has failed."""
        self._given = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing that was given is kept."""
        return self._given is None
