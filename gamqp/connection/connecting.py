"""How a connection is opened: the password, the socket, what serves it, the opening conversation, on_open.

Layer 4, the body of ``Connection.connect``. Each step may take its time and may be interrupted; another greenlet
may close the connection meanwhile, which is looked at after each. Does not belong here: what is said (``handshake``).
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from .. import green, sasl
from ..basic_message import Message
from ..io.link import Link
from ..state import connection_settings
from ..telemetry import stats
from ..transport import TCPTransport, Transport
from ..wire import Decoder
from . import handshake, secret_renewal
from .dispatch import OpenChannels

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ('run',)


def run(connection: Connection) -> None:
    """Open a Connection that is new or closed, and call its on_open. Switches.

    Raises why it could not, or what on_open raises, and has left nothing open then.
    """
    attempt = _open(connection)
    if connection.on_open is not None:
        try:
            # Switches if the program does. Another greenlet may close the connection meanwhile, and open it again: then
            # it is not this one's to close.
            connection.on_open(connection)
        except Exception:
            if connection._attempt is attempt:
                connection.close()  # gamqp.connect returns nothing that could be closed
            raise
        except BaseException:
            if connection._attempt is attempt:
                connection.collect()  # killed: no time to wait for the broker
            raise


def _open(connection: Connection) -> object:
    """Everything but on_open. Returns what identifies this attempt. Switches."""
    # Each attempt has an object of its own: after every wait it tells whether another greenlet has closed the
    # connection, or has even begun to open it again, meanwhile.
    backend = green.backend()
    transport = _make_transport(connection, backend)  # raises for a host that is none: before anything has begun
    attempt = connection._begin(backend)
    passwords = connection._passwords
    try:
        # Switches, for as long as the program likes: a token may come from a server. close() in another greenlet ends
        # the attempt, which is noticed in the next line.
        passwords.ask(sasl.callable_passwords(connection.authentication))
        connection._check_opening(attempt)
        # Begins here: the passwords had their own time.
        deadline = green.Deadline(connection.connect_timeout)
        # Switches. The addresses are tried in order, and TLS is part of it.
        transport.connect(deadline)
        connection._check_opening(attempt)
        _serve(connection, transport)
        # Switches. From here on the reader runs, and what it finds may end the link; each wait of the handshake
        # raises that.
        handshake.run(connection, deadline)
        connection._check_opening(attempt)
        _note_opened(connection)
        return attempt
    except BaseException as exc:
        # The transport by itself, since the connection knows of it only from _serve on.
        transport.close()
        # Only this attempt: if another greenlet has closed the connection and opens it again, that one goes on.
        connection._give_up(attempt, exc)
        raise
    finally:
        # Also after an error, so that no secret stays in the object.
        passwords.forget()


def _make_transport(connection: Connection, backend: ModuleType) -> TCPTransport:
    return Transport(
        connection.host,
        connection.connect_timeout,
        connection.ssl,
        read_timeout=connection.read_timeout,
        write_timeout=connection.write_timeout,
        socket_settings=connection.socket_settings,
        backend=backend,
    )


def _serve(connection: Connection, transport: TCPTransport) -> None:
    """Start the reader and the writer of a socket that is connected."""
    limits = connection_settings.FRAME_MAX, connection.max_inbound_body
    # The decoder lives as long as the link, and so gets no strong reference to the connection.
    decoder = Decoder(Message, *limits, OpenChannels(connection), connection._peer_memory)
    write_timeout, in_thread = connection.write_timeout, connection.heartbeat_thread
    # Nothing here switches, so no other greenlet sees a transport that is connected and served by nobody.
    link = Link(connection._green, transport, decoder, connection, connection._counts, write_timeout, in_thread)
    # Before the reader starts, which gives what it reads to the connection's objects, and those look at the link.
    connection._use_link(link)
    link.start_reading()


def _note_opened(connection: Connection) -> None:
    """The broker has opened the connection: what goes on as long as it is open begins."""
    # First: what is called below, and may ask, finds an open connection.
    connection._life.move('opened')
    # Here and not in _begin: attempts that failed do not count.
    connection._counts.opened += 1
    connection._renewal = secret_renewal.start(connection)
    connection._watch_reading(connection.read_timeout)
    stats.notify_observers(connection)
    if connection.metrics is not None:
        # Stopped and dropped in Dispatch._end, as the others are.
        connection._pump = stats.MetricsReporter(connection, connection.metrics_interval)
