"""What went wrong with TLS, in words that say whose fault it is.

Layer 2: from OpenSSL's errors and the peer's first bytes to exceptions of the
same classes, with host and port and a hint. What must not enter: sockets.
"""

from __future__ import annotations

import ssl

from .. import exceptions

__all__ = ('explain', 'explain_loss', 'wants_certificate')

# What OpenSSL's verdicts on a certificate mean for those who look at a log.
_HINTS = {
    18: 'no authority has signed it',
    19: 'its authority is none of those that we trust',
    20: 'its authority is none of those that we trust',
    21: 'its authority is none of those that we trust',
    62: "if it is the broker's under another name, give that name: ssl={'server_hostname': …}",
    64: "an address counts in subjectAltName only; if it is the broker's under a name, give that: "
    "ssl={'server_hostname': …}",
}

# kombu connects to 127.0.0.1 when it is told localhost.
_LOOPBACK = ('127.0.0.1:', '[::1]:')
_LOCALHOST = (
    "kombu makes 127.0.0.1 of localhost: for a certificate of localhost set ssl={'server_hostname': 'localhost'}"
)

# Alerts about a certificate can only be about the client's.
_ABOUT_OURS = frozenset(
    (
        'bad certificate',
        'certificate expired',
        'certificate required',
        'certificate revoked',
        'certificate unknown',
        'unknown ca',
        'unsupported certificate',
    )
)

_NO_CERTIFICATE = "it wants a client certificate, and we have none: ssl={'certfile': …, 'keyfile': …}"
_ABOUT_NAME = "it was asked for {!r}, and may be known by another name: ssl={{'server_hostname': …}}"

_TLS_RECORDS = range(0x14, 0x18)


# OpenSSL's names of alerts that do not say that they are one.
_OTHER_ALERTS = {'TLSV1_UNRECOGNIZED_NAME': 'unrecognized name', 'TLSV1_UNSUPPORTED_EXTENSION': 'unsupported extension'}

_HANDSHAKE, _CERTIFICATE_REQUEST = 0x16, 13


def explain(where: str, error: ssl.SSLError, flight: bytes, name: str | None = None, ours: bool = True) -> Exception:
    """The error of a handshake.

    flight: what the peer's stream begins with. name: the server name that it was
    told by SNI, ours: whether we have a client certificate, or may have.
    """
    first = flight[:8]
    if first and not (first[0] in _TLS_RECORDS and first[1:2] in (b'', b'\3')):
        known = 'plain AMQP, so this is not its port for TLS' if first.startswith(b'AMQP') else 'something else'
        return _remade(error, f'{where} does not speak TLS but {known}')
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):  # which one, depends on OpenSSL's version
        hint = '' if first or not name else f'{_ABOUT_NAME.format(name)}, or the address is wrong'
        text = f'{where} hung up during the TLS handshake{"" if first else " without a word"}'
        return _remade(error, f'{text} ({hint})' if hint else text)
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = _HINTS.get(error.verify_code, '')
        if error.verify_code in (62, 64) and where.startswith(_LOOPBACK):
            hint = f'{hint}; {_LOCALHOST}'
        text = f'{where}: the certificate is refused: {error.verify_message}{f" ({hint})" if hint else ""}'
        return _remade(error, text)
    if _alert(error) == 'handshake failure' and not ours and wants_certificate(flight):
        return exceptions.CertificateRefused(f'{where} ended the TLS handshake: {_NO_CERTIFICATE}')
    return explain_loss(where, error, 'TLS handshake', name)


def explain_loss(
    where: str, error: ssl.SSLError, what: str = 'TLS session', name: str | None = None, ours: bool = True
) -> Exception:
    """An error of an established session: an alert is the peer's word, not ours. The others as for ``explain``."""
    said = _alert(error)
    if said is None:
        return _remade(error, f'{where}: the {what} failed: {error}')
    if said in _ABOUT_OURS:
        missing = said == 'certificate required' or not ours
        about = _NO_CERTIFICATE if missing else 'it does not accept our client certificate'
        return exceptions.CertificateRefused(f'{where} ended the {what}: {said} ({about})')
    about = f' ({_ABOUT_NAME.format(name)})' if said == 'unrecognized name' else ''
    return _remade(error, f'{where} ended the {what}: {said}{about}')


def _alert(error: ssl.SSLError) -> str | None:
    """What the peer's alert says; None if it was no alert."""
    reason = getattr(error, 'reason', None) or ''
    _, alert, said = reason.partition('ALERT_')
    return said.replace('_', ' ').lower() if alert else _OTHER_ALERTS.get(reason)


def wants_certificate(flight: bytes) -> bool:
    """Whether the server asked for a client certificate, where it says so in clear text: up to TLS 1.2."""
    messages = bytearray()
    while len(flight) >= 5 and flight[0] == _HANDSHAKE:
        size = int.from_bytes(flight[3:5], 'big')
        messages += flight[5 : 5 + size]
        flight = flight[5 + size :]
    while len(messages) >= 4:
        if messages[0] == _CERTIFICATE_REQUEST:
            return True
        del messages[: 4 + int.from_bytes(messages[1:4], 'big')]
    return False


def _remade(error: ssl.SSLError, text: str) -> ssl.SSLError:
    new = type(error)(error.errno, text)
    for name in ('library', 'reason', 'verify_code', 'verify_message'):
        if hasattr(error, name):
            setattr(new, name, getattr(error, name))
    return new
