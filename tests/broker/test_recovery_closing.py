"""A close or a fork at any point of an outage: it is over at once, and nothing of it is left."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import greenlets
import pytest
from recovering_program import QUICK, Program
from script import ScriptedBroker

import gamqp
from gamqp import Recovery, exceptions, testing

# So long may an attempt take by itself: a close that waits for that fails the test.
LONG = 600


@pytest.fixture
def broker() -> Iterator[testing.Broker]:
    with testing.Broker() as broker:
        yield broker


class Heard(list[str]):
    """Which callbacks have been called."""

    def arguments(self) -> dict[str, Any]:
        names = ('on_lost', 'on_recovering', 'on_recovered', 'on_given_up')
        return {name: lambda *_, name=name: self.append(name) for name in names}


def check_closed(connection: gamqp.Connection, heard: Heard) -> None:
    """It is closed for good. What is left alive the fixture of all tests finds."""
    assert connection.state == 'closed' and connection.recovery is None
    before = list(heard)
    greenlets.sleep(0.03)
    assert heard == before and 'on_recovered' not in heard and 'on_given_up' not in heard
    assert connection.state == 'closed'


@pytest.mark.parametrize('where', ['delay', 'connect', 'tls'])
def test_a_close_before_the_broker_says_a_word(broker: testing.Broker, black_hole: tuple[str, int], where: str) -> None:
    """The delay lasts, the address never answers (its SYNs are dropped), or what answers does not speak TLS."""
    heard, urls = Heard(), [broker.url]
    with socket.create_server(('127.0.0.1', 0)) as mute:
        ways = {
            'delay': broker.url,
            'connect': 'amqp://{}:{}'.format(*black_hole),
            'tls': f'amqps://127.0.0.1:{mute.getsockname()[1]}?verify=verify_none',
        }
        recover = Recovery(first_delay=3600 if where == 'delay' else 0)
        connection = gamqp.connect(lambda: urls, recover=recover, connect_timeout=LONG, **heard.arguments())
        urls[:] = [ways[where]]
        broker.cut()
        greenlets.wait_until(lambda: 'on_recovering' in heard)
        if where == 'tls':
            mute.setblocking(False)
            accepted: list[Any] = []

            def come() -> bool:
                try:
                    accepted.append(mute.accept()[0])
                except BlockingIOError:
                    return False
                return True

            greenlets.wait_until(come)
            accepted[0].setblocking(False)
            greenlets.wait_until(lambda: _has_come(accepted[0]))  # the first word of TLS
        else:
            greenlets.sleep(0.02)
        assert connection.state == 'recovering'
        connection.close()
        check_closed(connection, heard)
        if where == 'tls':
            accepted[0].close()


def _has_come(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


@pytest.mark.parametrize('until', ['start', 'tune', 'open-ok'])
def test_a_close_in_the_handshake(peer: ScriptedBroker, until: str) -> None:
    heard = Heard()
    connection = peer.open(recover=Recovery(first_delay=0), connect_timeout=LONG, rpc_timeout=LONG, **heard.arguments())
    peer.open_channel(connection)
    peer.hang_up()
    peer.handshake(until=until)
    connection.close()
    check_closed(connection, heard)


@pytest.mark.parametrize('turns', range(12))
def test_a_close_about_when_it_is_open(peer: ScriptedBroker, turns: int) -> None:
    """So many turns of the hub after the last reply that the attempt waits for."""
    heard = Heard()
    connection = peer.open(recover=Recovery(first_delay=0), rpc_timeout=LONG, **heard.arguments())
    channel = peer.open_channel(connection)
    peer.hang_up()
    peer.handshake()
    peer.expect('channel.open', 1)
    waiting = greenlets.spawn(channel.publish, b'x', '', 'q')
    greenlets.sleep(0)
    peer.send('channel.open-ok', 1)
    for _ in range(turns):
        greenlets.sleep(0)
    closing = greenlets.spawn(connection.close)
    greenlets.wait_until(lambda: closing.done or connection.state == 'closing')
    if not closing.done:  # it was open: then the broker is asked
        while (said := peer.next()) is not None and said.name != 'connection.close':
            pass
        peer.send('connection.close-ok')
    closing.get()
    opened = connection.stats()['recoveries']
    assert connection.state == 'closed' and connection.recovery is None and not channel.is_open
    before = list(heard)
    assert before.count('on_recovered') <= opened
    greenlets.wait_until(lambda: heard.count('on_recovered') == opened or not opened)
    greenlets.sleep(0.01)
    assert heard.count('on_recovered') <= opened and 'on_given_up' not in heard
    try:
        waiting.get()  # it was let through, or has learnt of the end
    except exceptions.RecoverableConnectionError:
        pass


@pytest.fixture
def furnished(broker: testing.Broker) -> Iterator[Program]:
    program = Program(broker, rpc_timeout=LONG).furnish()
    yield program
    program.end()


@pytest.mark.filterwarnings('ignore:Using fork')
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.parametrize('when', ['between attempts', 'while it is restored'])
def test_a_fork_in_the_outage_leaves_it_to_the_parent(broker: testing.Broker, furnished: Program, when: str) -> None:
    connection = furnished.connection
    steps: dict[str, Callable[[], object]] = {
        'between attempts': lambda: broker.cut_at('connection.open', times=None),
        'while it is restored': lambda: broker.drop_reply('basic.consume', queue='called'),
    }
    steps[when]()
    broker.cut()
    greenlets.wait_until(lambda: connection.state == 'recovering')
    if when == 'between attempts':
        greenlets.wait_until(lambda: furnished.names().count('recovering') > 1)
    else:
        greenlets.wait_until(lambda: broker.connections_in_all == 2 and len(broker.connections) == 1)
        (view,) = broker.connections
        greenlets.wait_until(lambda: broker.queue('called').consumers)
    furnished.fork()
    assert connection.state == 'recovering' and 'recovered' not in furnished.names()
    broker.clear_faults()
    if when != 'between attempts':
        broker.cut(view)  # the child has not touched the socket: this is the first end that the attempt sees
    furnished.wait_recovered()
    furnished.works(b'after')
    assert connection.stats()['outages'] == 1 and 'child' not in broker.queues()


@pytest.mark.parametrize('when', ['on_lost', 'on_recovering', 'on_recovered'])
def test_a_close_by_a_callback_is_the_last_that_happens(broker: testing.Broker, when: str) -> None:
    heard = Heard()
    connection = gamqp.connect(broker.url, recover=Recovery(**QUICK), **heard.arguments())
    setattr(connection, when, lambda *_: (heard.append(when), connection.close()))
    broker.cut()
    greenlets.wait_until(lambda: when in heard and connection.state == 'closed')
    greenlets.wait_until(lambda: not broker.connections)
    greenlets.sleep(0.02)
    # What stood in the queue of callbacks may come, and nothing after that.
    assert heard[: heard.index(when) + 1] == ['on_lost', 'on_recovering', 'on_recovered'][: heard.index(when) + 1]
    assert ('on_recovered' in heard) is (when == 'on_recovered') and connection.recovery is None
