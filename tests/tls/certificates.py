"""Certificates for the tests: two authorities, and servers and clients that they vouch for, or do not.

Made anew for each run, valid for a day, in a folder of their own. What must not enter: connections.
"""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ('Certificates', 'Pair')

DAY = datetime.timedelta(days=1)


class Pair:
    """A certificate and its key, as files in PEM."""

    def __init__(self, folder: Path, name: str, certificate: x509.Certificate, key: Any, password: str = '') -> None:
        self.certificate, self.key = certificate, key
        self.certfile, self.keyfile = str(folder / f'{name}.pem'), str(folder / f'{name}.key')
        locked = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        Path(self.certfile).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        Path(self.keyfile).write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
        )

    @property
    def files(self) -> dict[str, str]:
        return {'certfile': self.certfile, 'keyfile': self.keyfile}


class Certificates:
    """``ca`` is the authority to trust, ``stranger`` another one; the rest are leaves, made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = self._authority('ca')
        self.stranger = self._authority('stranger')
        self._leaves: dict[str, Pair] = {}

    @property
    def trust(self) -> str:
        """The file to give as ca_certs."""
        return self.ca.certfile

    @property
    def server(self) -> Pair:
        """For localhost, 127.0.0.1 and broker.test."""
        return self.leaf('server')

    def leaf(self, name: str, **how: Any) -> Pair:
        if name not in self._leaves:
            self._leaves[name] = self._make(name, **how)
        return self._leaves[name]

    def client(self, user: str, **how: Any) -> Pair:
        """Of a client, whose common name is *user*."""
        return self.leaf(f'client-{user}', common_name=user, names=(), purpose=ExtendedKeyUsageOID.CLIENT_AUTH, **how)

    def _make(
        self,
        name: str,
        *,
        common_name: str = '',
        names: tuple[str, ...] = ('localhost', '127.0.0.1', 'broker.test'),
        issuer: Pair | None = None,
        self_signed: bool = False,
        expired: bool = False,
        purpose: Any = ExtendedKeyUsageOID.SERVER_AUTH,
        password: str = '',
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(common_name or name)
        issuer = issuer or self.ca
        signer = key if self_signed else issuer.key
        start = _now() - (3 * DAY if expired else DAY)
        builder = (
            _builder(subject, subject if self_signed else issuer.certificate.subject, key, start)
            .not_valid_after(start + 2 * DAY)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(_key_identifier_of(signer), critical=False)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general(one) for one in names]), critical=False
            )
        return Pair(self.folder, name, builder.sign(signer, hashes.SHA256()), key, password)

    def _authority(self, name: str) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(f'gamqp test authority {name}')
        usage = dict.fromkeys(
            ('content_commitment', 'key_encipherment', 'data_encipherment', 'key_agreement', 'encipher_only'), False
        )
        builder = (
            _builder(subject, subject, key, _now() - DAY)
            .not_valid_after(_now() + DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, decipher_only=False, **usage),
                critical=True,
            )
        )
        return Pair(self.folder, name, builder.sign(key, hashes.SHA256()), key)


def _builder(subject: Any, issuer: Any, key: Any, start: Any) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_identifier_of(key: Any) -> Any:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _general(name: str) -> Any:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
