"""A certificate authority, a server certificate and client certificates, made on the spot for a broker with TLS.

Layer 5. Needs the package ``cryptography`` (in the extra ``testing``). Valid for a day, in a folder that goes with the
broker. Does not belong here: connections.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import tempfile
from typing import Any

__all__ = ('Certificates',)

_NAMES = ('localhost', '127.0.0.1', '::1')


class Certificates:
    """Files in PEM. ca_certs: the authority to trust. certfile, keyfile: of the server.

    Raises ImportError when ``cryptography`` is not installed.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix='gamqp-testing-')
        self._x509 = _x509()
        self._authority_key = self._new_key()
        self._authority = self._certificate('gamqp.testing authority', self._authority_key, (), authority=True)
        self.ca_certs = self._write('ca.pem', self._pem(self._authority))
        self.certfile, self.keyfile = self._pair('server', 'localhost', _NAMES)

    def client(self, user: str) -> tuple[str, str]:
        """(certfile, keyfile) of a client whose common name is *user*, for EXTERNAL."""
        return self._pair(f'client-{len(os.listdir(self._folder.name))}', user, ())

    def _close(self) -> None:
        """Remove the files. Idempotent."""
        self._folder.cleanup()

    def _pair(self, file: str, common_name: str, names: tuple[str, ...]) -> tuple[str, str]:
        from cryptography.hazmat.primitives import serialization

        key = self._new_key()
        certificate = self._certificate(common_name, key, names)
        octets = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._write(f'{file}.pem', self._pem(certificate)), self._write(f'{file}.key', octets)

    def _certificate(self, common_name: str, key: Any, names: tuple[str, ...], authority: bool = False) -> Any:
        from cryptography.hazmat.primitives import hashes

        x509 = self._x509
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
        now = datetime.datetime.now(datetime.timezone.utc)
        issuer_key = self._authority_key.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if authority else self._authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
            .add_extension(_usage(x509, authority), critical=True)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([self._general(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self._authority_key, hashes.SHA256())

    def _general(self, name: str) -> Any:
        try:
            return self._x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            return self._x509.DNSName(name)

    def _new_key(self) -> Any:
        from cryptography.hazmat.primitives.asymmetric import ec

        return ec.generate_private_key(ec.SECP256R1())

    def _pem(self, certificate: Any) -> bytes:
        from cryptography.hazmat.primitives import serialization

        octets: bytes = certificate.public_bytes(serialization.Encoding.PEM)
        return octets

    def _write(self, file: str, octets: bytes) -> str:
        path = os.path.join(self._folder.name, file)
        with open(path, 'wb') as stream:
            stream.write(octets)
        return path


def _x509() -> Any:
    try:
        from cryptography import x509
    except ImportError:
        raise ImportError(
            'a broker with tls=True makes certificates: install gamqp[testing], which has the package cryptography'
        ) from None
    return x509


def _usage(x509: Any, authority: bool) -> Any:
    flags = dict.fromkeys(
        (
            *('content_commitment', 'key_encipherment', 'data_encipherment', 'key_agreement'),
            *('encipher_only', 'decipher_only', 'crl_sign'),
        ),
        False,
    )
    return x509.KeyUsage(digital_signature=True, key_cert_sign=authority, **flags)
