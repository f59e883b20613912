"""OAuth 2 tokens as passwords, with a real broker that checks them: log in, renew, be refused, expire."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import greenlets
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from node import Node

import gamqp
from gamqp import exceptions

_CONFIG = """\
auth_backends.1 = rabbit_auth_backend_internal
auth_backends.2 = rabbit_auth_backend_oauth2
auth_oauth2.resource_server_id = rabbitmq
auth_oauth2.signing_keys.key = {key}
auth_oauth2.default_key = key
auth_oauth2.algorithms.1 = RS256
"""
_RIGHTS = ['rabbitmq.configure:*/*', 'rabbitmq.read:*/*', 'rabbitmq.write:*/*']

SHORT = 2  # seconds that a token lives which is to expire

Token = Callable[..., str]


class Issuer:
    """Signs tokens; its public key is what the broker checks them by."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)

    def write(self, path: Path) -> None:
        public = self._key.public_key()
        encoded = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        path.write_bytes(encoded)

    def token(self, life: float = 60, **more: Any) -> str:
        claims = {'aud': ['rabbitmq'], 'scope': _RIGHTS, 'exp': int(time.time() + life), 'sub': 'me', **more}
        signed = _encode({'alg': 'RS256', 'typ': 'JWT', 'kid': 'key'}) + b'.' + _encode(claims)
        signature = self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        return (signed + b'.' + base64.urlsafe_b64encode(signature).rstrip(b'=')).decode()


def _encode(value: Any) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b'=')


@pytest.fixture(scope='session')
def token(tmp_path_factory: pytest.TempPathFactory) -> Token:
    return Issuer().token


@pytest.fixture(scope='module')
def checking(rabbit: Any, token: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that takes the tokens of our issuer."""
    if rabbit.label == 'external':
        pytest.skip('the broker is not ours')
    path = tmp_path_factory.mktemp('issuer') / 'key.pem'
    token.__self__.write(path)
    config = _CONFIG.format(key=path).splitlines()
    if _reads_long_tokens(rabbit):
        config.append('initial_frame_max = 65536')
    with Node(rabbit.label, plugins=['rabbitmq_auth_backend_oauth2'], config=config) as node:
        yield node


def _reads_long_tokens(rabbit: Any) -> bool:
    """Whether a broker of that version does, if its operator says so."""
    return tuple(int(part) for part in rabbit.version.split('.')[:2]) >= (4, 1)


def client(node: Node, password: Any) -> gamqp.Connection:
    return gamqp.Connection(f'127.0.0.1:{node.port}', userid='', password=password)


def test_a_renewed_token_keeps_a_connection_working_beyond_the_first(checking: Node, token: Token) -> None:
    with client(checking, lambda: token(SHORT)) as connection:
        ends = time.time() + SHORT
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True, auto_delete=False).queue
        connection.update_secret(token(60), 'expires soon')
        greenlets.wait_until(lambda: time.time() > ends + 1)
        channel.basic_publish_confirm(gamqp.Message(b'x'), '', queue)
        # A queue of its own, since the broker remembers what it has allowed.
        assert connection.channel().queue_declare(exclusive=True).queue
        assert channel.basic_get(queue, no_ack=True).body == b'x'


def test_a_token_that_expires_is_told_in_the_brokers_words(rabbit: Any, checking: Node, token: Token) -> None:
    with client(checking, token(SHORT)) as connection:
        ends = time.time() + SHORT
        channel = connection.channel()
        greenlets.wait_until(lambda: time.time() > ends + 1)
        if rabbit.major < 4:  # it refuses, one operation at a time, and the connection can be saved
            with pytest.raises(exceptions.AccessRefused, match='expired'):
                channel.queue_declare(exclusive=True)
            connection.update_secret(token(60), 'late')
            assert channel.queue_declare(exclusive=True).queue
        else:
            with pytest.raises(exceptions.ConnectionForced, match='credential expired'):
                channel.queue_declare(exclusive=True)


@pytest.mark.parametrize('secret', ['nonsense', 'of another issuer'])
def test_a_secret_that_is_refused_ends_the_connection_and_the_provider_is_asked_for_the_next(
    checking: Node, token: Token, secret: str
) -> None:
    asked: list[int] = []

    def provider() -> str:
        asked.append(1)
        return token()

    if secret != 'nonsense':
        secret = Issuer().token()
    connection = client(checking, provider)
    connection.connect()
    waiting = greenlets.spawn(connection.drain_events)
    greenlets.sleep(0)
    with pytest.raises(exceptions.NotAllowed) as caught:
        connection.update_secret(secret, 'by mistake')
    assert caught.value.reply_code == 530
    assert caught.value.method_name == 'Connection.update_secret'
    assert secret not in str(caught.value)
    with pytest.raises(exceptions.NotAllowed):
        waiting.get()
    assert not connection.connected
    connection.connect()
    assert connection.channel().queue_declare(exclusive=True).queue
    assert len(asked) == 2
    connection.close()


def test_a_token_that_is_refused_at_login_is_access_refused(checking: Node, token: Token) -> None:
    for password in ('nonsense', Issuer().token(), token(-100)):
        started = time.monotonic()
        with pytest.raises(exceptions.AccessRefused) as caught:
            client(checking, password).connect()
        assert time.monotonic() - started < 30
        assert password not in str(caught.value) + repr(caught.value)


def test_a_long_token_logs_in_where_the_broker_can_read_it(rabbit: Any, checking: Node, token: Token) -> None:
    """Four thousand bytes are too many for the old ones, the new ones take what their operator allows."""
    long = token(scope=[*_RIGHTS, *(f'rabbitmq.read:vhost-{number}/queue-{number}' for number in range(300))])
    assert 12_000 < len(long) < 60_000
    connection = client(checking, long)
    if not _reads_long_tokens(rabbit):
        with pytest.raises(exceptions.EncodeError, match='the broker takes 4096: the password or token'):
            connection.connect()
    else:
        with connection:
            assert connection.channel().queue_declare(exclusive=True).queue


def test_a_token_that_is_too_long_for_a_broker_as_it_comes_is_thought_of(rabbit: Any, token: Token) -> None:
    if not _reads_long_tokens(rabbit):
        pytest.skip('older ones take 4096 bytes at most, which is refused before')
    connection = gamqp.Connection(f'127.0.0.1:{rabbit.node.port}', password='x' * 9000)
    with pytest.raises(exceptions.RecoverableConnectionError, match='initial_frame_max'):
        connection.connect()


@pytest.mark.slow
@pytest.mark.real_seconds
def test_a_connection_renews_its_token_by_itself_and_lives_longer_than_the_first(checking: Node, token: Token) -> None:
    given: list[str] = []

    def provider() -> str:
        given.append(token(SHORT + 1 if not given else 60))
        greenlets.sleep(0.1)  # it may ask somewhere
        return given[-1]

    connection = gamqp.Connection(f'127.0.0.1:{checking.port}', userid='', password=provider, refresh_secret=True)
    with connection:
        ends = time.time() + SHORT + 1
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True, auto_delete=False).queue
        greenlets.wait_until(lambda: time.time() > ends + 1)
        assert len(given) == 2
        channel.basic_publish_confirm(gamqp.Message(b'x'), '', queue)
        assert connection.channel().queue_declare(exclusive=True).queue
        assert channel.basic_get(queue, no_ack=True).body == b'x'
