"""What went wrong with TLS, in words that say whose fault it is.

Layer 2: from OpenSSL's errors and the peer's first bytes to exceptions of the
same classes, with host and port and a hint. What must not enter: sockets.
"""

from __future__ import annotations

import ssl

__all__ = ('explain', 'explain_loss')

# What OpenSSL's verdicts on a certificate mean for those who look at a log.
_HINTS = {
    18: 'no authority has signed it',
    19: 'its authority is none of those that we trust',
    20: 'its authority is none of those that we trust',
    21: 'its authority is none of those that we trust',
}

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

_TLS_RECORDS = range(0x14, 0x18)


def explain(where: str, error: ssl.SSLError, first: bytes) -> ssl.SSLError:
    """The error of a handshake. first: what the peer's stream begins with."""
    if first and not (first[0] in _TLS_RECORDS and first[1:2] in (b'', b'\3')):
        known = 'plain AMQP, so this is not its port for TLS' if first.startswith(b'AMQP') else 'something else'
        return _remade(error, f'{where} does not speak TLS but {known}')
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):  # which one, depends on OpenSSL's version
        return _remade(error, f'{where} hung up during the TLS handshake{"" if first else " without a word"}')
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = _HINTS.get(error.verify_code)
        text = f'{where}: the certificate is refused: {error.verify_message}{f" ({hint})" if hint else ""}'
        return _remade(error, text)
    return explain_loss(where, error, 'TLS handshake')


def explain_loss(where: str, error: ssl.SSLError, what: str = 'TLS session') -> ssl.SSLError:
    """An error of an established session: an alert is the peer's word, not ours."""
    _, alert, said = (getattr(error, 'reason', None) or '').partition('ALERT_')
    if alert:
        said = said.replace('_', ' ').lower()
        ours = ' (it does not accept our client certificate)' if said in _ABOUT_OURS else ''
        return _remade(error, f'{where} ended the {what}: {said}{ours}')
    return _remade(error, f'{where}: the {what} failed: {error}')


def _remade(error: ssl.SSLError, text: str) -> ssl.SSLError:
    new = type(error)(error.errno, text)
    for name in ('library', 'reason', 'verify_code', 'verify_message'):
        if hasattr(error, name):
            setattr(new, name, getattr(error, name))
    return new
