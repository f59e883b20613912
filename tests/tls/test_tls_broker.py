"""The TLS listener of a real broker: everything at once on one connection, whom it lets in, and as whom."""

from __future__ import annotations

import hashlib
import ssl
import time
from typing import Any

import broker_tools
import greenlets
import pytest
from certificates import Certificates

import gamqp
from gamqp import exceptions


@pytest.fixture
def trust(secure: Any) -> dict[str, Any]:
    return dict(secure.trust)


def digest(body: Any) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize('version', [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=['1.2', '1.3'])
def test_publish_and_get_with_every_version(secure: Any, trust: dict[str, Any], version: ssl.TLSVersion) -> None:
    options = {**trust, 'tls_minimum_version': version, 'tls_maximum_version': version}  # this one or none
    with gamqp.connect(secure.url, ssl=options) as connection:
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        body = bytes(range(256)) * 4096
        channel.basic_publish_confirm(gamqp.Message(body), '', queue)
        assert channel.basic_get(queue, no_ack=True).body == body


def test_an_address_with_all_the_parameters(secure: Any, certificates: Certificates) -> None:
    locked = certificates.client('carol', password='p&w=ö')
    url = (
        f'amqps://localhost:{secure.port}/%2f?cacertfile={certificates.trust}&certfile={locked.certfile}'
        f'&keyfile={locked.keyfile}&password=p%26w%3D%C3%B6&verify=verify_peer&server_name_indication=broker.test'
        '&heartbeat=7&name=by%20address&auth_mechanism=external&auth_mechanism=plain'
    )
    add_user(secure, 'carol')
    with gamqp.connect(url) as connection:
        assert connection.heartbeat == 7
        assert [one.mechanism for one in connection.authentication] == [b'EXTERNAL', b'PLAIN']
        assert logged_in_as(connection, 'carol')


def test_a_context_of_the_programs_own(secure: Any, certificates: Certificates) -> None:
    context = ssl.create_default_context(cafile=certificates.trust)
    for options in (context, {'context': context}, {'context': {'cafile': certificates.trust}}):
        with gamqp.connect(secure.url, ssl=options) as connection:
            assert connection.connected
    with pytest.raises(ssl.SSLCertVerificationError, match='its authority is none of those that we trust'):
        gamqp.connect(secure.url, ssl=ssl.create_default_context())


def test_either_side_without_tls_is_named(secure: Any) -> None:
    with pytest.raises(ssl.SSLError, match='does not speak TLS but plain AMQP'):
        gamqp.connect(f'amqps://localhost:{secure.node.port}')
    with pytest.raises((exceptions.AMQPError, OSError), match='the peer speaks TLS'):
        gamqp.connect(f'amqp://localhost:{secure.port}')


# -- who we are ------------------------------------------------------------------------------------


def add_user(secure: Any, name: str) -> None:
    secure.node.api(f'users/{name}', 'PUT', {'password_hash': '', 'tags': ''})
    everything = {'configure': '.*', 'write': '.*', 'read': '.*'}
    secure.node.api(f'permissions/%2F/{name}', 'PUT', everything)


def logged_in_as(connection: Any, user: str) -> bool:
    """The broker compares a message's user id with whom it let in (and closes the channel over a wrong one)."""
    channel = connection.channel()
    try:
        channel.basic_publish_confirm(gamqp.Message(b'x', user_id=user), '', 'nowhere')
    except exceptions.PreconditionFailed:
        return False
    channel.close()
    return True


def test_external_logs_in_as_the_user_of_the_certificate(secure: Any, certificates: Certificates) -> None:
    add_user(secure, 'alice')
    options = {**secure.trust, **certificates.client('alice').files}
    with gamqp.Connection(secure.host, 'bob', 'ignored', ssl=options, login_method='EXTERNAL') as connection:
        assert b'EXTERNAL' in connection.mechanisms
        assert logged_in_as(connection, 'alice')
        assert not logged_in_as(connection, 'bob')
        assert not logged_in_as(connection, 'guest')


def test_external_is_the_last_resort_without_user_and_password(secure: Any, certificates: Certificates) -> None:
    add_user(secure, 'alice')
    options = {**secure.trust, **certificates.client('alice').files}
    with gamqp.Connection(secure.host, None, None, ssl=options) as connection:
        assert logged_in_as(connection, 'alice')


def test_external_as_nobody_is_refused(secure: Any, certificates: Certificates) -> None:
    for files in ({}, certificates.client('nobody-knows-me').files):
        with pytest.raises(exceptions.AccessRefused, match='EXTERNAL'):
            gamqp.Connection(secure.host, ssl={**secure.trust, **files}, login_method='EXTERNAL').connect()


@pytest.mark.parametrize('version', [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=['1.2', '1.3'])
def test_a_certificate_the_broker_does_not_trust_is_named(
    secure: Any, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    strange = certificates.client('stranger', issuer=certificates.stranger)
    options = {**secure.trust, **strange.files, 'tls_minimum_version': version, 'tls_maximum_version': version}
    with pytest.raises((exceptions.ConnectionError, OSError), match='it does not accept our client certificate'):
        gamqp.Connection(secure.host, ssl=options).connect()


def test_a_callable_password_is_asked_at_each_connect(secure: Any, trust: dict[str, Any]) -> None:
    asked = []

    def password() -> str:
        greenlets.sleep(0.01)  # it may wait for somebody who knows
        asked.append(len(asked))
        return 'guest'

    connection = gamqp.Connection(secure.host, 'guest', password, ssl=trust)
    for count in (1, 2, 3):
        connection.connect()
        assert len(asked) == count
        connection.close()


# -- everything at once --------------------------------------------------------------------------------


@pytest.mark.limit(120)
def test_fifty_greenlets_move_large_bodies_both_ways_over_one_connection(secure: Any, trust: dict[str, Any]) -> None:
    """Reader and writer of one TLS session are busy all the time, and never meet."""
    workers, rounds, size = 50, 2, 1_000_000
    got: dict[str, list[str]] = {}
    with gamqp.connect(secure.url, ssl=trust, heartbeat=10, confirm_timeout=100, rpc_timeout=100) as connection:
        drainers = [greenlets.spawn(drain_for_ever, connection) for _ in range(3)]

        def work(number: int) -> None:
            channel = connection.channel()
            queue = channel.queue_declare(exclusive=True).queue
            got[queue] = []
            channel.basic_consume(queue, no_ack=True, callback=lambda message: got[queue].append(digest(message.body)))
            sent = []
            for turn in range(rounds):
                body = bytes([number, turn]) * (size // 2)
                sent.append(digest(body))
                channel.basic_publish_confirm(gamqp.Message(body), '', queue)
            greenlets.wait_until(lambda: len(got[queue]) == rounds, 90)
            assert got[queue] == sent
            channel.close()

        for task in [greenlets.spawn(work, number) for number in range(workers)]:
            task.get(110)
        assert connection.connected
        for task in drainers:
            task.kill()


def drain_for_ever(connection: Any) -> None:
    try:
        while True:
            connection.drain_events()
    except exceptions.RecoverableConnectionError:
        pass  # closed


@pytest.mark.limit(90)
def test_greenlets_of_every_kind_share_one_connection(secure: Any, trust: dict[str, Any]) -> None:
    """Declare, publish, get, ack, open, close: small and many, from all sides."""
    with gamqp.connect(secure.url, ssl=trust) as connection:

        def work(number: int) -> int:
            done = 0
            channel = connection.channel()
            queue = channel.queue_declare(exclusive=True).queue
            for turn in range(broker_tools.repeats(20, 400)):
                channel.basic_publish(gamqp.Message(b'%d' % turn), '', queue)
                message = channel.basic_get(queue)
                assert message.body == b'%d' % turn
                message.ack()
                if turn % 7 == number % 7:
                    channel.close()
                    channel = connection.channel()
                    assert channel.queue_declare(queue, passive=True).message_count == 0
                done += 1
            return done

        tasks = [greenlets.spawn(work, number) for number in range(50)]
        assert {task.get(80) for task in tasks} == {broker_tools.repeats(20, 400)}


def test_interrupted_calls_leave_the_session_whole(secure: Any, trust: dict[str, Any]) -> None:
    """A greenlet that is killed in the middle of a large publish has handed all of it over, or nothing."""
    with gamqp.connect(secure.url, ssl=trust) as connection:
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        body = bytes(3_000_000)
        for number in range(20):
            task = greenlets.spawn(channel.basic_publish, gamqp.Message(body), '', queue)
            for _ in range(1 + number % 5):
                greenlets.sleep(0)
            task.kill()
            greenlets.wait_until(lambda task=task: task.done)
        connection.flush(20)
        count = channel.queue_declare(queue, passive=True).message_count
        assert count <= 20
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            assert message.body == body


@pytest.mark.any_broker
def test_an_idle_connection_lives_on_its_heartbeats(secure: Any, trust: dict[str, Any]) -> None:
    with gamqp.connect(secure.url, ssl=trust, heartbeat=1) as connection:
        assert connection.heartbeat == 1
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=3.5)
        assert time.monotonic() - started > 3
        assert connection.connected
        connection.channel()


@pytest.mark.limit(90)
def test_a_broker_that_hangs_is_found_dead(secure: Any, trust: dict[str, Any]) -> None:
    connection = gamqp.connect(secure.url, ssl=trust, heartbeat=1)
    with secure.node.suspended(), pytest.raises(exceptions.ConnectionForced, match='heartbeats missed'):
        connection.drain_events(timeout=20)
