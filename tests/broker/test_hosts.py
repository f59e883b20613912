"""Several hosts: which one is tried when, what each of them gets, and the error when none lets the client in."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker

import gamqp
from gamqp import exceptions, green
from gamqp.connection.hosts import hosts_of

SECRET = 'correct-horse-battery'
OURS = os.path.dirname(gamqp.__file__)


@pytest.fixture
def peers() -> Iterator[list[ScriptedBroker]]:
    with ScriptedBroker() as one, ScriptedBroker() as two, ScriptedBroker() as three:
        yield [one, two, three]


@pytest.fixture
def opened() -> Iterator[list[gamqp.Connection]]:
    """Those that are to be dropped at the end."""
    connections: list[gamqp.Connection] = []
    yield connections
    for connection in connections:
        connection.collect()


def url_of(place: Any, user: str = 'guest', more: str = '') -> str:
    host = place.host if isinstance(place, ScriptedBroker) else f'{place[0]}:{place[1]}'
    return f'amqp://{user}:{SECRET}@{host}{more}'


class Unavailable(Exception):
    pass


def outcome(call: Callable[[], object]) -> BaseException | None:
    """The error that it raises, None if it raises none."""
    try:
        call()
    except BaseException as exc:
        return exc
    return None


def connecting(opened: list[gamqp.Connection], url: Any, **arguments: Any) -> greenlets.Task:
    def connect() -> gamqp.Connection:
        connection = gamqp.connect(url, **{'shuffle': False, **arguments})
        opened.append(connection)
        return connection

    return greenlets.spawn(outcome, connect)


def again(connection: gamqp.Connection) -> greenlets.Task:
    return greenlets.spawn(outcome, connection.connect)


def refuse(peer: ScriptedBroker, code: int = 403) -> None:
    peer.handshake(until='tune')
    peer.send('connection.close', reply_code=code, reply_text='REFUSED - by the script', class_id=10, method_id=11)
    peer.expect('connection.close-ok')
    peer.expect_end()
    peer.hang_up()


def test_each_host_gets_what_its_own_url_says(peers: Any, opened: Any, refusing: Any) -> None:
    one, two, _ = peers
    task = connecting(
        opened,
        [url_of(one, 'ann', '/x?name=first&heartbeat=7'), url_of(two, 'bob', '/y?name=second'), url_of(refusing)],
    )
    refuse(one)
    assert one.start_ok.response.split('\0') == ['', 'ann', SECRET]
    assert one.start_ok.client_properties['connection_name'] == 'first'
    two.handshake()
    assert two.start_ok.response.split('\0') == ['', 'bob', SECRET]
    assert two.start_ok.client_properties['connection_name'] == 'second'
    assert two.opening.virtual_host == 'y'
    assert two.tune_ok.heartbeat == 60
    assert task.get() is None
    (connection,) = opened
    assert (connection.host, connection.virtual_host, connection.name) == (two.host, 'y', 'second')
    assert connection.is_open and connection.transport.port == two.port
    assert SECRET not in repr(connection) + repr(inside.hosts(connection)) + repr(inside.host_settings(connection))


def test_with_semicolons_as_kombu_writes_it(peers: Any, opened: Any, refusing: Any) -> None:
    task = connecting(opened, f'{url_of(refusing)};{url_of(peers[1])}')
    peers[1].handshake()
    assert task.get() is None
    assert opened[0].host == peers[1].host


@pytest.mark.parametrize('fault', ['403', '530', 'hang up', 'reset', 'garbage', 'not AMQP'])
def test_a_host_that_does_not_let_us_in_is_passed_over(peers: Any, opened: Any, fault: str) -> None:
    one, two, _ = peers
    task = connecting(opened, [url_of(one), url_of(two)])
    if fault.isdigit():
        refuse(one, int(fault))
    else:
        one.handshake(until='start' if fault == 'not AMQP' else 'tune')
        if fault == 'garbage':
            one.send('connection.blocked', reason='what a host says that fails')
            one.raw(b'\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0a\x00')
        elif fault == 'not AMQP':
            one.raw(b'HTTP/1.1 400 Bad Request\r\n\r\n')
        else:
            one.cut(reset=fault == 'reset')
    two.handshake()
    assert task.get() is None
    (connection,) = opened
    assert not connection.is_blocked
    channel = two.open_channel(connection)
    channel.basic_publish(gamqp.Message(b'x'), routing_key='q')
    assert two.expect('basic.publish').body == b'x'
    assert list(inside.hosts(connection).failed()) == [('127.0.0.1', one.port)]


def test_dead_ones_and_one_that_never_answers_do_not_eat_the_deadline(
    peers: Any, opened: Any, refusing: Any, black_hole: Any
) -> None:
    """Each has an equal share of what is left, and those that fail at once leave theirs to the others."""
    task = connecting(opened, [url_of(refusing), url_of(black_hole), url_of(peers[0])], connect_timeout=4)
    peers[0].handshake()
    assert task.get() is None
    failed = inside.hosts(opened[0]).failed()
    assert failed == {refusing: 'ConnectionRefusedError', black_hole: 'TimeoutError'}
    assert inside.hosts(opened[0]).attempt_order()[0].host == peers[0].host
    told = repr(opened[0])
    assert told == (
        f"<Connection {peers[0].host} (failed: 127.0.0.1:{refusing[1]}, 127.0.0.1:{black_hole[1]}) vhost '/' open>"
    )
    assert opened[0].stats()['addresses_failed'] == 2


def test_a_host_that_is_silent_in_the_handshake_has_its_share_only(peers: Any, opened: Any) -> None:
    one, two, _ = peers
    task = connecting(opened, [url_of(one, more='?connection_timeout=500'), url_of(two)])
    one.handshake(until='tune')  # 500 ms are its own limit, and less than its share of 10 s
    two.handshake()
    assert task.get() is None
    assert opened[0].host == two.host
    one.expect_end()


def test_when_all_fail_the_error_says_why_each_did(peers: Any, opened: Any, refusing: Any) -> None:
    """The class is that of the refused login: it is what somebody has to do something about."""
    task = connecting(opened, [url_of(peers[0]), url_of(refusing), url_of(peers[1])])
    refuse(peers[0])
    peers[1].handshake(until='start')
    peers[1].cut()
    error = task.get()
    assert isinstance(error, exceptions.AccessRefused)
    text = str(error)
    assert 'REFUSED - by the script' in text and f'at {peers[0].host}' in text
    assert f'127.0.0.1:{refusing[1]}: ConnectionRefusedError: ' in text
    assert f'{peers[1].host}: RecoverableConnectionError: ' in text
    for frame in traceback.TracebackException.from_exception(error, capture_locals=True).stack:
        assert SECRET not in str(frame.locals) or not frame.filename.startswith(OURS), frame
    assert SECRET not in text and not opened


def test_a_connection_that_was_made_by_host_and_user_has_one_host(peers: Any, opened: Any, refusing: Any) -> None:
    connection = peers[0].client(host=f'127.0.0.1:{refusing[1]}')
    assert len(inside.hosts(connection).attempt_order()) == 1
    with pytest.raises(ConnectionRefusedError):
        connection.connect()
    connection.host = peers[0].host  # its attributes count, as with py-amqp
    opening = again(connection)
    peers[0].handshake()
    assert opening.get() is None
    assert connection.host == peers[0].host


def test_another_connect_goes_through_the_list_again(peers: Any, opened: Any) -> None:
    """The host that has failed comes last, the others as they were given."""
    urls = [url_of(one) for one in peers]
    task = connecting(opened, urls)
    peers[0].handshake(until='start')
    peers[0].cut()
    peers[1].handshake()
    assert task.get() is None
    (connection,) = opened
    assert [one.host for one in inside.hosts(connection).attempt_order()] == [peers[at].host for at in (1, 2, 0)]
    connection.collect()
    peers[0].hang_up()
    peers[1].hang_up()
    task = again(connection)
    peers[1].handshake(until='start')
    peers[1].cut()
    peers[2].handshake(until='start')
    peers[2].cut()
    peers[0].handshake()
    assert task.get() is None
    assert connection.host == peers[0].host


def test_a_host_that_has_told_us_to_go_is_tried_last(peers: Any, opened: Any) -> None:
    task = connecting(opened, [url_of(one) for one in peers[:2]])
    peers[0].handshake()
    assert task.get() is None
    (connection,) = opened
    text = 'CONNECTION_FORCED - Node was put into maintenance mode'
    peers[0].send('connection.close', reply_code=320, reply_text=text)
    with pytest.raises(exceptions.ConnectionForced):
        connection.drain_events(timeout=greenlets.PATIENCE)
    peers[0].hang_up()
    task = again(connection)
    peers[1].handshake()
    assert task.get() is None
    # a loss without such a word is no reason to go elsewhere
    peers[1].cut(reset=True)
    with pytest.raises(exceptions.RecoverableConnectionError):
        connection.drain_events(timeout=greenlets.PATIENCE)
    task = again(connection)
    peers[0].handshake()
    assert task.get() is None


def test_a_connection_that_recovers_asks_for_the_hosts_at_each_attempt(peers: Any, opened: Any, refusing: Any) -> None:
    one, two, three = peers
    answers: list[Any] = [
        [url_of(one)],
        [url_of(one), url_of(two)],
        Unavailable(),
        url_of(refusing),
        [url_of(three, 'c')],
    ]

    def where() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    task = connecting(opened, where, recover=gamqp.Recovery(first_delay=0, delay=0.1, max_delay=0.1))
    one.handshake()
    assert task.get() is None
    (connection,) = opened
    one.send('connection.close', reply_code=320, reply_text='CONNECTION_FORCED - Node was put into maintenance mode')
    two.handshake()  # the other one of the two
    connection.wait_open(greenlets.PATIENCE)
    assert connection.host == two.host
    two.cut(reset=True)
    three.handshake()
    connection.wait_open(greenlets.PATIENCE)
    assert connection.host == three.host and three.start_ok.response.split('\0')[1] == 'c'
    assert not answers and connection.stats()['addresses_failed'] == 1


def made(opened: list[gamqp.Connection], url: Any) -> gamqp.Connection:
    """A connection to these, not connected yet."""
    hosts = hosts_of(url, {}, shuffle=False)
    connection = inside.connection_to(hosts)
    opened.append(connection)
    return connection


@pytest.mark.parametrize('how', ['close', 'collect'])
def test_a_close_amid_the_first_host_ends_the_attempt(peers: Any, opened: Any, how: str) -> None:
    one, two, _ = peers
    connection = made(opened, [url_of(one), url_of(two)])
    task = again(connection)
    one.handshake(until='tune')
    getattr(connection, how)()
    error = task.get()
    assert isinstance(error, exceptions.RecoverableConnectionError) and 'closed by this program' in str(error)
    one.expect_end()
    assert not inside.hosts(connection).failed()
    one.hang_up()
    task = again(connection)
    one.handshake()
    assert task.get() is None


def test_a_close_in_the_moment_in_which_the_first_host_has_failed(peers: Any, opened: Any) -> None:
    """The connection is still being opened, and the greenlet that does it has not run since."""
    one, two, _ = peers
    connection = made(opened, [url_of(one), url_of(two)])
    task = again(connection)
    one.handshake(until='tune')
    inside.link(connection).lose(exceptions.RecoverableConnectionError('just now'))
    assert connection.state == 'opening'
    connection.close()
    assert isinstance(task.get(), exceptions.RecoverableConnectionError)
    assert connection.state == 'closed' and not connection.is_open


def test_a_killed_caller_goes_to_no_other_host(peers: Any, opened: Any) -> None:
    connection = made(opened, [url_of(one) for one in peers])
    task = again(connection)
    peers[0].handshake(until='tune')
    task.kill()
    peers[0].expect_end()
    assert connection.state == 'closed'


def test_a_callable_is_asked_at_each_attempt(peers: Any, opened: Any, refusing: Any) -> None:
    answers: list[Any] = [
        [url_of(refusing), url_of(peers[0])],
        f'{url_of(peers[1])};{url_of(peers[1])}',
        url_of(peers[2]),
    ]

    def where() -> Any:
        greenlets.sleep(0.001)  # it may ask somebody
        return answers.pop(0)

    task = connecting(opened, where, userid='argument', heartbeat=0)
    for number, peer in enumerate(peers):
        peer.handshake()
        assert peer.start_ok.response.split('\0')[1] == 'argument'
        assert task.get() is None
        assert opened[0].host == peer.host
        opened[0].collect()
        if number < 2:
            task = again(opened[0])


def test_a_callable_that_fails_is_a_failed_attempt(peers: Any, opened: Any) -> None:
    answers: list[Any] = [
        url_of(peers[0]),
        Unavailable(SECRET),
        [],
        5,
        ['amqp://a', None],
        'http://a',
        url_of(peers[0]),
    ]

    def where() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    task = connecting(opened, where)
    peers[0].handshake()
    assert task.get() is None
    (connection,) = opened
    connection.collect()
    peers[0].hang_up()
    causes = []
    while len(answers) > 1:
        error = outcome(connection.connect)
        assert type(error) is exceptions.RecoverableConnectionError
        assert SECRET not in str(error)
        causes.append(type(error.__cause__))
        assert connection.state == 'closed'
        with pytest.raises(exceptions.RecoverableConnectionError, match='URLs'):
            connection.channel()
    assert causes == [Unavailable, ValueError, TypeError, TypeError, ValueError]
    task = again(connection)
    peers[0].handshake()
    assert task.get() is None


def test_a_close_while_the_callable_is_asked_ends_the_attempt(peers: Any, opened: Any) -> None:
    asked, answered = green.Slot(greenlets.backend), green.Slot(greenlets.backend)

    def where() -> str:
        asked.succeed()
        answered.wait(greenlets.PATIENCE)
        return url_of(peers[0])

    connection = made(opened, where)
    assert connection.host == 'localhost:5672'  # nobody has been asked
    task = again(connection)
    asked.wait(greenlets.PATIENCE)
    connection.close()
    answered.succeed()
    error = task.get()
    assert isinstance(error, exceptions.RecoverableConnectionError) and 'closed by this program' in str(error)


def test_a_callable_password_is_asked_for_each_login(peers: Any, opened: Any, refusing: Any) -> None:
    """Not again for a host that has not taken it; and always before a socket is opened."""
    given: list[str] = []

    def password() -> str:
        greenlets.sleep(0)
        given.append(f'{SECRET}-{len(given)}')
        return given[-1]

    urls = [url_of(refusing), url_of(peers[0], 'ann'), url_of(peers[1], 'bob')]
    task = connecting(opened, urls, password=password, refresh_secret=0.05)
    refuse(peers[0])
    assert peers[0].start_ok.response.split('\0') == ['', 'ann', f'{SECRET}-0']
    peers[1].handshake()
    assert peers[1].start_ok.response.split('\0') == ['', 'bob', f'{SECRET}-1']
    assert task.get() is None
    (connection,) = opened
    assert inside.keeps_no_password(connection)
    # and renewed where it is connected to by then
    assert peers[1].expect('connection.update-secret').new_secret == f'{SECRET}-2'
    peers[1].send('connection.update-secret-ok')


def test_a_callable_password_that_fails_ends_the_attempt(peers: Any, opened: Any) -> None:
    def password() -> str:
        raise LookupError('no token today')

    assert isinstance(connecting(opened, [url_of(one) for one in peers], password=password).get(), LookupError)


def test_the_order_is_random_unless_it_is_given() -> None:
    urls = [f'amqp://host-{number}' for number in range(5)]
    hosts = [f'host-{number}' for number in range(5)]
    given = hosts_of(urls, {}, shuffle=False)
    assert [one.host for one in given.attempt_order()] == hosts
    mixed = hosts_of(urls, {})
    orders = {tuple(one.host for one in mixed.attempt_order()) for _ in range(200)}
    assert len(orders) > 50
    assert {order[0] for order in orders} == set(hosts)
    first = mixed.attempt_order()[0]
    assert all(mixed.attempt_order(avoid=first)[-1] is first for _ in range(20))


def test_all_is_checked_before_anybody_is_asked_or_connected_to() -> None:
    def where() -> str:
        raise AssertionError('asked')

    for arguments, error in (
        ({'heartbeat': -1}, ValueError), ({'shuffle': 2}, TypeError), ({'host': 'a'}, ValueError),
        ({'ssl': {'nonsense': 1}}, ValueError), ({'nonsense': 1}, TypeError), ({'refresh_secret': True}, ValueError),
    ):  # fmt: skip
        for url in (where, ['amqp://a', 'amqp://b']):
            with pytest.raises(error, match=next(iter(arguments))):
                gamqp.connect(url, **arguments)
