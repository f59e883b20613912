"""Makes clear errors of OpenSSL's: they name host and port, say which side refused what, and give a hint.

Layer 2. The classes stay OpenSSL's, except for a refused client certificate. For a handshake the first bytes
that the server sent are looked at. Does not belong here: sockets.
"""

from __future__ import annotations

import ssl

from .. import exceptions

__all__ = ('explain', 'explain_loss', 'wants_certificate')

# Verification error codes of OpenSSL -> what they mean.
_HINTS = {
    18: 'no authority has signed it',
    19: 'its authority is none of those that we trust',
    20: 'its authority is none of those that we trust',
    21: 'its authority is none of those that we trust',
    62: "if it is the broker's under another name, give that name: ssl={'server_hostname': …}",
    64: "an address counts in subjectAltName only; if it is the broker's under a name, give that: "
    "ssl={'server_hostname': …}",
}

# kombu connects to 127.0.0.1 when the URL says localhost.
_LOOPBACK = ('127.0.0.1:', '[::1]:')
_LOCALHOST = (
    "kombu makes 127.0.0.1 of localhost: for a certificate of localhost set ssl={'server_hostname': 'localhost'}"
)

# Alerts of the server about a certificate: they are about the client's, since the server sends them.
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


# Alerts in whose names OpenSSL does not write ALERT.
_OTHER_ALERTS = {'TLSV1_UNRECOGNIZED_NAME': 'unrecognized name', 'TLSV1_UNSUPPORTED_EXTENSION': 'unsupported extension'}

_HANDSHAKE, _CERTIFICATE_REQUEST = 0x16, 13


def explain(where: str, error: ssl.SSLError, flight: bytes, name: str | None = None, ours: bool = True) -> Exception:
    """The error to raise for a failed handshake with *where* (host and port).

    flight: the first bytes that the server sent. name: the server name that was sent to it (SNI).
    ours: whether there is, or may be, a client certificate.
    """
    first = flight[:8]
    if first and not (first[0] in _TLS_RECORDS and first[1:2] in (b'', b'\3')):
        known = 'plain AMQP, so this is not its port for TLS' if first.startswith(b'AMQP') else 'something else'
        return _remade(error, f'{where} does not speak TLS but {known}')
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):  # which of them depends on OpenSSL's version
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
    """The error to raise for a session that failed. An alert is what the server said. Arguments as for ``explain``."""
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
    """The text of the server's alert; None if the error is no alert."""
    reason = getattr(error, 'reason', None) or ''
    _, alert, said = reason.partition('ALERT_')
    return said.replace('_', ' ').lower() if alert else _OTHER_ALERTS.get(reason)


def wants_certificate(flight: bytes) -> bool:
    """Whether the server asked for a client certificate. Up to TLS 1.2 only: later versions encrypt that message."""
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
