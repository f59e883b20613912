"""A server that fails at each step of the opening: one clear error, in time, and nothing left behind.

That nothing is left behind is the leak check of every test: the socket and the greenlets of the
failed attempt must be gone although nobody has closed the connection.
"""

from __future__ import annotations

import time
from typing import Any

import greenlets
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker

from gamqp import exceptions

STEPS = ['start', 'tune', 'open-ok']


@pytest.fixture(params=STEPS)
def step(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def connection(peer: ScriptedBroker) -> Any:
    return peer.client(connect_timeout=5)


@pytest.fixture
def opening(peer: ScriptedBroker, connection: Any, step: str) -> greenlets.Task:
    """A connect() that has come as far as *step*, which the peer owes now."""
    opening = greenlets.spawn(connection.connect)
    peer.handshake(until=step)
    return opening


def test_close_by_the_server_raises_its_code_and_text(peer: ScriptedBroker, connection: Any, opening: Any) -> None:
    peer.send('connection.close', reply_code=530, reply_text='NOT_ALLOWED - vhost x', class_id=10, method_id=40)
    with pytest.raises(exceptions.NotAllowed) as caught:
        opening.get()
    assert caught.value.reply_code == 530
    assert caught.value.reply_text == 'NOT_ALLOWED - vhost x'
    assert caught.value.method_sig == (10, 40)
    peer.expect('connection.close-ok')
    peer.expect_end()
    assert not connection.connected


def test_refused_credentials_are_access_refused(peer: ScriptedBroker) -> None:
    opening = greenlets.spawn(peer.client().connect)
    peer.handshake(until='tune')
    peer.send('connection.close', reply_code=403, reply_text='ACCESS_REFUSED - login was refused')
    with pytest.raises(exceptions.AccessRefused, match='login was refused'):
        opening.get()


@pytest.mark.parametrize('reset', [False, True])
def test_a_closed_socket_is_found_at_once(peer: ScriptedBroker, connection: Any, opening: Any, reset: bool) -> None:
    peer.cut(reset)
    with pytest.raises(exceptions.RecoverableConnectionError, match=r'closed the socket|connection lost'):
        opening.get()
    assert not connection.connected


def test_half_a_frame_and_then_the_end_is_told(peer: ScriptedBroker, opening: Any) -> None:
    peer.raw(b'\x01\x00\x00\x00\x00\x00\x20\x00')
    peer.cut()
    with pytest.raises(exceptions.RecoverableConnectionError, match='in the middle of a frame'):
        opening.get()


def test_silence_is_a_timeout_within_the_total_deadline(peer: ScriptedBroker, step: str) -> None:
    connection = peer.client(connect_timeout=1)
    began = time.monotonic()
    opening = greenlets.spawn(connection.connect)
    peer.handshake(until=step)
    with pytest.raises(TimeoutError, match=r'within 1 s'):
        opening.get()
    assert 0.99 <= time.monotonic() - began < 30
    assert not connection.connected
    peer.expect_end()


def test_slow_steps_do_not_add_up_beyond_the_deadline(peer: ScriptedBroker) -> None:
    """Each answer comes within the limit, both together do not."""
    opening = greenlets.spawn(peer.client(connect_timeout=1.5).connect)
    peer.accept()
    greenlets.sleep(0.4)
    peer.send('connection.start', version_minor=9, mechanisms=b'PLAIN', locales=b'en_US')
    peer.expect('connection.start-ok')
    greenlets.sleep(1.3)
    peer.send('connection.tune', channel_max=1, frame_max=8192)
    peer.expect_end()
    with pytest.raises(TimeoutError, match=r'no Connection.tune or Connection.secure .*within 1.5 s'):
        opening.get()


def test_a_trickle_of_bytes_does_not_stretch_the_deadline(peer: ScriptedBroker) -> None:
    connection = peer.client(connect_timeout=0.4)
    began = time.monotonic()
    opening = greenlets.spawn(connection.connect)
    peer.accept()
    while not opening.done and time.monotonic() - began < 30:
        peer.pour(b'\x08\x00\x00\x00\x00\x00\x00\xce')
        greenlets.sleep(0.02)
    with pytest.raises(TimeoutError):
        opening.get()
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    'noise', [b'HTTP/1.1 400 Bad Request\r\n\r\n', b'\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0a\x00']
)
def test_garbage_is_a_frame_or_syntax_error(peer: ScriptedBroker, opening: Any, noise: bytes) -> None:
    peer.raw(noise)
    with pytest.raises((exceptions.FrameError, exceptions.FrameSyntaxError)) as caught:
        opening.get()
    assert peer.expect('connection.close').reply_code == caught.value.reply_code
    peer.expect_end()


def test_another_protocol_version_is_named(peer: ScriptedBroker) -> None:
    opening = greenlets.spawn(peer.client().connect)
    peer.accept()
    peer.raw(b'AMQP\x03\x01\x00\x00')
    peer.cut()
    with pytest.raises(exceptions.FrameError, match=r'AMQP.*1[.-]0|version'):
        opening.get()


@pytest.mark.parametrize('name', ['connection.close-ok', 'connection.start-ok', 'connection.update-secret-ok'])
def test_a_method_that_is_not_due_is_an_unexpected_frame(peer: ScriptedBroker, opening: Any, name: str) -> None:
    peer.send(name)
    with pytest.raises(exceptions.UnexpectedFrame, match='was due'):
        opening.get()
    assert peer.expect('connection.close').reply_code == 505


def test_a_channel_method_before_the_opening_is_over_does_no_harm(
    peer: ScriptedBroker, opening: Any, step: str
) -> None:
    peer.send('basic.ack', channel=1, delivery_tag=1)
    peer.send('connection.close', reply_code=320, reply_text='bye')
    with pytest.raises(exceptions.ConnectionForced, match='bye'):
        opening.get()


def test_a_killed_caller_leaves_nothing(peer: ScriptedBroker, connection: Any, opening: Any) -> None:
    opening.kill()
    with pytest.raises(GreenletExit):
        opening.get()
    peer.expect_end()
    assert not connection.connected


def test_close_by_another_greenlet_ends_the_opening(peer: ScriptedBroker, connection: Any, opening: Any) -> None:
    connection.close()
    with pytest.raises(exceptions.RecoverableConnectionError, match='closed by this program'):
        opening.get()
    peer.expect_end()


def test_after_a_failure_the_same_object_connects(peer: ScriptedBroker, connection: Any, opening: Any) -> None:
    peer.cut()
    with pytest.raises(exceptions.RecoverableConnectionError):
        opening.get()
    peer.hang_up()
    again = greenlets.spawn(connection.connect)
    peer.handshake()
    again.get()
    assert connection.connected


def test_a_call_after_a_failed_connect_tells_why(peer: ScriptedBroker, connection: Any, opening: Any) -> None:
    peer.send('connection.close', reply_code=530, reply_text='NOT_ALLOWED - vhost x', class_id=10, method_id=40)
    with pytest.raises(exceptions.NotAllowed):
        opening.get()
    with pytest.raises(exceptions.ConnectionError, match='vhost x'):
        connection.channel()


@pytest.mark.parametrize('hook', ['on_tune_ok', 'on_open'])
def test_an_error_of_a_hook_comes_out_of_connect(peer: ScriptedBroker, hook: str) -> None:
    def fail(*args: Any) -> None:
        raise ZeroDivisionError(hook)

    connection = peer.client(**{hook: fail})
    opening = greenlets.spawn(connection.connect)
    peer.handshake(until='tune')
    peer.send('connection.tune', channel_max=1, frame_max=8192, heartbeat=0)
    if hook == 'on_open':
        peer.expect('connection.tune-ok')
        peer.expect('connection.open')
        peer.send('connection.open-ok')
        peer.agree_to_close()
    with pytest.raises(ZeroDivisionError):
        opening.get()
