"""SASL mechanisms: what connection.start-ok carries to say who we are.

Layer 1: pure functions of credentials, no I/O. Names and shapes are py-amqp's.
A mechanism has ``mechanism`` (its name as bytes, None: cannot be used) and
``start(connection)`` (the first response as bytes, or NotImplemented to be
passed over). Secrets stay out of every repr.
"""

from __future__ import annotations

from typing import Any

from .wire import dumps

__all__ = ('AMQPLAIN', 'EXTERNAL', 'PLAIN', 'RAW', 'SASL')


class SASL:
    """Base of all mechanisms; subclass it for one of your own."""

    mechanism: bytes | None = None

    def start(self, connection: Any) -> Any:
        """The first response, as bytes; NotImplemented if this mechanism cannot be used here."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f'<{type(self).__name__} mechanism {(self.mechanism or b"").decode()}>'


class PLAIN(SASL):
    """User name and password in clear text (RFC 4616)."""

    mechanism = b'PLAIN'

    def __init__(self, username: str | None, password: str | None) -> None:
        self.username, self.password = username, password

    def start(self, connection: Any) -> Any:
        if self.username is None or self.password is None:
            return NotImplemented
        return b'\0' + self.username.encode() + b'\0' + self.password.encode()


class AMQPLAIN(SASL):
    """The same as an AMQP table; older brokers prefer it."""

    mechanism = b'AMQPLAIN'

    def __init__(self, username: str | None, password: str | None) -> None:
        self.username, self.password = username, password

    def start(self, connection: Any) -> Any:
        if self.username is None or self.password is None:
            return NotImplemented
        table = dumps('F', [{'LOGIN': self.username, 'PASSWORD': self.password}])
        return table[4:]  # without the length: the response is the bare content of the table


class EXTERNAL(SASL):
    """Whoever the TLS certificate says we are."""

    mechanism = b'EXTERNAL'

    def start(self, connection: Any) -> Any:
        return b''


class RAW(SASL):
    """A mechanism and its response given by the caller."""

    def __init__(self, mechanism: bytes, response: bytes) -> None:
        if not isinstance(mechanism, bytes) or not isinstance(response, bytes):
            raise TypeError('RAW: mechanism and response must be bytes')
        self.mechanism, self.response = mechanism, response

    def start(self, connection: Any) -> Any:
        return self.response
