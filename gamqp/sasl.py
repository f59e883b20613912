"""SASL mechanisms: how a connection logs in (the response in connection.start-ok).

Layer 1: functions of credentials, no I/O of their own. Classes and parameters are
py-amqp's. A mechanism has ``mechanism`` (its name as bytes) and
``start(connection)`` (the first response as bytes, or NotImplemented to be passed
over). One that answers further questions of the broker has
``challenge(connection, question)``, too. Mechanisms may be shared by connections
and used again at each connect. No repr and no error shows a secret.
Does not belong here: when they are asked (``connection.handshake``).
"""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from . import exceptions
from .state.secret_hiding import discreet
from .wire import dumps

if TYPE_CHECKING:
    from .connection.connection import Connection

__all__ = ('AMQPLAIN', 'EXTERNAL', 'GSSAPI', 'PLAIN', 'RAW', 'SASL', 'callable_passwords', 'choose')

Password = str | Callable[[], str] | None


class SASL:
    """Base of all mechanisms; subclass it for one of your own. mechanism: its name, None to pass it over."""

    mechanism: bytes | None = None

    def start(self, connection: Connection) -> bytes | Any:
        """The first response, as bytes; NotImplemented if this mechanism cannot be used here.

        Called in the greenlet that connects, when the broker has said what it offers; may switch.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        return f'<{type(self).__name__} mechanism {(self.mechanism or b"").decode("ascii", "replace")}>'


class _UserPassword(SASL):
    """Base of the two mechanisms with user name and password.

    password: a str, or a callable without arguments that gives one; it is asked
    at each connect, so that a token may be a fresh one: before the socket is opened
    and before connect_timeout begins, so it may take its time and switch greenlets.
    """

    username: str | None = None
    password: Password = None

    def __init__(self, username: str | None, password: Password) -> None:
        self.username, self.password = username, password

    def start(self, connection: Connection) -> bytes | Any:
        if self.username is None or self.password is None:
            return NotImplemented
        if not callable(self.password):
            return self._respond(self.password)
        passwords = getattr(connection, '_passwords', None)
        return self._respond(self.password() if passwords is None else passwords.take(self.password))

    @discreet
    def _respond(self, password: Any) -> bytes:
        if not isinstance(password, str):
            raise TypeError(f'{type(self).__name__}: the password must be a str, not {type(password).__name__}')
        try:
            return self._response((self.username or '').encode(), password.encode())
        except UnicodeEncodeError:  # not raised itself: it holds the text that cannot be encoded
            raise ValueError(f'{type(self).__name__}: user name or password cannot be encoded as UTF-8') from None

    def _response(self, username: bytes, password: bytes) -> bytes:
        raise NotImplementedError


class PLAIN(_UserPassword):
    """User name and password in clear text (RFC 4616).

    username, password: the latter is a str, or a callable asked at each connect.
    """

    mechanism = b'PLAIN'

    def _response(self, username: bytes, password: bytes) -> bytes:
        if b'\0' in username or b'\0' in password:
            raise ValueError('PLAIN: user name and password cannot hold a NUL, which separates them')
        return b'\0' + username + b'\0' + password


class AMQPLAIN(_UserPassword):
    """The same as an AMQP table; older brokers prefer it.

    username, password: as for ``PLAIN``.
    """

    mechanism = b'AMQPLAIN'

    def _response(self, username: bytes, password: bytes) -> bytes:
        table: bytes = dumps('F', [{'LOGIN': username.decode(), 'PASSWORD': password.decode()}])
        return table[4:]  # without the length: the response is the bare content of the table


class EXTERNAL(SASL):
    """The broker takes the user name from the client's TLS certificate."""

    mechanism = b'EXTERNAL'

    def start(self, connection: Connection) -> bytes | Any:
        return b''


class RAW(SASL):
    """Any mechanism. mechanism, response: its name, and what is sent; both bytes."""

    response: bytes = b''

    @discreet
    def __init__(self, mechanism: bytes, response: bytes) -> None:
        if not isinstance(mechanism, bytes) or not isinstance(response, bytes):
            raise TypeError('RAW: mechanism and response must be bytes')
        self.mechanism, self.response = mechanism, response

    def start(self, connection: Connection) -> bytes | Any:
        return self.response


# RFC 4752, 3.3: no security layer (bit 1), since TLS is for that, and so a buffer of 0 bytes.
_NO_LAYER = b'\1\0\0\0'


class GSSAPI(SASL):
    """Kerberos, by the package ``gssapi`` (RFC 4752).

    client_name: who we are, None for the default credentials. service: of the
    broker, with its host name: amqp@host. rdns: take the host name from the
    address it has, by the name service. fail_soft: pass the mechanism over, when
    the package or the credentials are missing, instead of failing. The constructor
    raises NotImplementedError without the package, unless fail_soft is set.
    """

    mechanism: bytes | None = b'GSSAPI'
    client_name: bytes | None = None
    service: bytes = b'amqp'
    rdns: bool = False
    fail_soft: bool = False

    def __init__(
        self,
        client_name: str | bytes | None = None,
        service: str | bytes = b'amqp',
        rdns: bool = False,
        fail_soft: bool = False,
    ) -> None:
        self.client_name = _as_name(client_name) if isinstance(client_name, str) else client_name
        self.service = service.encode('ascii') if isinstance(service, str) else service
        self.rdns, self.fail_soft = rdns, fail_soft
        # The security context of each connection that is logging in.
        self._contexts: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        if _gssapi() is None:
            if not fail_soft:
                raise NotImplementedError('SASL GSSAPI needs the package gssapi: pip install gssapi')
            self.mechanism = None

    def get_hostname(self, connection: Connection) -> bytes:
        """The broker's host name, as its service principal has it. Switches greenlets if rdns is set."""
        transport: Any = connection.transport  # it is there: mechanisms are asked in the handshake
        name = transport.host
        if self.rdns:
            name = connection._green.gethostbyaddr(transport.sock.getpeername()[0])[0]
        return _as_name(str(name))

    def start(self, connection: Connection) -> bytes | Any:
        gssapi = _gssapi()
        if gssapi is None:
            return NotImplemented
        try:
            credentials = gssapi.Credentials(name=gssapi.Name(self.client_name)) if self.client_name else None
            target = b'@'.join((self.service, self.get_hostname(connection)))
            name = gssapi.Name(target, gssapi.NameType.hostbased_service)
            context = gssapi.SecurityContext(name=name, creds=credentials, usage='initiate')
            # In a thread: it may have to ask the Kerberos server first.
            token = connection._green.in_thread(context.step, None)
        except gssapi.raw.misc.GSSError:
            if self.fail_soft:
                return NotImplemented
            raise
        self._contexts[connection] = context
        return token or b''

    def challenge(self, connection: Connection, question: str | bytes) -> bytes:
        """Answer the broker until the context is complete; then it offers security layers, and the answer is: none."""
        context = self._contexts.get(connection)
        if context is None:
            raise exceptions.AMQPNotImplementedError('GSSAPI: the broker asks again, after the end', (10, 20))
        question = question.encode() if isinstance(question, str) else bytes(question)
        if not context.complete:
            return connection._green.in_thread(context.step, question) or b''
        del self._contexts[connection]
        offered = context.unwrap(question).message
        if len(offered) != 4 or not offered[0] & 1:
            raise ValueError('GSSAPI: the broker insists on a security layer, which is what TLS is for')
        answer: bytes = context.wrap(_NO_LAYER, False).message
        return answer


def _as_name(text: str) -> bytes:
    # Never raises: Kerberos refuses an impossible name later, or the mechanism is passed over (fail_soft).
    return text.encode('utf-8', 'surrogatepass')


def _gssapi() -> Any:
    """The package gssapi, or None. An old package of the same name has no ``raw`` and does not count."""
    try:
        importlib.import_module('gssapi.raw.misc')
        return importlib.import_module('gssapi')
    except ImportError:
        return None


def callable_passwords(mechanisms: Iterable[Any]) -> list[Callable[[], Any]]:
    """The callable passwords of these mechanisms. One callable may be in the list several times."""
    passwords = [one.password for one in mechanisms if isinstance(one, _UserPassword)]
    return [password for password in passwords if callable(password)]


def choose(
    userid: str | None, password: Password, method: Any, response: bytes | None, secure: bool
) -> tuple[SASL, ...]:
    """The mechanisms of a connection without an *authentication* argument, best first. secure: it uses TLS.

    method: login_method, response: login_response of the Connection.
    """
    if method is None:
        usual = (GSSAPI(userid, fail_soft=True), PLAIN(userid, password), AMQPLAIN(userid, password))
        # EXTERNAL last, and only with TLS: over plain TCP a broker may offer it and then refuse.
        return (*usual, EXTERNAL()) if secure else usual
    if isinstance(method, (tuple, list)):
        return tuple(_mechanism(userid, password, one, response) for one in method)
    return (_mechanism(userid, password, method, response),)


def _mechanism(userid: str | None, password: Password, method: Any, response: bytes | None) -> SASL:
    if method == 'EXTERNAL':
        return EXTERNAL()
    if method == 'GSSAPI':
        return GSSAPI(userid)
    if response is not None:
        return RAW(method.encode() if isinstance(method, str) else method, response)
    if method in ('PLAIN', 'AMQPLAIN'):
        if userid is None or password is None:
            raise ValueError(f'login_method {method} needs userid and password')
        return PLAIN(userid, password) if method == 'PLAIN' else AMQPLAIN(userid, password)
    raise ValueError(f'unknown login_method {method!r} without a login_response')
