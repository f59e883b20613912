"""Mechanisms: what each sends, when it asks for the password, and that no secret shows anywhere."""

from __future__ import annotations

import copy
import logging
import pickle
import sys
import threading
import traceback
import types
from collections.abc import Iterator
from typing import Any, ClassVar

import greenlets
import inside
import pytest
from named_methods import octets
from script import ScriptedBroker

import gamqp
from gamqp import exceptions, green, sasl

SECRET = 'hunter2-ß'


def log_in(peer: ScriptedBroker, offered: bytes, **arguments: Any) -> gamqp.Connection:
    connection = peer.client(**arguments)
    opening = greenlets.spawn(connection.connect)
    peer.handshake(mechanisms=offered)
    opening.get()
    return connection


# -- which one ------------------------------------------------------------------------------------


def test_several_by_name_best_first(peer: ScriptedBroker) -> None:
    arguments = {'userid': 'u', 'password': 'p', 'login_method': ('EXTERNAL', 'AMQPLAIN', 'PLAIN')}
    log_in(peer, b'PLAIN AMQPLAIN', **arguments)
    assert peer.start_ok.mechanism == 'AMQPLAIN'
    peer.hang_up()
    log_in(peer, b'PLAIN EXTERNAL', **arguments)
    assert peer.start_ok.mechanism == 'EXTERNAL'


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        ({'login_method': 'KERBEROS'}, "unknown login_method 'KERBEROS'"),
        ({'login_method': ('PLAIN', 'X')}, "unknown login_method 'X'"),
        ({'login_method': 'PLAIN', 'password': None}, 'PLAIN needs userid and password'),
        ({'login_method': 'AMQPLAIN', 'userid': None}, 'AMQPLAIN needs userid and password'),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        gamqp.Connection(**arguments)


def test_raw_takes_bytes_only() -> None:
    for arguments in (('X', b'y'), (b'X', 'y')):
        with pytest.raises(TypeError, match='must be bytes'):
            sasl.RAW(*arguments)  # type: ignore[arg-type]


def test_the_base_class_is_for_subclasses() -> None:
    with pytest.raises(NotImplementedError):
        sasl.SASL().start(None)


# -- passwords ---------------------------------------------------------------------------------------


@pytest.mark.parametrize('method', ['PLAIN', 'AMQPLAIN'])
def test_a_callable_password_is_asked_at_each_connect(peer: ScriptedBroker, method: str) -> None:
    tokens = iter(['first', 'second'])

    def password() -> str:
        greenlets.sleep(0.01)  # it may wait for somebody who knows
        return next(tokens)

    connection = log_in(peer, method.encode(), userid='u', password=password)
    assert octets(peer.start_ok.response).endswith(b'first')
    connection.collect()
    peer.hang_up()
    opening = greenlets.spawn(connection.connect)
    peer.handshake(mechanisms=method.encode())
    opening.get()
    assert octets(peer.start_ok.response).endswith(b'second')


@pytest.mark.parametrize('make', [sasl.PLAIN, sasl.AMQPLAIN])
def test_it_may_stand_in_a_mechanism_too(peer: ScriptedBroker, make: Any) -> None:
    log_in(peer, b'PLAIN AMQPLAIN', authentication=make('u', lambda: 'asked'))
    assert octets(peer.start_ok.response).endswith(b'asked')


def test_an_error_of_the_callable_is_the_error_of_the_connect(peer: ScriptedBroker) -> None:
    def password() -> str:
        raise LookupError('no token today')

    connection = peer.client(password=password)
    with pytest.raises(LookupError, match='no token today'):
        connection.connect()
    assert not connection.connected and connection.transport is None


def test_a_callable_is_asked_once_before_the_socket_opens_and_may_take_its_time(peer: ScriptedBroker) -> None:
    asked = []
    known = green.Slot(greenlets.backend)

    def password() -> str:
        asked.append(connection.transport)
        known.wait(30)
        return 'asked'

    connection = peer.client(password=password, connect_timeout=0.001)
    opening = greenlets.spawn(connection.connect)
    greenlets.wait_until(lambda: asked)
    with pytest.raises(exceptions.RecoverableConnectionError, match='another greenlet has this connection opening'):
        connection.connect()
    connection.connect_timeout = 20  # counts from when the socket is opened
    known.succeed()
    peer.handshake(mechanisms=b'AMQPLAIN PLAIN')
    opening.get()
    assert asked == [None]
    assert octets(peer.start_ok.response).endswith(b'asked')
    assert inside.keeps_no_password(connection)  # nothing of it is kept


def test_a_connection_that_is_closed_while_a_password_is_asked_for_is_not_opened(peer: ScriptedBroker) -> None:
    known = green.Slot(greenlets.backend)
    connection = peer.client(password=lambda: known.wait(30) and 'asked')
    opening = greenlets.spawn(connection.connect)
    greenlets.wait_until(lambda: known.awaited)
    connection.close()
    known.succeed()
    with pytest.raises(exceptions.RecoverableConnectionError, match='closed'):
        opening.get()


def test_who_connects_anew_while_a_password_is_asked_for_keeps_what_was_given_to_it(peer: ScriptedBroker) -> None:
    """The first connect(), when its callable answers at last, touches nothing of the second."""
    known = green.Slot(greenlets.backend)
    asked = []

    def password() -> str:
        asked.append(1)
        if len(asked) > 1:
            return 'second'
        known.wait(30)
        return 'first'

    connection = peer.client(password=password)
    overtaken = greenlets.spawn(connection.connect)
    greenlets.wait_until(lambda: known.awaited)
    connection.close()
    opening = greenlets.spawn(connection.connect)
    peer.handshake(until='start')
    known.succeed()
    with pytest.raises(exceptions.RecoverableConnectionError, match='closed'):
        overtaken.get()
    peer.shake_hands()
    opening.get()
    assert octets(peer.start_ok.response).endswith(b'second')
    assert len(asked) == 2
    assert inside.keeps_no_password(connection)


def test_a_password_that_was_given_and_not_used_is_not_kept(peer: ScriptedBroker) -> None:
    connection = peer.client(password=lambda: 'asked')
    opening = greenlets.spawn(connection.connect)
    peer.handshake(until='start')
    assert not inside.keeps_no_password(connection)
    peer.hang_up()
    with pytest.raises(exceptions.RecoverableConnectionError):
        opening.get()
    assert inside.keeps_no_password(connection)


def test_killing_who_waits_for_a_password_leaves_nothing(peer: ScriptedBroker) -> None:
    asked = []

    def password() -> str:
        asked.append(1)
        greenlets.sleep(30)
        return ''

    connection = peer.client(password=password)
    opening = greenlets.spawn(connection.connect)
    greenlets.wait_until(lambda: asked)
    opening.kill()
    greenlets.wait_until(lambda: opening.done)
    assert not connection.connected and inside.keeps_no_password(connection)


@pytest.mark.parametrize('make', [sasl.PLAIN, sasl.AMQPLAIN])
@pytest.mark.parametrize(
    ('password', 'error'),
    [(b'hunter2', TypeError), (2, TypeError), (lambda: b'hunter2', TypeError), ('hunter2\udc80', ValueError)],
)
def test_a_password_that_is_none_is_refused_without_quoting_it(make: Any, password: Any, error: Any) -> None:
    with pytest.raises(error) as caught:
        make('user', password).start(None)
    shown = f'{caught.value} {caught.value!r} {"".join(traceback.format_exception(caught.value))}'
    assert 'hunter2' not in shown
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(('user', 'password'), [('user\0', 'x'), ('user', 'x\0y')])
def test_plain_refuses_the_octet_that_separates(user: str, password: str) -> None:
    with pytest.raises(ValueError, match='NUL'):
        sasl.PLAIN(user, password).start(None)


# -- secrets -----------------------------------------------------------------------------------------


def test_a_secret_is_in_no_repr_log_or_error(peer: ScriptedBroker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[Any] = [sasl.PLAIN('u', SECRET), sasl.AMQPLAIN('u', SECRET), sasl.RAW(b'X', SECRET.encode())]
    connection = log_in(peer, b'PLAIN', userid='u', password=SECRET, name='mine')
    shown += [connection, inside.writer(connection), inside.link(connection).decoder, connection.transport]
    shown += [peer.open_channel(connection), connection.client_properties, connection.server_properties]
    peer.send('connection.blocked', reason='low')
    greenlets.wait_until(lambda: connection.is_blocked)
    peer.send('connection.close', reply_code=403, reply_text='ACCESS_REFUSED')
    greenlets.wait_until(lambda: not connection.connected)
    peer.hang_up()
    with pytest.raises(exceptions.AMQPError) as caught:
        connection.channel()
    shown.append(caught.value)
    opening = greenlets.spawn(connection.connect)
    peer.handshake(until='tune', mechanisms=b'PLAIN')
    peer.send('connection.close', reply_code=403, reply_text='ACCESS_REFUSED')
    with pytest.raises(exceptions.AccessRefused) as refused:
        opening.get()
    shown += [refused.value, pickle.dumps(refused.value), copy.copy(refused.value)]
    peer.hang_up()
    opening = greenlets.spawn(connection.connect)
    peer.handshake(until='start')
    peer.send('connection.start', mechanisms=b'OTHER', locales=b'en_US')
    with pytest.raises(exceptions.ConnectionError) as no_way:
        opening.get()
    shown.append(no_way.value)
    for url in (f'amqp://u:{SECRET}@h/a/b', f'amqp://u:{SECRET}@h?x={SECRET}@', f'amqp://u:{SECRET}\n@h'):
        with pytest.raises(ValueError, match='AMQP URI') as bad:
            gamqp.connect(url)
        shown.append(bad.value)
    texts = [f'{one} {one!r}' for one in shown] + [caplog.text]
    for text in texts:
        assert SECRET not in text, text
        assert 'hunter2' not in text, text


# -- GSSAPI --------------------------------------------------------------------------------------------


class GSSError(Exception):
    pass


class Context:
    """Two rounds, then the security layers, in the shape of gssapi.SecurityContext."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.rounds = 0
        self.made.append(self)

    made: ClassVar[list[Context]] = []
    failure: Any = None

    @property
    def complete(self) -> bool:
        return self.rounds >= 2

    def step(self, token: Any) -> bytes | None:
        if self.failure is not None:
            raise self.failure
        self.rounds += 1
        return None if self.rounds == 2 else b'token for ' + (token or b'nothing')

    def unwrap(self, message: bytes) -> Any:
        assert message.startswith(b'wrapped ')
        return types.SimpleNamespace(message=message[8:], encrypted=False, qop=0)

    def wrap(self, message: bytes, encrypt: bool) -> Any:
        assert not encrypt
        return types.SimpleNamespace(message=b'wrapped ' + message, encrypted=False)


@pytest.fixture
def kerberos(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A stand-in for the package gssapi: what of it touches a Kerberos server is not for a test to have."""
    package: Any = types.ModuleType('gssapi')
    package.raw = types.ModuleType('gssapi.raw')
    package.raw.misc = types.ModuleType('gssapi.raw.misc')
    package.raw.misc.GSSError = GSSError
    package.NameType = types.SimpleNamespace(hostbased_service='hostbased')
    package.Name = lambda *args: args
    package.Credentials = lambda name: ('credentials', name)
    monkeypatch.setattr(Context, 'made', [])
    package.SecurityContext = Context
    for module in (package, package.raw, package.raw.misc):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    yield package
    if greenlets.GREEN == 'eventlet':
        import eventlet.tpool

        eventlet.tpool.killall()  # its threads would stay for the next call


@pytest.mark.parametrize('who', [{}, {'client_name': 'alice@REALM'}])
def test_gssapi_steps_until_the_context_stands(peer: ScriptedBroker, kerberos: Any, who: dict[str, str]) -> None:
    connection = peer.client(authentication=sasl.GSSAPI(**who))
    opening = greenlets.spawn(connection.connect)
    peer.handshake(until='tune', mechanisms=b'GSSAPI PLAIN')
    assert peer.start_ok.mechanism == 'GSSAPI'
    assert octets(peer.start_ok.response) == b'token for nothing'
    for question, answer in ((b'\xff\0?', b''), (b'wrapped \x07\0\xff\xff', b'wrapped \1\0\0\0')):
        peer.send('connection.secure', challenge=question)
        assert octets(peer.expect('connection.secure-ok').response) == answer
    peer.send('connection.tune', channel_max=10, frame_max=131072, heartbeat=0)
    peer.expect('connection.tune-ok')
    peer.expect('connection.open')
    peer.send('connection.open-ok')
    opening.get()
    (context,) = Context.made
    assert context.arguments['name'] == (b'amqp@127.0.0.1', 'hostbased')
    expected = ('credentials', (b'alice@REALM',)) if who else None
    assert context.arguments['creds'] == expected


def test_gssapi_one_mechanism_object_serves_two_connections_at_once(kerberos: Any) -> None:
    mechanism = sasl.GSSAPI()
    with ScriptedBroker() as one, ScriptedBroker() as other:
        tasks = []
        for peer in (one, other):
            tasks.append(greenlets.spawn(peer.client(authentication=mechanism).connect))
            peer.handshake(until='tune', mechanisms=b'GSSAPI')
        for peer in (one, other):
            peer.send('connection.secure', challenge=b'?')
            peer.expect('connection.secure-ok')
        first, second = Context.made
        assert (first.rounds, second.rounds) == (2, 2)
        for peer in (one, other):
            peer.hang_up()
        for task in tasks:
            with pytest.raises(exceptions.RecoverableConnectionError):
                task.get()


def test_gssapi_by_name_takes_the_user_for_the_client(peer: ScriptedBroker, kerberos: Any) -> None:
    log_in(peer, b'GSSAPI', userid='alice', login_method='GSSAPI')
    assert Context.made[0].arguments['creds'] == ('credentials', (b'alice',))


def test_gssapi_is_tried_first_and_passed_over_when_it_fails(
    peer: ScriptedBroker, kerberos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Context, 'failure', GSSError('no ticket'))
    log_in(peer, b'PLAIN GSSAPI', userid='u', password='p')
    assert Context.made
    assert peer.start_ok.mechanism == 'PLAIN'


@pytest.mark.parametrize('userid', ['jörg', 'j\udcf6rg'])
def test_gssapi_takes_any_user_name(kerberos: Any, userid: str) -> None:
    gssapi, *_ = gamqp.Connection(userid=userid, password='p').authentication
    assert gssapi.client_name == userid.encode('utf-8', 'surrogatepass')


def test_gssapi_does_not_keep_a_user_with_any_name_from_logging_in(peer: ScriptedBroker) -> None:
    log_in(peer, b'PLAIN GSSAPI', userid='jörg', password='p')
    assert octets(peer.start_ok.response) == '\0jörg\0p'.encode()


def test_gssapi_takes_any_host_name() -> None:
    transport = types.SimpleNamespace(host='bücher.test')
    name = sasl.GSSAPI(fail_soft=True).get_hostname(types.SimpleNamespace(transport=transport))
    assert name == 'bücher.test'.encode()


def test_gssapi_that_is_asked_again_after_the_end_is_an_error_of_amqp(peer: ScriptedBroker, kerberos: Any) -> None:
    opening = greenlets.spawn(peer.client(login_method='GSSAPI').connect)
    peer.handshake(until='tune', mechanisms=b'GSSAPI')
    for question in (b'?', b'wrapped \x07\0\xff\xff'):
        peer.send('connection.secure', challenge=question)
        peer.expect('connection.secure-ok')
    peer.send('connection.secure', challenge=b'again')
    with pytest.raises(exceptions.AMQPNotImplementedError, match='asks again'):
        opening.get()
    peer.expect_end()


def test_gssapi_that_was_asked_for_fails_with_its_own_error(
    peer: ScriptedBroker, kerberos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Context, 'failure', GSSError('no ticket'))
    opening = greenlets.spawn(peer.client(login_method='GSSAPI').connect)
    peer.handshake(until='start')
    peer.send('connection.start', mechanisms=b'GSSAPI PLAIN', locales=b'en_US')
    with pytest.raises(GSSError, match='no ticket'):
        opening.get()
    peer.expect_end()


def test_gssapi_refuses_a_broker_that_insists_on_a_security_layer(peer: ScriptedBroker, kerberos: Any) -> None:
    opening = greenlets.spawn(peer.client(authentication=sasl.GSSAPI()).connect)
    peer.handshake(until='tune', mechanisms=b'GSSAPI')
    peer.send('connection.secure', challenge=b'?')
    peer.expect('connection.secure-ok')
    peer.send('connection.secure', challenge=b'wrapped \x06\0\xff\xff')
    with pytest.raises(ValueError, match='insists on a security layer'):
        opening.get()
    peer.expect_end()


def test_gssapi_may_ask_the_name_service_for_the_host(
    peer: ScriptedBroker, kerberos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def gethostbyaddr(address: str) -> Any:
        asked.append(address)
        return 'canonical.test', [], [address]

    monkeypatch.setattr(greenlets.backend, 'gethostbyaddr', gethostbyaddr)
    log_in(peer, b'GSSAPI', authentication=sasl.GSSAPI(service='broker', rdns=True))
    assert asked == ['127.0.0.1']
    assert Context.made[0].arguments['name'] == (b'broker@canonical.test', 'hostbased')


def test_gssapi_does_not_hold_the_hub_while_it_asks(
    peer: ScriptedBroker, kerberos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first step may have to ask the Kerberos server, in C, without a hub."""
    release = threading.Event()
    step = Context.step

    def slow(self: Context, token: Any) -> bytes | None:
        assert release.wait(10)
        return step(self, token)

    monkeypatch.setattr(Context, 'step', slow)
    opening = greenlets.spawn(peer.client(login_method='GSSAPI').connect)
    peer.handshake(until='start')
    peer.send('connection.start', mechanisms=b'GSSAPI', locales=b'en_US')
    greenlets.wait_until(lambda: Context.made)
    greenlets.sleep(0.01)  # we get here
    release.set()
    assert octets(peer.expect('connection.start-ok').response) == b'token for nothing'
    peer.hang_up()
    with pytest.raises(exceptions.RecoverableConnectionError):
        opening.get()


def test_gssapi_without_its_package(peer: ScriptedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'gssapi', None)
    with pytest.raises(NotImplementedError, match='pip install gssapi'):
        gamqp.Connection(login_method='GSSAPI')
    assert sasl.GSSAPI(fail_soft=True).start(None) is NotImplemented
    log_in(peer, b'GSSAPI PLAIN', userid='u', password='p')
    assert peer.start_ok.mechanism == 'PLAIN'
