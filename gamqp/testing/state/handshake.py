"""How a connection is opened: protocol header, authentication, limits, virtual host.

Layer 5, pure. Does not belong here: an open connection, see ``session``.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from ... import exceptions
from ...wire import PROTOCOL_HEADER, loads, spec
from .errors import Refusal, not_allowed, text_of
from .users import User, login_refused

if TYPE_CHECKING:
    from .session import Session

__all__ = ('Phase', 'handle', 'header', 'server_properties')


class Phase(enum.Enum):
    """Where a connection is."""

    HEADER = 'protocol header'
    START_OK = 'connection.start-ok'
    TUNE_OK = 'connection.tune-ok'
    OPEN = 'connection.open'
    RUNNING = 'running'
    CLOSING = 'connection.close-ok'
    ENDED = 'ended'


def server_properties(number: str) -> dict[str, Any]:
    """What the broker says of itself."""
    capabilities = (
        'publisher_confirms exchange_exchange_bindings basic.nack consumer_cancel_notify connection.blocked '
        'consumer_priorities authentication_failure_close per_consumer_qos direct_reply_to'
    )
    return {
        'capabilities': dict.fromkeys(capabilities.split(), True),
        'cluster_name': 'gamqp.testing',
        'copyright': 'gamqp.testing.Broker, which behaves like RabbitMQ',
        'information': 'A broker for tests',
        'platform': 'Python',
        'product': 'RabbitMQ',
        'version': number,
    }


def header(session: Session, data: bytes) -> None:
    """The first bytes of a client."""
    if data != PROTOCOL_HEADER:
        session.send(PROTOCOL_HEADER)
        session.end_after_sending()
        return
    session.phase = Phase.START_OK
    version = session.server.version
    mechanisms = version.mechanisms + (b' EXTERNAL' if session.certificate_user is not None else b'')
    properties = server_properties(version.number)
    properties['cluster_name'] = session.server.name
    session.reply(spec.Connection.Start, 0, 9, properties, mechanisms, b'en_US')


def handle(session: Session, sig: spec.Sig, args: tuple[Any, ...]) -> None:
    """A method before the connection is open. Raises a Refusal.

    Until the limits are agreed on, RabbitMQ answers what is wrong by closing the socket.
    """
    try:
        _handle(session, sig, args)
    except Refusal as refusal:
        if session.phase is Phase.OPEN:
            raise
        session.close_reason = (refusal.code, refusal.reply_text)
        session.end_after_sending()


def _handle(session: Session, sig: spec.Sig, args: tuple[Any, ...]) -> None:
    phase = session.phase
    if phase is Phase.START_OK and sig == spec.Connection.StartOk:
        _start_ok(session, args)
    elif phase is Phase.TUNE_OK and sig == spec.Connection.TuneOk:
        _tune_ok(session, args)
    elif phase is Phase.OPEN and sig == spec.Connection.Open:
        _open(session, args)
    else:
        raise Refusal(503, 'unexpected method in connection state ' + phase.value)


def _start_ok(session: Session, args: tuple[Any, ...]) -> None:
    properties, mechanism, response, _ = args
    session.client_properties = properties
    user = _authenticated(session, text_of(mechanism), response)
    if user is None:
        refusal = login_refused(text_of(mechanism))
        if session.takes('authentication_failure_close'):
            session.close(refusal, (0, 0))
        else:
            session.end_after_sending()
        return
    session.user = user
    session.phase = Phase.TUNE_OK
    session.reply(spec.Connection.Tune, session.server.channel_max, session.server.frame_max, session.server.heartbeat)


def _authenticated(session: Session, mechanism: str, response: Any) -> User | None:
    users = session.server.users
    octets = response.encode() if isinstance(response, str) else response
    if mechanism == 'PLAIN':
        parts = octets.split(b'\0')
        return users.log_in(text_of(parts[1]), text_of(parts[2])) if len(parts) == 3 else None
    if mechanism == 'AMQPLAIN':
        try:
            table = loads('F', len(octets).to_bytes(4, 'big') + octets)[0][0]
        except exceptions.FrameSyntaxError:
            return None
        return users.log_in(text_of(table.get('LOGIN', '')), text_of(table.get('PASSWORD', '')))
    if mechanism == 'EXTERNAL' and session.certificate_user is not None:
        return users.find(session.certificate_user)
    if mechanism == 'ANONYMOUS' and b'ANONYMOUS' in session.server.version.mechanisms:
        return users.find('guest')
    raise Refusal(503, f"unknown authentication mechanism '{mechanism}'")


def _tune_ok(session: Session, args: tuple[Any, ...]) -> None:
    channel_max, frame_max, heartbeat = args
    server = session.server
    least = server.version.least_frame_max
    if frame_max and frame_max < least:
        raise not_allowed(f'negotiated frame_max = {frame_max} is lower than the minimum allowed value ({least})')
    for what, value, allowed in (
        ('frame_max', frame_max, server.frame_max),
        ('channel_max', channel_max, server.channel_max),
    ):
        if value > allowed > 0:
            raise not_allowed(f'negotiated {what} = {value} is higher than the maximum allowed value ({allowed})')
    session.channel_max = channel_max or server.channel_max
    session.frame_max = frame_max or server.frame_max
    session.decoder.frame_max = session.frame_max
    session.heartbeat = heartbeat
    session.phase = Phase.OPEN
    session.watch_heartbeats()


def _open(session: Session, args: tuple[Any, ...]) -> None:
    name = text_of(args[0])
    vhost = session.server.vhosts.get(name)
    if vhost is None:
        raise not_allowed(f'vhost {name} not found')
    if name not in session.user.permissions:
        raise not_allowed(f"access to vhost '{name}' refused for user '{session.user.name}'")
    session.vhost = vhost
    session.phase = Phase.RUNNING
    session.reply(spec.Connection.OpenOk, '')
    session.server.opened(session)
