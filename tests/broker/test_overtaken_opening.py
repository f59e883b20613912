"""A connect() amid which another greenlet closes the connection and opens it again: it says nothing to the new socket.

It raises, and the new connect() goes on as if there had been no other.
"""

from __future__ import annotations

from typing import Any

import broker_tools
import greenlets
import pytest
from script import ScriptedBroker, frames

from gamqp import exceptions, green, sasl

TUNE = {'channel_max': 10, 'frame_max': 8192, 'heartbeat': 0}
START = {'version_minor': 9, 'mechanisms': b'OWN', 'locales': b'en_US'}

#: What the first connect() is sent -> up to where the handshake has come before.
ANSWERS = {
    'start': frames('connection.start', **START),
    'tune': frames('connection.tune', **TUNE),
    'open-ok': frames('connection.open-ok'),
}


class Held:
    """Code of the program that takes its time, the first time."""

    def __init__(self) -> None:
        self.time = green.Slot(greenlets.backend)
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == 1:
            self.time.wait(greenlets.PATIENCE)


class Mechanism(sasl.SASL):
    """held: called for the first response, or for the answer to a challenge."""

    mechanism = b'OWN'

    def __init__(self, held: Any = None, at: str = '') -> None:
        self.held, self.at = held, at

    def start(self, connection: Any) -> bytes:
        if self.at == 'start':
            self.held()
        return b'mine'

    def challenge(self, connection: Any, challenge: bytes) -> bytes:
        if self.at == 'secure':
            self.held()
        return b'mine'


def let_in(peer: ScriptedBroker, at: str) -> None:
    """What is left of the opening after the protocol header. It is all that the client says."""
    peer.send('connection.start', **START)
    assert peer.expect('connection.start-ok').response in ('mine', b'mine')
    if at == 'secure':
        peer.send('connection.secure', challenge=b'who')
        peer.expect('connection.secure-ok')
    peer.send('connection.tune', **TUNE)
    peer.expect('connection.tune-ok')
    peer.expect('connection.open')
    peer.send('connection.open-ok')


@pytest.mark.parametrize('at', ['start', 'secure', 'tune'])
def test_code_of_the_program_that_comes_back_late(peer: ScriptedBroker, at: str) -> None:
    held = Held()
    hook = {'on_tune_ok': held} if at == 'tune' else {}
    connection = peer.client(authentication=Mechanism(held, at), **hook)
    overtaken = greenlets.spawn(connection.connect)
    peer.handshake(until='start')
    peer.send('connection.start', **START)
    if at != 'start':
        peer.expect('connection.start-ok')
        peer.raw(frames('connection.secure') if at == 'secure' else ANSWERS['tune'])
    greenlets.wait_until(lambda: held.time.awaited)
    connection.close()
    peer.hang_up()
    opening = greenlets.spawn(connection.connect)
    peer.handshake(until='start')
    held.time.succeed()
    with pytest.raises(exceptions.RecoverableConnectionError, match='closed by this program'):
        overtaken.get()
    let_in(peer, at)
    opening.get()
    peer.expect_nothing_more(connection)


@pytest.mark.parametrize('step', list(ANSWERS))
def test_an_answer_that_has_come_and_not_been_taken(peer: ScriptedBroker, step: str) -> None:
    """The greenlet that waits for it runs only when another one opens the connection again, and has no socket yet."""

    def on_blocked(reason: str) -> None:
        connection.close()
        connection.connect()

    connection = peer.client(on_blocked=on_blocked, authentication=Mechanism())
    overtaken = greenlets.spawn(connection.connect)
    peer.handshake(until=step, mechanisms=b'OWN')
    peer.raw(frames('connection.blocked', reason='full') + ANSWERS[step])
    with pytest.raises(exceptions.RecoverableConnectionError, match='closed'):
        overtaken.get()
    peer.hang_up()
    peer.handshake(until='start')
    let_in(peer, step)
    greenlets.wait_until(lambda: connection.is_open)


@pytest.mark.parametrize('error', [LookupError, broker_tools.Interrupted])
def test_an_on_open_that_fails_late_does_not_close_the_new_one(peer: ScriptedBroker, error: Any) -> None:
    held = Held()

    def on_open(opened: Any) -> None:
        held()
        if held.calls == 1:
            raise error

    connection = peer.client(on_open=on_open)
    overtaken = greenlets.spawn(broker_tools.raised, connection.connect)
    peer.handshake()
    greenlets.wait_until(lambda: held.time.awaited)
    connection.collect()
    peer.hang_up()
    opening = greenlets.spawn(connection.connect)
    peer.handshake(until='start')
    held.time.succeed()
    assert isinstance(overtaken.get(), error)
    peer.shake_hands()
    opening.get()
    peer.expect_nothing_more(connection)
