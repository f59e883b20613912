"""The renewal of a connection's secret before it ends: OAuth 2 tokens, given by a callable password.

Layer 4. A timer of the hub waits, and a greenlet of its own asks the program for a new
secret and gives it to the broker. Does not belong here: update-secret itself, see ``update_secret``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import greenlet

from .. import exceptions, sasl
from ..state import token_expiry
from ..telemetry.log_fields import log_fields
from .connection_timer import ConnectionTimer

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ('SecretRenewal', 'start')

logger = logging.getLogger('gamqp.connection')

# When a token has lived for this part of its life, it is renewed.
PART = 0.8

# Seconds between two attempts, at least and at most, when the first has failed.
RETRY, LONGEST_RETRY = 1.0, 60.0

# Seconds; a token that claims to live longer is looked after all the same.
LONGEST = 30 * 86400.0

REASON = 'renewed before its end'

# What ends the greenlet or the program. It is no failure of the renewal, and no reason to try again.
ENDS = (greenlet.GreenletExit, KeyboardInterrupt, SystemExit)


def start(connection: Connection) -> SecretRenewal | None:
    """The connection is open: renew its secret before it ends, if the program wants that. Does not switch."""
    rule = connection._settings.refresh_secret
    if not rule:
        return None
    # There is one: SettingAttributes refuses refresh_secret without a callable.
    ask = sasl.callable_passwords(connection.authentication)[0]
    return SecretRenewal(connection, ask, None if rule is True else rule, connection._passwords.end)


class SecretRenewal(ConnectionTimer['Connection']):
    """Renews the secret of an open connection until ``stop``.

    ask: the callable that gives a secret; it may be slow and may switch greenlets.
    interval: seconds, None to go by the end of each token. end: of the first one, in
    seconds since 1970, None if it does not tell.
    """

    def __init__(
        self, connection: Connection, ask: Callable[[], Any], interval: float | None, end: float | None
    ) -> None:
        super().__init__(connection)
        # The connection holds this object, and this one holds the callable and never a secret.
        self._ask = ask
        self._interval = interval
        self._end = end
        # Doubled with each attempt that fails, and reset by the next one that succeeds.
        self._pause = RETRY
        # Needed beside the timer: the greenlet of a renewal may be under way when the connection ends, and would arm
        # the timer again when it comes back.
        self._stopped = False
        self._plan(connection)

    def stop(self) -> None:
        """The connection has ended. Does not switch."""
        self._stopped = True
        super().stop()

    def _plan(self, connection: Connection) -> None:
        """The broker has the present secret."""
        self._pause = RETRY
        if self._interval is not None:
            # From the moment in which the broker has taken the secret, so a slow callable only stretches the
            # interval.
            self._arm(self._interval)
        elif self._end is not None:
            # The wall clock, since exp is a date. A token that has expired already, or is almost over, is renewed
            # soon and not at once: a callable that gives such tokens must not be asked in a loop.
            self._arm(max(RETRY / 2, min(PART * (self._end - time.time()), LONGEST)))
        else:
            logger.warning(
                '%r: refresh_secret=True renews JWTs that say when they end, which the password is not: '
                'give a number of seconds',
                connection,
                extra=log_fields(connection),
            )

    def _due(self, connection: Connection) -> None:
        if not self._stopped:
            # The hub is here, which cannot wait, and the callable may. Only one greenlet at a time: the timer is
            # armed again when it is done.
            self._green.spawn(self._renew)

    def _renew(self) -> None:
        """Body of the greenlet."""
        # From here on this greenlet keeps the connection, until the callable and the broker have answered.
        connection = self._connection_ref()
        if connection is None:
            return
        try:
            # Switches. When it is back the connection may have been closed, or closed and opened again, which has
            # made another SecretRenewal.
            end = self._give(connection)
        except ENDS:
            raise
        except BaseException as exc:
            # RabbitMQ refuses a secret by closing the connection with NotAllowed. So that error comes with _stopped
            # set, and is the one to be reported.
            if self._stopped and not isinstance(exc, exceptions.NotAllowed):
                return  # the connection ended meanwhile, for another reason
            self._complain(connection, exc)
        else:
            # Else the connection is over, and there is nothing to plan.
            if not self._stopped:
                self._end = end
                self._plan(connection)

    def _give(self, connection: Connection) -> float | None:
        """Ask, and tell the broker. Returns when the new secret ends. Switches."""
        # Switches if the callable does. In a list, and taken out of it: an error that is raised while the next call
        # waits is often stored with all that is in its frames.
        answer = [self._ask()]
        end = token_expiry.end_of(answer[0]) if isinstance(answer[0], str) else None
        # The connection ended while the callable was asked: the next login asks it again.
        if not self._stopped:
            connection.update_secret(answer.pop(), REASON)
        return end

    def _complain(self, connection: Connection, error: BaseException) -> None:
        fields = log_fields(connection)
        # The connection is closed; no other attempt follows.
        if self._stopped:
            logger.warning('%r: the broker refused the renewed secret: %s', connection, error, extra=fields)
            return
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_RETRY)
        said = f'{type(error).__name__}: {error}'
        text = '%r: the secret could not be renewed, trying again in %.0f s: %s'
        logger.warning(text, connection, pause, said, extra=fields)
        # The broker goes on with the old secret. Of a token a fifth of its life is left at the first failure.
        self._arm(pause)
