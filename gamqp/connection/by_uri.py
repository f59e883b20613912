"""A connection by the URI of a broker, or of several: ``gamqp.connect``.

Layer 4. Does not belong here: what a URI means (``state.uri``, ``state.url_list``), and in which order hosts are tried
(``hosts``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..state.argument_checks import flag
from .connection import Connection
from .hosts import URL, Hosts, hosts_of
from .typed_keywords import ConnectionArguments

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ('connect', 'connection_to')


def connect(
    url: URL = 'amqp://guest:guest@localhost:5672', *, shuffle: bool = True, **arguments: Unpack[ConnectionArguments]
) -> Connection:
    """An open Connection to an AMQP URI, or to the first of several that lets us in. Switches greenlets.

    url: one; several with semicolons between them; a list of them; or a callable that
    returns any of these, asked by this call and by each later ``connect()`` of
    the connection, which may take its time. They may differ in everything that a URI says,
    e.g. user and password. shuffle: try them in a random order, and so spread the clients
    over the nodes; False for the order that is given. Either way those that have failed
    in the last minute come behind the others. connect_timeout is for all of them together, and
    each has an equal share of what is left of it.

    arguments: those of Connection; they go before what a URI says. Raises ValueError
    for a URI that cannot be understood and for a value that cannot be meant,
    TypeError for an argument that Connection does not have, and what
    ``Connection.connect`` raises. Where several hosts have failed that is the most telling of
    their errors, AccessRefused before all others, and its text says it of each.
    """
    try:
        connection = connection_to(hosts_of(url, arguments, 'connect', ('shuffle',), flag('shuffle', shuffle)))
    finally:
        del url, arguments  # which hold the password; errors are often stored with all that is in their frames
    # Switches. If it raises nothing is left open, so the object that nobody has got is simply dropped.
    connection.connect()
    return connection


def connection_to(hosts: Hosts) -> Connection:
    """A Connection to these, not connected yet. Raises what Connection does."""
    connection = Connection(**hosts.base.arguments())
    connection._hosts = hosts
    return connection
