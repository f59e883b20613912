"""A connection's secret: asked for before it is opened, renewed while it is open, for OAuth 2 tokens have an end.

Layer 4, a base class of Connection. Does not belong here: what is sent to log in (``handshake``, ``sasl``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import green, sasl
from ..channel.request import Requester
from ..state import token_expiry
from ..state.expected_replies import Expected
from ..state.settings import Settings
from ..wire import METHODS
from ..wire.spec import Connection as Spec
from .secret_renewal import SecretRenewal

__all__ = ('SecretUpdates',)


class SecretUpdates(Requester):
    """Has ``update_secret``."""

    authentication: tuple[Any, ...]
    _settings: Settings

    # What callable passwords have given for the login that is under way, by the id of the callable.
    _asked: dict[int, Any] | None = None
    _secret_end: float | None = None  # of what was given last, if it is a token that tells
    _renewal: Any

    def _ask_for_passwords(self) -> None:
        """Ask each callable password once, for the login that follows. Switches if the callables do."""
        self._asked = {}
        for ask in sasl.callable_passwords(self.authentication):
            if id(ask) not in self._asked:
                password = self._asked[id(ask)] = ask()
                self._secret_end = token_expiry.end_of(password) if isinstance(password, str) else None
                del password

    def _take_password(self, ask: Callable[[], Any]) -> Any:
        """What this callable has given for the login that is under way. Asks it if nobody has."""
        if self._asked and id(ask) in self._asked:
            return self._asked.pop(id(ask))
        return ask()

    def _forget_passwords(self) -> None:
        self._asked = None

    def _start_renewal(self) -> None:
        """The connection is open: see that its secret does not end before. Does not switch."""
        rule = self._settings.refresh_secret
        if rule:
            ask = sasl.callable_passwords(self.authentication)[0]
            self._renewal = SecretRenewal(self, ask, None if rule is True else rule, self._secret_end)

    def _stop_renewal(self) -> None:
        """The connection is being closed: the broker takes no secret any more. Does not switch."""
        if self._renewal is not None:
            self._renewal.stop()

    def update_secret(self, new_secret: str | bytes, reason: str = '') -> None:
        """Give the broker a new secret for this connection, e.g. a renewed OAuth 2 token. Switches greenlets.

        new_secret: what would be the password now. reason: for the broker's log.
        It counts for this connection only: for the next ones give a callable as
        *password*. With refresh_secret the connection
        does all that itself. Raises NotAllowed when the broker refuses, and has then closed
        the connection, ValueError for a str that is not to be encoded as UTF-8.
        https://www.rabbitmq.com/docs/oauth2
        """
        try:
            secret = new_secret.encode() if isinstance(new_secret, str) else new_secret
        except UnicodeEncodeError:  # which holds the secret, as does the variable
            del new_secret
            raise ValueError('update_secret: the new secret cannot be encoded as UTF-8') from None
        self._check(Spec.UpdateSecret)
        expected = Expected(METHODS[Spec.UpdateSecret].replies, green.Slot(self._connection._green))
        self._ask(Spec.UpdateSecret, (secret, reason), expected)
        del new_secret, secret  # an error is often stored with all that is here
        self._await_reply(expected, Spec.UpdateSecret, None)
