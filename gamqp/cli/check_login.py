"""``check``, the opening of an AMQP connection: trust, broker, login, limits, virtual host.

Layer 5. Which step has failed is told by what the broker had said before. Does not belong here: what is done on the
open connection (``check_messages``).
"""

from __future__ import annotations

from typing import Any

from .. import exceptions
from ..connection import Connection
from ..state.connection_settings import Settings
from .check_network import is_tls
from .check_report import Report, Stopped

__all__ = ('open_connection',)

#: Capabilities without which publishing safely, or consuming, is not what it is with RabbitMQ.
WANTED = ('publisher_confirms', 'basic.nack', 'consumer_cancel_notify', 'connection.blocked')

# What a host on this machine begins with.
LOOPBACK = ('localhost', '127.', '[::1]')

_TLS_PORT = 'this port speaks TLS: use amqps:// (the certificate is verified), or the port without TLS (5672)'
_SILENT = (
    'something takes connections and says nothing: no AMQP port, a balancer with no broker behind it, or a broker that '
    'hangs (rabbitmq-diagnostics check_running)'
)


def open_connection(settings: Settings, report: Report, on_blocked: Any) -> Connection:
    """Open a connection and report its steps. Returns it. Switches. Raises Stopped."""
    tuned = list[bool]()
    arguments = {**settings.arguments(), 'on_tune_ok': lambda: tuned.append(True), 'on_blocked': on_blocked}
    connection = Connection(**arguments)
    try:
        connection.connect()
    except (exceptions.AMQPError, OSError) as exc:
        error = exc
    else:
        _report_broker(connection, report)
        report.add('login', 'ok', _login(settings))
        _report_limits(connection, report)
        report.add('virtual host', 'ok', repr(settings.virtual_host))
        return connection
    raise _failed(connection, settings, error, bool(tuned), report)


def _failed(connection: Connection, settings: Settings, error: Exception, tuned: bool, report: Report) -> Stopped:
    """Report how far it came, and where it failed."""
    if hasattr(error, 'verify_code'):
        return report.fail('trust', str(error), _trust_advice(error))
    if isinstance(error, exceptions.CertificateRefused):
        return report.fail('trust', str(error), 'the broker wants a client certificate that it can verify')
    if not connection.server_properties:
        return _no_amqp(settings, error, report)
    _report_broker(connection, report)
    if tuned:
        report.add('login', 'ok', _login(settings))
        return report.fail('virtual host', str(error), _virtual_host_advice(settings, error))
    if 'frame_max' in str(error):
        report.add('login', 'ok', _login(settings))
        advice = 'leave frame_max out of the URL: the default is 131072; RabbitMQ takes no less than 8192 since 4.1'
        return report.fail('limits', str(error), advice)
    return report.fail('login', str(error), _login_advice(connection, settings, error))


def _no_amqp(settings: Settings, error: Exception, report: Report) -> Stopped:
    """The broker has not even said who it is."""
    if not settings.secure and is_tls(settings):
        return report.fail('AMQP', f'no AMQP: {error}', _TLS_PORT)
    if isinstance(error, TimeoutError):
        return report.fail('AMQP', str(error), _SILENT)
    advice = 'is this the port for AMQP? the management has 15672, streams 5552; rabbitmq-diagnostics listeners tells'
    return report.fail('AMQP', str(error), advice)


def _trust_advice(error: Exception) -> str:
    code = getattr(error, 'verify_code', 0)
    if code == 10:
        return 'the certificate, or that of its authority, has expired: give the broker a new one'
    if code in (62, 64):
        return (
            'use a name that the certificate has, or say which one it has: ?server_name_indication=NAME; the names are '
            'in the step before'
        )
    if code in (18, 19, 20, 21):
        return "name the file of the authority that has signed it: ?cacertfile=/path/ca.pem (not the broker's own)"
    return 'compare the certificate, in the step before, with what was asked for'


def _login(settings: Settings) -> str:
    if settings.userid is None:
        return 'by certificate or another mechanism'
    return f'user {settings.userid!r}'


def _login_advice(connection: Connection, settings: Settings, error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return 'the broker does not answer the login: its authentication backend (LDAP, HTTP, OAuth 2) may be down'
    if settings.userid == 'guest' and not settings.host.startswith(LOOPBACK):
        return (
            'RabbitMQ takes guest from its own machine only: use another user (rabbitmqctl add_user, set_permissions)'
        )
    # The broker's own order is that of a hash table.
    offered = ', '.join(sorted(one.decode('ascii', 'replace') for one in connection.mechanisms))
    return (
        f'rabbitmqctl authenticate_user {settings.userid} tells whether the password is right; a special character in '
        f'a URL is written as %XX; mechanisms that the broker offers: {offered}'
    )


def _virtual_host_advice(settings: Settings, error: Exception) -> str:
    text, name = str(error).lower(), settings.virtual_host
    if isinstance(error, TimeoutError):
        return (
            'the broker does not open the virtual host: it may still be starting (rabbitmq-diagnostics check_running)'
        )
    if 'not found' in text:
        return f"rabbitmqctl list_vhosts tells those that exist, rabbitmqctl add_vhost '{name}' makes one"
    if 'refused' in text:
        return f"rabbitmqctl set_permissions -p '{name}' {settings.userid} '.*' '.*' '.*' lets the user in"
    if 'limit' in text:
        return f"the virtual host takes no more connections: rabbitmqctl list_vhost_limits -p '{name}'"
    return 'is the virtual host up? rabbitmqctl list_vhosts name cluster_state'


def _report_broker(connection: Connection, report: Report) -> None:
    told = connection.server_properties
    capabilities = told.get('capabilities')
    have = [name for name, value in capabilities.items() if value] if isinstance(capabilities, dict) else []
    missing = [name for name in WANTED if name not in have]
    facts: dict[str, Any] = {
        **{key: told.get(key) for key in ('product', 'version', 'platform', 'cluster_name')},
        'mechanisms': sorted(one.decode('ascii', 'replace') for one in connection.mechanisms),
    }
    found = f'{told.get("product")} {told.get("version")}, {told.get("platform")}'
    if told.get('cluster_name'):
        found += f', cluster {told["cluster_name"]}'
    report.add('broker', 'ok', found, **facts)
    known = [name for name in WANTED if name in have]
    found = f'{", ".join(known) or "none that is needed"}, and {len(have) - len(known)} more'
    # The broker's own order is that of a hash table.
    have.sort()
    if missing:
        found = f'{found}; without {", ".join(missing)}'
        report.add('capabilities', 'warning', found, 'is it RabbitMQ?', capabilities=have)
    else:
        report.add('capabilities', 'ok', found, capabilities=have)


def _report_limits(connection: Connection, report: Report) -> None:
    facts: dict[str, Any] = {
        'channel_max': connection.channel_max,
        'frame_max': connection.frame_max,
        'heartbeat': connection.heartbeat,
        'heartbeat_of_broker': connection.server_heartbeat,
    }
    found = (
        f'channel_max {connection.channel_max}, frame_max {connection.frame_max}, heartbeat '
        f'{connection.heartbeat or "off"}{" s" if connection.heartbeat else ""}'
    )
    if not connection.heartbeat:
        report.add(
            'limits', 'warning', found, 'without heartbeats a lost peer is found late: ask for 30 to 60 s', **facts
        )
    else:
        report.add('limits', 'ok', found, **facts)
