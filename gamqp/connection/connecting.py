"""How a connection is opened: host after host, the password, the socket, what serves it, the handshake, on_open.

Layer 4, the body of ``Connection.connect``. Each step may take its time and may be interrupted; another greenlet
may close the connection meanwhile, which is looked at after each. Does not belong here: what is said (``handshake``),
and which hosts there are (``hosts``).
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .. import exceptions, green, sasl
from ..basic_message import Message
from ..io.link import Link
from ..state import connection_settings
from ..state.connect_failures import ConnectFailures
from ..state.connection_settings import Settings
from ..telemetry import stats
from ..telemetry.log_lines import say
from ..transport import TCPTransport, Transport, to_host_port
from ..wire import Decoder
from . import handshake, secret_renewal
from .dispatch import OpenChannels

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ('note_opened', 'open_again', 'open_link', 'run')

# What an address that has accepted the connection may take of the time that is left for its host, when there are other
# addresses. More than an equal share: most likely it is alive and slow, as with a login that has to ask a directory,
# and then the others are as slow. The rest is enough for one that is not.
ANSWER_PART = 0.75


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
    if connection._hosts.is_alone:
        to_host_port(connection.host)  # raises for a host that is none: before anything has begun
    avoid = _to_avoid(connection)
    attempt = connection._begin(backend)
    try:
        # Switches where a callable says which hosts there are.
        order = connection._hosts.attempt_order(avoid)
        connection._check_opening(attempt)
        open_link(connection, order, functools.partial(connection._check_opening, attempt))
        note_opened(connection)
        return attempt
    except BaseException as exc:
        # Only this attempt: if another greenlet has closed the connection and opens it again, that one goes on.
        connection._give_up(attempt, exc)
        raise


def open_again(connection: Connection, avoid: Settings | None) -> None:
    """Open the next socket of a connection that recovers, up to open-ok; ``note_opened`` follows. Switches.

    avoid: the host to be tried last. Raises why no host could be connected to, and has left no socket open then.
    """
    connection._begin_link()
    attempt = connection._begin_attempt()
    order = connection._hosts.attempt_order(avoid)
    connection._check_opening(attempt)
    open_link(connection, order, functools.partial(connection._check_opening, attempt))


def _to_avoid(connection: Connection) -> Settings | None:
    """The host that has told the connection to go (320, e.g. for maintenance), if that is why it ended."""
    reason = connection._life.reason
    if reason is not None and isinstance(reason.make_error(), exceptions.ConnectionForced):
        return connection._host_settings
    return None


def open_link(connection: Connection, order: Sequence[Settings], check: Callable[[], None]) -> None:
    """Try the hosts in this order, until one has answered connection.open. Switches.

    All of them together have connect_timeout (the longest, where URLs differ), and each has an equal share of what is
    left, besides the time that callable passwords take. check: called after each wait; raises when the attempt is
    to end. Raises what the failures come to (``state.connect_failures``), the link of the last one being closed.
    """
    passwords = connection._passwords
    check = functools.partial(_check, check, os.getpid())
    left: float | None = max(one.connect_timeout for one in order)
    failures = ConnectFailures()
    try:
        for number, settings in enumerate(order):
            if number:
                connection._begin_link()
            connection._use_host(settings)
            # Switches, for as long as the program likes: a token may come from a server. close() in another greenlet
            # ends the attempt, which is noticed in the next line. What the host before has not taken is kept.
            passwords.ask(sasl.callable_passwords(connection.authentication))
            check()
            if connection._hosts.is_alone:
                left = connection.connect_timeout  # a program may have set it, also while the password was asked for
            begun = time.monotonic()
            deadline = green.Deadline(_share(left, len(order) - number, connection.connect_timeout))
            try:
                _open_on(connection, deadline, check)
                connection._hosts.note_success(settings)
                return
            except (OSError, exceptions.AMQPError) as exc:
                if _is_over(check):
                    raise  # no failure of this host
                connection._hosts.note_failure(settings, exc)
                failures.add(connection.host, exc)
            if left is not None:
                left = max(0.0, left - (time.monotonic() - begun))
        raise failures.take_error()
    finally:
        # Also after an error, so that no secret stays in the object.
        passwords.forget()


def _check(check: Callable[[], None], pid: int) -> None:
    check()
    if os.getpid() != pid:
        raise exceptions.RecoverableConnectionError('the connection belongs to the process that forked this one')


def _is_over(check: Callable[[], None]) -> bool:
    """Whether the attempt is to end: another greenlet has closed the connection."""
    try:
        check()
    except exceptions.AMQPError:
        return True
    return False


def _share(left: float | None, count: int, most: float | None) -> float | None:
    """Seconds for the next of *count* hosts, none of which is to have more than *most*."""
    shares = [one for one in (None if left is None else left / count, most) if one is not None]
    return min(shares, default=None)


def _open_on(connection: Connection, deadline: green.Deadline, check: Callable[[], None]) -> None:
    """Connect to the host of the connection's attributes, and shake hands with it. Switches.

    A name may have several nodes behind it: an address that takes connections and then does not answer, or hangs up,
    is passed over like one that takes none.
    """
    failures = ConnectFailures()
    untried: list[Any] | None = None
    while True:
        transport = _make_transport(connection, connection._green)
        try:
            _try_next_address(connection, transport, untried, deadline, check)
            return
        except (OSError, exceptions.RecoverableConnectionError) as exc:
            failures.add(transport.peer, exc)
            untried = transport.untried
            if not untried or _is_over(check):
                raise failures.take_error() from exc.__cause__
        connection._begin_link()


def _try_next_address(
    connection: Connection,
    transport: TCPTransport,
    untried: list[Any] | None,
    deadline: green.Deadline,
    check: Callable[[], None],
) -> None:
    try:
        # Switches. The addresses are tried in order, and TLS is part of it.
        transport.connect(deadline, untried)
        check()
        _serve(connection, transport)
        # Switches. From here on the reader runs, and what it finds may end the link; each wait of the handshake
        # raises that.
        handshake.run(connection, _time_to_answer(deadline) if transport.untried else deadline)
        check()
    except BaseException as exc:
        # The transport by itself, since the connection knows of it only from _serve on.
        transport.close()
        link = connection._link
        served = link is not None and link.transport is transport
        if link is not None and served:  # else another greenlet has begun to open it again, or there was no socket yet
            link.lose(exc)
        if isinstance(exc, (OSError, exceptions.AMQPError)) and (served or not transport.failed):
            transport.failed += 1  # it has answered and not let us in, or there is no such name
        raise
    finally:
        connection._counts.addresses_failed += transport.failed


def _time_to_answer(deadline: green.Deadline) -> green.Deadline:
    """That of a handshake with an address that is not the last of its name."""
    left = deadline.left()
    return deadline if left is None else green.Deadline(left * ANSWER_PART)


def _make_transport(connection: Connection, backend: ModuleType) -> TCPTransport:
    return Transport(
        connection.host,
        connection.connect_timeout,
        connection.ssl,
        read_timeout=connection.read_timeout,
        write_timeout=connection.write_timeout,
        socket_settings=connection.socket_settings,
        backend=backend,
        shuffle=connection._hosts.shuffle,
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
    link.writer.combines = connection.combine_acks
    link.start_reading()


def note_opened(connection: Connection) -> None:
    """The connection is open: what goes on as long as that lasts begins. Does not switch."""
    # First: what is called below, and may ask, finds an open connection.
    connection._life.move('opened')
    # Here and not in _begin: attempts that failed do not count.
    connection._counts.opened += 1
    connection._while_open.begin(connection, secret_renewal.start(connection))
    stats.notify_observers(connection, functools.partial(_say_failed, connection))


def _say_failed(connection: Connection, text: str, error: BaseException) -> None:
    """Of a collector of metrics, in the log. Does not switch, which a log handler may: the opening is not over."""
    say(connection, stats.logger, logging.ERROR, text, repr(connection), error=error)
