"""Transport: kombu's own transport of py-amqp with gamqp in its place.

Layer 5. What kombu's transport does it does as well, with the differences below. Does not belong here:
what a connection does once it is open.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from kombu.transport import pyamqp

from ..about import __version__
from .channel import Connection
from .choice import OPTION, means_gamqp, say_what_follows
from .drain_events import drain_events
from .failover import keep_transport
from .opening import open_once
from .py_amqp_errors import derive_from_py_amqp
from .url import connection_uri, take_urls_apart

__all__ = ('SSLTransport', 'Transport')

derive_from_py_amqp()

# Seconds to send what is queued, and to get an answer after all, on a connection where the last question got none.
LAST_WORD = 0.1

# kombu.Connection -> makes the error of a loss that its consumers have not heard of. It stays here until drain_events
# raises it: kombu makes new transports and connections meanwhile, and an attempt to connect may fail.
_unraised: weakref.WeakKeyDictionary[Any, Callable[[], BaseException]] = weakref.WeakKeyDictionary()


def _both(kind: str) -> tuple[type[BaseException], ...]:
    """The errors of a kind, py-amqp's and ours: kombu raises some of py-amqp's itself."""
    return tuple(dict.fromkeys((*getattr(pyamqp.Transport, kind), *getattr(Connection, kind))))


class Transport(pyamqp.Transport):  # type: ignore[misc]  # kombu has no types
    """``gamqp.kombu:Transport``, for kombu.Connection's *transport* and Celery's ``broker_transport``.

    * In a process that neither gevent nor eventlet has patched by the time it connects, the connection is
      py-amqp's, by kombu's own transport, and the log says so once (INFO, ``gamqp.kombu``). So workers of
      greenlets and programs without any share one configuration. ``transport_options={'gamqp': 'always'}`` has
      gamqp's there too, with a warning of what does not work then.
    * ``transport_options`` are arguments of ``gamqp.Connection``; names that it does not know are left out.
      ``confirm_publish`` is True unless they say otherwise: a publish returns when the broker has the message. Any
      number of greenlets may publish on one connection and one channel at the same time.
    * A connection that is lost while it has consumers is heard of by ``drain_events``, once, before kombu has opened
      another one or after: another greenlet that publishes with a retry cannot hide it.
    * A greenlet that drains a connection without consumers after one that has some does not wait there while it
      has messages to handle, and then handles all that have arrived, for 10 ms at most. Celery's worker does so.
    * Greenlets that need the connection at the same time open one.
    * All errors are of py-amqp's classes as well.
    * ``amqps://`` turns TLS on, gamqp's or py-amqp's, also where the transport is given by name; with ``ssl`` (Celery:
      ``broker_use_ssl``) it has the options of that. No value of ``ssl`` turns it off again.
    * A transport that is given by name is kept when kombu goes on to the next URL of a list, with ``amqp://`` and
      ``amqps://``.
    * *password* may be a callable, which is asked at each connect, and again before its token ends
      with ``refresh_secret`` among the ``transport_options``.
    * ssl=True verifies the broker's certificate and its host name.
    """

    can_parse_url = True  # so that kombu does not lose the scheme
    client: Any  # the kombu.Connection; kombu sets it to None when it drops the transport
    _means_tls = False

    connection_errors = _both('connection_errors')
    channel_errors = _both('channel_errors')
    recoverable_connection_errors = _both('recoverable_connection_errors')
    recoverable_channel_errors = _both('recoverable_channel_errors')

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        keep_transport(client, self._means_tls)

    def driver_version(self) -> str:
        """The version of what a connection opened now would be: of gamqp, or of py-amqp."""
        return __version__ if means_gamqp(self.client.transport_options) else str(super().driver_version())

    def as_uri(self, uri: str, include_password: bool = False, mask: str = '**') -> str:
        """The URI of *client*, whatever *uri*. Does not switch.

        Where the transport was named it begins with ``gamqp://`` or ``gamqps://``, and with the password, as programs
        use it to connect, with ``amqp://`` or ``amqps://``.
        """
        if self.client.uri_prefix:
            raise NotImplementedError  # kombu puts it before the host name
        return connection_uri(self.client, include_password, mask)

    def establish_connection(self) -> Any:
        """Open a connection to the broker of *client*, gamqp's or py-amqp's. Switches greenlets as ``connect`` does."""
        client = self.client
        if client._closed:
            _unraised.pop(client, None)  # the program has closed it, and knows that its consumers are gone
        say_what_follows(client.transport_options)
        if not means_gamqp(client.transport_options):
            return super().establish_connection()
        for name, value in self.default_connection_params.items():
            if not getattr(client, name, None):
                setattr(client, name, value)
        options = {
            'host': client.host,
            'userid': client.userid,
            'password': client.password,
            'login_method': client.login_method,
            'virtual_host': client.virtual_host,
            'ssl': client.ssl,
            'connect_timeout': client.connect_timeout,
            'heartbeat': client.heartbeat,
            'confirm_publish': True,
            **(client.transport_options or {}),
        }
        options.pop(OPTION, None)

        def connect() -> Connection:
            connection = Connection(**options)
            connection.client = client
            connection.connect()
            return connection

        return open_once(client, connect)

    def drain_events(self, connection: Any, timeout: float | None = None, **kwargs: Any) -> None:
        """Wait for an event of *connection* and run its callback, for at most *timeout* seconds. Switches greenlets.

        Raises TimeoutError (socket.timeout) when nothing came, and why a connection ended that had consumers.
        """
        if not isinstance(connection, Connection):
            connection.drain_events(timeout=timeout, **kwargs)
            return
        # By the connection's client: kombu may have made another transport while it opened the connection.
        if connection.client in _unraised:
            raise _unraised.pop(connection.client)()
        drain_events(connection, timeout)

    def _collect(self, connection: Any) -> None:
        self._keep_loss(connection)
        super()._collect(connection)

    def close_connection(self, connection: Any) -> None:
        """Close the connection, with the consent of the broker. Switches greenlets."""
        self._keep_loss(connection)
        if isinstance(connection, Connection) and connection.left_a_close_unanswered:
            # kombu has closed a channel first, which took as long as a broker may be silent.
            connection.client = None
            connection.close(timeout=LAST_WORD)
        else:
            super().close_connection(connection)

    def _keep_loss(self, connection: Any) -> None:
        """*connection* is about to be forgotten: what its consumers should have heard of is kept for the next one."""
        loss = connection._unraised_loss if isinstance(connection, Connection) else None
        if loss is not None and connection.client is not None:
            _unraised.setdefault(connection.client, loss)


class SSLTransport(Transport):
    """The same with TLS, for ``gamqps://``; *ssl* of the kombu.Connection may have its options."""

    _means_tls = True

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        if not client.ssl:
            client.ssl = True


take_urls_apart(Transport)
