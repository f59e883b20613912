"""connection.update-secret: a new secret for a connection that is open, since OAuth 2 tokens have an end.

Layer 4, a base class of Connection. Does not belong here: when that is done by itself (``secret_renewal``), and what is
sent to log in (``handshake``, ``sasl``).
"""

from __future__ import annotations

from .. import green
from ..channel.request import Requester
from ..state.expected_replies import Expected
from ..wire import METHODS
from ..wire.spec import Connection as Spec

__all__ = ('SecretUpdates',)


class SecretUpdates(Requester):
    """Mixin of Connection."""

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
        # Not by _call, which has the arguments, and so the secret, in its frame while it waits.
        self._check(Spec.UpdateSecret)
        expected = Expected(METHODS[Spec.UpdateSecret].replies, green.Slot(self._connection._green))
        # Does not switch. The frame goes into the send queue as bytes, and is dropped there when it is sent.
        self._ask(Spec.UpdateSecret, (secret, reason), expected)
        del new_secret, secret  # an error is often stored with all that is here
        # Switches. RabbitMQ refuses by closing the connection; then this raises the reason of that close.
        self._await_reply(expected, Spec.UpdateSecret, None)
