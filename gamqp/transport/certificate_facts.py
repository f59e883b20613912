"""What certificate a TLS server shows, whether it is to be trusted or not: for diagnosis.

Layer 2. Two handshakes: the first takes any certificate, the second trusts this very one, whatever its dates are,
because the ssl module takes apart only a certificate that it has verified. Neither sends anything else.
Does not belong here: whether the certificate is good, which a usual connection finds out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ssl
from collections.abc import Mapping
from typing import Any

from .tls import SSLTransport

__all__ = ('CertificateFacts', 'look_at_certificate')

# X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which has no name in the ssl module.
_NO_CHECK_TIME = 0x200000


@dataclasses.dataclass(frozen=True)
class CertificateFacts:
    """version, cipher: of the TLS session. fingerprint: SHA-256 of the certificate, hexadecimal.

    The others are '' or empty where the certificate could not be taken apart: subject and issuer as 'CN=…, O=…',
    names of subjectAltName, first and last second of validity since the epoch.
    """

    version: str
    cipher: str
    fingerprint: str
    subject: str = ''
    issuer: str = ''
    names: tuple[str, ...] = ()
    not_before: float | None = None
    not_after: float | None = None


def look_at_certificate(host: str, options: Any, timeout: float) -> CertificateFacts:
    """Shake hands with *host* ('name:port') by these options (as for ``tls_context.make_context``), but verify nothing.

    timeout: seconds, for each of the two handshakes. Switches. Raises OSError (ssl.SSLError included) when
    there is no TLS session.
    """
    given: Mapping[str, Any] = options if isinstance(options, Mapping) else {}
    own = {key: given[key] for key in ('certfile', 'keyfile', 'password', 'server_hostname') if given.get(key)}
    version, cipher, der = _shake_hands(host, {**own, 'cert_reqs': ssl.CERT_NONE, 'check_hostname': False}, timeout)
    fingerprint = hashlib.sha256(der).hexdigest()
    anchored = ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(der))
    anchored.check_hostname = False
    anchored.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME) | ssl.VERIFY_X509_PARTIAL_CHAIN
    if own.get('certfile'):
        anchored.load_cert_chain(own['certfile'], own.get('keyfile'), own.get('password'))
    try:
        found = _decoded(host, {'context': anchored, 'server_hostname': own.get('server_hostname')}, timeout)
    except OSError:
        found = {}  # for example one that is not for servers
    return CertificateFacts(version, cipher, fingerprint, **found)


def _shake_hands(host: str, options: Any, timeout: float) -> tuple[str, str, bytes]:
    transport = SSLTransport(host, timeout, options)
    try:
        transport.connect()
        tls = transport._tls
        return tls.version() or '', (tls.cipher() or ('',))[0], tls.getpeercert(binary_form=True) or b''
    finally:
        transport.close()


def _decoded(host: str, options: Any, timeout: float) -> dict[str, Any]:
    transport = SSLTransport(host, timeout, options)
    try:
        transport.connect()
        certificate: dict[str, Any] = transport._tls.getpeercert() or {}
    finally:
        transport.close()
    return {
        'subject': _joined(certificate.get('subject', ())),
        'issuer': _joined(certificate.get('issuer', ())),
        'names': tuple(name for _, name in certificate.get('subjectAltName', ())),
        'not_before': _time(certificate.get('notBefore')),
        'not_after': _time(certificate.get('notAfter')),
    }


_SHORT = {'commonName': 'CN', 'organizationName': 'O', 'organizationalUnitName': 'OU', 'countryName': 'C'}


def _joined(name: Any) -> str:
    return ', '.join(f'{_SHORT.get(key, key)}={value}' for part in name for key, value in part)


def _time(text: str | None) -> float | None:
    return None if text is None else float(ssl.cert_time_to_seconds(text))
