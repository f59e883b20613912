"""A connection by the URI of a broker: ``gamqp.connect``.

Layer 4. Does not belong here: what a URI means (``state.uri``, ``state.connection_settings``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..state import connection_settings
from .connection import Connection
from .typed_keywords import ConnectionArguments

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ('connect',)


def connect(url: str = 'amqp://guest:guest@localhost:5672', **arguments: Unpack[ConnectionArguments]) -> Connection:
    """An open Connection to an AMQP URI. Switches greenlets.

    arguments: those of Connection; they go before the URI's. Raises ValueError
    for a URI that cannot be understood and for a value that cannot be meant,
    TypeError for an argument that Connection does not have, and what
    ``Connection.connect`` raises.
    """
    try:
        connection = Connection(**connection_settings.from_uri(url, arguments).arguments())
    finally:
        del url, arguments  # which hold the password; errors are often stored with all that is in their frames
    # Switches. If it raises nothing is left open, so the object that nobody has got is simply dropped.
    connection.connect()
    return connection
