"""A login that fails, an argument that is refused: no local variable of ours holds the password.

Crash reporters store the variables of all frames of a traceback.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from typing import Any

import broker_tools
import greenlets
import pytest
from script import ScriptedBroker

import gamqp
from gamqp import sasl

SECRET = 'correct-horse-battery'
OURS = os.path.dirname(gamqp.__file__)


def assert_discreet(error: BaseException | None) -> None:
    """No frame of ours shows it, in the error's traceback nor in those that led to it."""
    assert error is not None
    while error is not None:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        for frame in told.stack:
            if frame.filename.startswith(OURS):
                for name, value in (frame.locals or {}).items():
                    assert SECRET not in value, f'{name} in {frame.name}, {frame.filename}:{frame.lineno}'
        assert SECRET not in str(error)
        error = error.__cause__ or error.__context__


def by_pool(peer: ScriptedBroker) -> None:
    with gamqp.Pool(f'amqp://u:{SECRET}@{peer.host}/').channel(timeout=5):
        raise AssertionError('it was let in')


LOGINS: dict[str, Callable[[ScriptedBroker], Any]] = {
    'PLAIN': lambda peer: gamqp.Connection(peer.host, 'u', SECRET, login_method='PLAIN').connect(),
    'AMQPLAIN': lambda peer: gamqp.Connection(peer.host, 'u', SECRET, login_method='AMQPLAIN').connect(),
    'response': lambda peer: gamqp.Connection(
        peer.host, login_method='PLAIN', login_response=SECRET.encode()
    ).connect(),
    'callable': lambda peer: gamqp.Connection(peer.host, 'u', lambda: SECRET).connect(),
    'uri': lambda peer: gamqp.connect(f'amqp://u:{SECRET}@{peer.host}/'),
    'argument': lambda peer: gamqp.connect(f'amqp://{peer.host}/', userid='u', password=SECRET),
    'pool': by_pool,
}


@pytest.mark.parametrize('how', LOGINS)
def test_a_login_that_fails(peer: ScriptedBroker, how: str) -> None:
    task = greenlets.spawn(broker_tools.raised, LOGINS[how], peer)
    peer.handshake(until='tune')
    assert SECRET in str(peer.start_ok)
    peer.send('connection.close', reply_code=403, reply_text='ACCESS_REFUSED', class_id=10, method_id=11)
    error = task.get()
    assert isinstance(error, gamqp.AccessRefused)
    assert_discreet(error)


def test_an_answer_to_a_further_question(peer: ScriptedBroker) -> None:
    class Asking(sasl.SASL):
        mechanism = b'PLAIN'

        def start(self, connection: Any) -> bytes:
            return b'first'

        def challenge(self, connection: Any, question: Any) -> bytes:
            return SECRET.encode()

    task = greenlets.spawn(broker_tools.raised, gamqp.Connection(peer.host, authentication=Asking()).connect)
    peer.handshake(until='tune')
    peer.send('connection.secure', challenge=b'who?')
    assert SECRET in str(peer.expect('connection.secure-ok'))
    peer.send('connection.close', reply_code=403, reply_text='ACCESS_REFUSED', class_id=10, method_id=21)
    assert_discreet(task.get())


def test_a_new_secret_that_is_refused(peer: ScriptedBroker, client: gamqp.Connection) -> None:
    task = greenlets.spawn(broker_tools.raised, client.update_secret, SECRET)
    peer.expect('connection.update-secret')
    peer.send('connection.close', reply_code=530, reply_text='NOT_ALLOWED', class_id=10, method_id=70)
    error = task.get()
    assert isinstance(error, gamqp.NotAllowed)
    assert_discreet(error)


def test_a_new_secret_that_is_no_text(client: gamqp.Connection) -> None:
    error = broker_tools.raised(client.update_secret, f'{SECRET}\udc80')
    assert isinstance(error, ValueError)
    assert_discreet(error)


REFUSED: dict[str, Callable[[], Any]] = {
    'a value': lambda: gamqp.Connection('host', 'u', SECRET, heartbeat=-3),
    'a name': lambda: gamqp.Connection('host', 'u', SECRET, tls=True),
    'a parameter of the uri': lambda: gamqp.connect(f'amqp://u:{SECRET}@host/?heartbeat=x'),
    'a part of the uri': lambda: gamqp.connect(f'amqp://u:{SECRET}%@host/'),
    'a value beside the uri': lambda: gamqp.connect(f'amqp://u:{SECRET}@host/', frame_max=1),
    'nobody there': lambda: gamqp.connect(f'amqp://u:{SECRET}@127.0.0.1:1/'),
    'uri of a pool': lambda: gamqp.Pool(f'amqp://u:{SECRET}@host/?heartbeat=x'),
    'value of a pool': lambda: gamqp.Pool(f'amqp://u:{SECRET}@host/', heartbeat=-3),
    'PLAIN with NUL': lambda: sasl.PLAIN('u', f'{SECRET}\0').start(None),
    'PLAIN in no UTF-8': lambda: sasl.PLAIN('u', f'{SECRET}\udc80').start(None),
    'AMQPLAIN in no UTF-8': lambda: sasl.AMQPLAIN('u', f'{SECRET}\udc80').start(None),
    'no text': lambda: sasl.PLAIN('u', lambda: [SECRET]).start(None),  # type: ignore[arg-type,return-value]
    'RAW': lambda: sasl.RAW('PLAIN', SECRET.encode()),  # type: ignore[arg-type]
}


@pytest.mark.parametrize('what', REFUSED)
def test_what_is_refused_before(what: str) -> None:
    error = broker_tools.raised(REFUSED[what])
    assert isinstance(error, (ValueError, TypeError, ConnectionRefusedError)), error
    assert_discreet(error)


def test_the_programs_own_error_keeps_its_traceback(peer: ScriptedBroker) -> None:
    def ask_the_vault() -> str:
        raise ValueError('no token today')

    task = greenlets.spawn(broker_tools.raised, gamqp.Connection(peer.host, 'u', ask_the_vault).connect)
    error = task.get()  # before it connects: the peer need not do anything
    assert str(error) == 'no token today'
    assert 'ask_the_vault' in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
