"""What the connections of a pool are made of: its URLs, or a callable that gives connections or URLs.

Layer 5. Does not belong here: when one is made, and opening it (``opening_connections``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from ..connection.by_uri import connection_to
from ..connection.connection import Connection
from ..connection.hosts import Hosts, hosts_of
from ..state.host_order import Address
from ..state.secret_hiding import discreet

__all__ = ('ConnectionMaker', 'Source')

#: What a Pool takes as *url*.
Source: TypeAlias = str | Iterable[str] | Callable[[], str | Iterable[str] | Connection]


# The old ones would come back, for those who still have channels of them, beside the ones that replace them.
NO_RECOVERY = (
    'recover: a Pool replaces the connections that it loses by itself, and with recover as well it would have more of '
    'them than it may; leave it out'
)


class ConnectionMaker:
    """Makes the connections of one pool, which share what is known of each host.

    Arguments as ``connection.hosts.hosts_of``; loads: returns how many open connections the pool has to each host.
    where: for logs and errors.
    """

    __slots__ = ('_arguments', '_call', '_hosts', 'where')

    @discreet
    def __init__(
        self,
        url: Source,
        arguments: Mapping[str, Any],
        others: Iterable[str],
        shuffle: bool,
        loads: Callable[[], Mapping[Address, int]],
    ) -> None:
        self._call: Callable[[], Any] | None = url if callable(url) else None
        if arguments.get('recover'):
            raise ValueError(NO_RECOVERY)
        self._arguments = sorted(arguments)
        # A callable that makes connections is no different from one for URLs before it is called.
        self._hosts: Hosts = hosts_of(url, arguments, 'Pool', others, shuffle, loads)  # type: ignore[arg-type]
        if self._call is None:
            connection_to(self._hosts)  # raises now if an argument is wrong
            self.where = self._hosts.where
        else:
            self.where = getattr(url, '__qualname__', type(url).__name__)

    def __call__(self) -> Connection:
        """A new Connection, open or not. Switches if the program's callable does; raises what it raises."""
        if self._call is None:
            return connection_to(self._hosts)
        # In a list, and taken out of it: no frame of an error that is raised below shows the URLs.
        made = [self._call()]
        if not isinstance(made[0], Connection):
            return connection_to(self._hosts.given(made))
        if self._arguments:
            names = ', '.join(self._arguments)
            raise TypeError(f'a Pool whose connections a callable makes takes no {names}')
        connection: Connection = made.pop()
        if connection._recovery is not None:
            connection.collect()  # it may be open
            raise ValueError(NO_RECOVERY)
        return connection
