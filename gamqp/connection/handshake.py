"""The opening conversation: start, secure, tune, open.

Layer 4. It runs in the greenlet that called connect(), each wait under what is
left of one total deadline; the reader feeds it as it feeds any other caller. It
changes the connection only by what both sides have agreed on. Does not belong here: sockets and TLS (``transport``),
what a login mechanism says (``sasl``), and when it is run (``connecting``).
"""

from __future__ import annotations

import os
import platform
import sys
from typing import TYPE_CHECKING, Any

from .. import exceptions, green
from ..state import negotiation
from ..state.durations import in_seconds
from ..state.expected_replies import Expected
from ..state.queue_types import QueueTypes
from ..state.secret_hiding import discreet
from ..wire import PROTOCOL_HEADER, encode_method
from ..wire.spec import Connection as Spec

if TYPE_CHECKING:
    from ..io.link import Link
    from .connection import Connection

__all__ = ('run',)

# Before tune RabbitMQ accepts no larger frame, and answers a larger start-ok, e.g. with
# a long token, by a bare close. Since 4.1 its operator may raise the limit (initial_frame_max).
START_OK_MAX = 8192
START_OK_MAX_BEFORE_4_1 = 4096

_TOO_LONG = 'the password or token, or client_properties, are too long'


def run(connection: Connection, deadline: green.Deadline) -> None:
    """Shake hands over ``connection._link``. Switches greenlets.

    Raises AccessRefused (credentials), NotAllowed (virtual host), ConnectionError
    (no common mechanism), TimeoutError, or whatever ended the link.
    """
    # Kept over all waits: another greenlet may close the connection meanwhile, and open it again on another link.
    link = connection._link
    # A broker of another protocol answers with its own header and hangs up; the decoder makes an error of that.
    _, reply = _exchange(connection, link, deadline, PROTOCOL_HEADER, Spec.Start)
    # Here and below nobody waits while a local variable holds the response, which holds the password: errors are often
    # stored with all that is in their frames.
    mechanism, asked, size = _log_in(connection, link, reply)
    try:
        sig, reply = _answer_to(connection, link, deadline, asked)
    except exceptions.RecoverableConnectionError as exc:  # just closed, or an error of frames
        # RabbitMQ logs the frame as too large and closes the socket without a word. A close with a code has another
        # cause.
        if size > START_OK_MAX and exc.method_sig is None:
            exc.hint = (
                f'connection.start-ok had {size} bytes, and a broker takes {START_OK_MAX} unless its initial_frame_max '
                f'says more: {_TOO_LONG}'
            )
        raise
    # As often as the mechanism needs; PLAIN, AMQPLAIN and EXTERNAL need it never.
    while sig == Spec.Secure:
        sig, reply = _answer_to(connection, link, deadline, _log_in_further(connection, link, mechanism, reply[0]))
    tuned = _on_tune(connection, *reply)
    # In one piece: tune-ok has no answer to wait for. Encoded before anything starts: a virtual host that cannot be
    # encoded fails here.
    frames = encode_method(0, Spec.TuneOk, tuned) + encode_method(0, Spec.Open, (connection.virtual_host, '', False))
    # Before tune-ok goes out, since the broker's clock begins with that.
    link.start_heartbeat(connection.heartbeat)
    if connection.on_tune_ok is not None:
        # Code of the program, in the greenlet that connects: it may switch, raise, or close the connection. _exchange
        # then raises why the link ended, also if there is another one by now.
        connection.on_tune_ok()
    _exchange(connection, link, deadline, frames, Spec.OpenOk)


def _exchange(connection: Connection, link: Link, deadline: green.Deadline, frames: Any, *sigs: tuple[int, int]) -> Any:
    """Send, then wait for one of *sigs*. Returns which it was and its arguments. Switches."""
    return _answer_to(connection, link, deadline, _ask(connection, link, frames, *sigs))


def _ask(connection: Connection, link: Link, frames: Any, *sigs: tuple[int, int]) -> Expected:
    """Send what one of *sigs* will answer. Raises why the link ended, if it has. Does not switch."""
    for sig in sigs:
        assert sig in _FROM_SERVER
    # The end of the link has failed all entries: one that is added later would wait for its timeout.
    _check_link(link)
    # Registered before the send: the reader must find the entry whenever the answer comes.
    expected = Expected(sigs, green.Slot(connection._green))
    # The only entry of channel 0: nobody else may send anything before open-ok.
    connection._replies.expect(expected)
    link.writer.send(frames)
    return expected


def _answer_to(connection: Connection, link: Link, deadline: green.Deadline, asked: Expected) -> Any:
    """Wait for the answer. Returns its method and its arguments. Raises why the link ended, if it has. Switches."""
    slot: Any = asked.slot
    memory = connection._backpressure
    # Messages that came with no_ack before a loss may fill the memory until they are handled: read on all the same.
    memory.wait_begins()
    try:
        answered = slot.wait(deadline.left())
    finally:
        memory.wait_ends()
    if not answered:
        names = ' or '.join(exceptions.METHOD_NAME_MAP[sig] for sig in asked.sigs)
        # The entry stays behind. connecting.run ends the connection, which removes it.
        raise TimeoutError(f'{connection.host}: no {names} from the broker within {in_seconds(deadline.seconds)}')
    # Raises why the link ended, if that is what woke this greenlet.
    reply = slot.result()
    # The answer may have come just before that: then the connection is another greenlet's by now.
    _check_link(link)
    return asked.sig, reply


def _check_link(link: Link) -> None:
    if link.reason is not None:
        link.reason.throw()


# What the broker may answer before the connection is open. Any other reply finds no entry, and the reader ends the
# connection for it.
_FROM_SERVER = (Spec.Start, Spec.Secure, Spec.Tune, Spec.OpenOk)


def _on_start(
    connection: Connection, major: int, minor: int, properties: dict[str, Any], mechanisms: Any, locales: Any
) -> tuple[Any, Any]:
    """Note who the server is. Returns the mechanism to log in by, and its first response."""
    connection.version_major, connection.version_minor = major, minor
    # Before a mechanism is asked: one of the program may look at them.
    connection.server_properties = properties
    # Made anew with the version, since what a queue refuses depends on it. Nothing has been noted in the old one yet.
    connection._queue_types = QueueTypes(negotiation.rabbitmq_version(properties))
    offered = _as_bytes(mechanisms).split()
    connection.mechanisms = offered
    connection.locales = _as_bytes(locales).decode('utf-8', 'replace').split(' ')
    # Our order decides, and not that of the broker, whose list has none.
    for authentication in connection.authentication:
        if authentication.mechanism in offered:
            # May switch: a mechanism of the program, or GSSAPI. The link may have ended when it returns; _ask finds
            # that.
            response = authentication.start(connection)
            if response is not NotImplemented:
                return authentication, response
    ours = b', '.join(a.mechanism for a in connection.authentication if a.mechanism)
    raise exceptions.ConnectionError(
        f'no way to log in that both sides know: we can {ours.decode() or "nothing"}, '
        f'{connection.host} offers {b", ".join(offered).decode("utf-8", "replace")}',
        Spec.Start,
    )


def _log_in(connection: Connection, link: Link, start: tuple[Any, ...]) -> tuple[Any, Expected, int]:
    """Answer start. Returns the mechanism, what is expected, and how many bytes were sent."""
    return _send_start_ok(connection, link, *_on_start(connection, *start))


# A frame of its own: it holds the response, and has returned before anybody waits.
@discreet
def _send_start_ok(connection: Connection, link: Link, mechanism: Any, response: Any) -> tuple[Any, Expected, int]:
    args = (client_properties(connection), mechanism.mechanism, response, connection.locale)
    frames = _start_ok(connection, args)
    return mechanism, _ask(connection, link, frames, Spec.Tune, Spec.Secure), len(frames)


def _log_in_further(connection: Connection, link: Link, mechanism: Any, challenge: Any) -> Expected:
    """Answer secure. Returns what is expected."""
    return _send_secure_ok(connection, link, _answer(connection, mechanism, challenge))


@discreet
def _send_secure_ok(connection: Connection, link: Link, answer: Any) -> Expected:
    return _ask(connection, link, encode_method(0, Spec.SecureOk, (answer,)), Spec.Tune, Spec.Secure)


def _as_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _start_ok(connection: Connection, args: tuple[Any, ...]) -> Any:
    # Refused here because these brokers close the socket without a reason. Newer ones may have a higher limit, so
    # there it is tried, and only explained when it fails.
    version = negotiation.rabbitmq_version(connection.server_properties)
    frames = encode_method(0, Spec.StartOk, args)
    if version and version < (4, 1) and len(frames) > START_OK_MAX_BEFORE_4_1:
        raise exceptions.EncodeError(
            f'connection.start-ok has {len(frames)} bytes, and the broker takes {START_OK_MAX_BEFORE_4_1}: {_TOO_LONG}',
            Spec.StartOk,
        )
    return frames


def _answer(connection: Connection, mechanism: Any, challenge: Any) -> Any:
    # Optional, since py-amqp's mechanisms have none.
    step = getattr(mechanism, 'challenge', None)
    if step is None:
        raise exceptions.AMQPNotImplementedError(
            f'the broker asks again, which {type(mechanism).__name__} has no answer to', Spec.Secure
        )
    return step(connection, challenge)


def _on_tune(connection: Connection, channel_max: int, frame_max: int, heartbeat: int) -> tuple[int, int, int]:
    """Settle the three numbers of tune; returns them for tune-ok."""
    connection.server_heartbeat = heartbeat
    # None is no wish; 0 turns heartbeats off at both ends.
    wanted = connection.client_heartbeat
    if wanted is None and connection._heartbeat_needs_patching and not green.is_patched():
        wanted = 0  # as py-amqp's
    connection.heartbeat = negotiation.heartbeat(wanted, heartbeat)
    connection._set_limits(
        # The broker's numbers are the most that it takes. It closes the connection if tune-ok has more.
        negotiation.channel_max(connection.client_channel_max, channel_max),
        negotiation.frame_max(
            connection.client_frame_max, frame_max, negotiation.smallest_frame(connection.server_properties)
        ),
    )
    return connection.channel_max, connection.frame_max, connection.heartbeat


def client_properties(connection: Connection) -> dict[str, Any]:
    """What the broker learns of the client: the library, the user's own properties on top, capabilities, the name."""
    properties = {
        **connection.library_properties,
        'platform': f'Python {platform.python_version()}, {connection._green.NAME}',
        **connection.client_properties,
    }
    # A peer may send anything by this name.
    offered = connection.server_properties.get('capabilities')
    offered = offered if isinstance(offered, dict) else {}
    capabilities = dict(properties.get('capabilities') or {})
    for name, wanted in connection.negotiate_capabilities.items():
        # RabbitMQ acts by this table: only who asks for them gets basic.cancel, connection.blocked, and a close with
        # a reason when the login fails.
        if offered.get(name):
            # What the program has set itself stays.
            capabilities.setdefault(name, wanted)
    if capabilities:
        properties['capabilities'] = capabilities
    properties.setdefault('connection_name', connection.name or default_name())
    return properties


def default_name() -> str:
    """host:pid:program, to tell connections apart in the broker's management."""
    program = os.path.basename(sys.argv[0] or '') if sys.argv else ''
    name = f'{platform.node()}:{os.getpid()}:{program or "python"}'
    return name.encode('utf-8', 'replace').decode()  # the name of a file need not be text
