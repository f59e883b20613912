"""``check``, the steps below AMQP: name, address, TLS.

Layer 5. Does not belong here: AMQP (``check_login``, ``check_messages``).
"""

from __future__ import annotations

import errno
import time
from typing import Any

from .. import green
from ..state.connection_settings import Settings
from ..state.host_and_port import AMQP_PORT, AMQPS_PORT, to_host_port
from ..transport import TCPTransport
from ..transport.certificate_facts import CertificateFacts, look_at_certificate
from .check_report import Report, Result

__all__ = ('check_address', 'check_certificate', 'check_name', 'is_tls')

DAY = 86400.0
# Days before the end of a certificate from which on that is worth a warning.
SOON = 21


def host_and_port(settings: Settings) -> tuple[str, int]:
    return to_host_port(settings.host, AMQPS_PORT if settings.secure else AMQP_PORT)


def check_name(settings: Settings, report: Report) -> list[str]:
    """Resolve the name. Returns the addresses. Switches."""
    host, port = host_and_port(settings)
    try:
        found = green.backend().getaddrinfo(host, port)
    except OSError as exc:
        advice = 'is the name written rightly, and known to the name service of this machine? try: getent hosts ' + host
        raise report.fail('name', f'{host} has no address: {exc.strerror or exc}', advice) from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    report.add('name', 'ok', f'{host} is {", ".join(addresses)}', addresses=addresses)
    return addresses


def check_address(settings: Settings, addresses: list[str], report: Report) -> None:
    """Connect to each address, and report those that do not answer. Switches."""
    port = host_and_port(settings)[1]
    answers, silent = [], []
    for address in addresses:
        where = f'[{address}]:{port}' if ':' in address else f'{address}:{port}'
        transport = TCPTransport(where, settings.connect_timeout / len(addresses))
        since = time.monotonic()
        try:
            transport.connect()
            answers.append(f'{where} answers in {(time.monotonic() - since) * 1000:.1f} ms')
        except OSError as exc:
            silent.append((where, exc))
        finally:
            transport.close()
    if not answers:
        where, error = silent[0]
        refused = '; '.join(f'{one}: {_words(exc)}' for one, exc in silent)
        raise report.fail('address', refused, _advice(error, port))
    for where, error in silent:
        found = f'{where}: {_words(error)}'
        report.add('address', 'warning', found, f'clients that try it first lose time: {_advice(error, port)}')
    report.add('address', 'ok', '; '.join(answers))


def _words(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return 'no answer at all'
    return (error.strerror or str(error)).partition(':')[0].lower()


def _advice(error: OSError, port: int) -> str:
    if isinstance(error, TimeoutError):
        return (
            'something drops the packets without a word: a firewall, a security group, a wrong address; '
            f'allow TCP port {port} from this machine'
        )
    if error.errno == errno.ECONNREFUSED:
        return (
            f'nothing listens on port {port}: is the broker up, and is it this port? RabbitMQ has 5672 for AMQP, '
            '5671 for AMQP over TLS (rabbitmq-diagnostics listeners tells)'
        )
    return 'is there a route from this machine to the broker?'


def check_certificate(settings: Settings, report: Report) -> None:
    """Report the certificate of the server; whether it is good is found when AMQP connects. Switches."""
    try:
        facts = look_at_certificate(settings.host, settings.ssl, settings.connect_timeout)
    except OSError as exc:
        if 'plain AMQP' in str(exc) or 'does not speak TLS' in str(exc):
            advice = 'this port is without TLS: use amqp://, or the port of the TLS listener (5671)'
        elif isinstance(exc, TimeoutError):
            advice = 'it takes connections and says nothing: no port for TLS (5671 is usual), or a broker that hangs'
        else:
            advice = (
                'rabbitmq-diagnostics listeners tells the ports for TLS, rabbitmq-diagnostics tls_versions the rest'
            )
        raise report.fail('certificate', _text(exc), advice) from None
    result, advice = _validity(facts)
    report.add('certificate', result, _shown(facts), advice, **_for_programs(facts))


def _validity(facts: CertificateFacts) -> tuple[Result, str]:
    now = time.time()
    if facts.not_after is not None and facts.not_after < now:
        return 'failed', f'it has expired {_days(now - facts.not_after)} ago: give the broker a new one'
    if facts.not_before is not None and facts.not_before > now:
        return 'failed', 'it is not valid yet: compare the clocks of this machine and of whoever issued it'
    if facts.not_after is not None and facts.not_after - now < SOON * DAY:
        return 'warning', f'it expires in {_days(facts.not_after - now)}'
    return 'ok', ''


def _days(spent: float) -> str:
    days = int(spent // DAY)
    return f'{days} day{"" if days == 1 else "s"}' if days else f'{int(spent // 3600)} hours'


def _shown(facts: CertificateFacts) -> str:
    parts = [f'{facts.version} {facts.cipher}']
    if facts.not_after is not None:
        until = time.strftime('%Y-%m-%d', time.gmtime(facts.not_after))
        parts.append(f'{facts.subject} by {facts.issuer}, for {", ".join(facts.names) or "no name"}, until {until}')
    else:
        parts.append(f'SHA-256 {facts.fingerprint[:16]}…')
    return '; '.join(parts)


def _for_programs(facts: CertificateFacts) -> dict[str, Any]:
    return {
        'tls_version': facts.version,
        'cipher': facts.cipher,
        'subject': facts.subject,
        'issuer': facts.issuer,
        'names': list(facts.names),
        'not_before': facts.not_before,
        'not_after': facts.not_after,
        'sha256': facts.fingerprint,
    }


def is_tls(settings: Settings) -> bool:
    """Whether a port that does not speak plain AMQP speaks TLS. Switches."""
    try:
        look_at_certificate(settings.host, True, min(settings.connect_timeout, 5.0))
    except OSError:
        return False
    return True


def _text(error: OSError) -> str:
    return error.strerror or str(error)
