"""refresh_secret: the connection asks a callable password again before its token ends, and tells the broker."""

from __future__ import annotations

import base64
import gc
import json
import logging
import os
import time
import weakref
from typing import Any

import greenlets
import inside
import pytest
from greenlet import greenlet
from script import ScriptedBroker

import gamqp
from gamqp import exceptions, green
from gamqp.connection import secret_renewal

QUICK = 0.05  # seconds


def token(life: float, number: int = 0) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({'exp': time.time() + life, 'n': number}).encode()).decode()
    return f'head.{claims.rstrip("=")}.signature'


class Provider:
    """Gives tokens, or raises what it is told to."""

    def __init__(self, life: float = 1000) -> None:
        self.life = life
        self.given: list[str] = []
        self.error: BaseException | None = None

    def __call__(self) -> str:
        if self.error is not None:
            raise self.error
        self.given.append(token(self.life, len(self.given)))
        return self.given[-1]


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_renewal, 'RETRY', QUICK)


def renewed(peer: ScriptedBroker, provider: Provider) -> None:
    said = peer.expect('connection.update-secret', 0)
    assert said.new_secret in (provider.given[-1], provider.given[-1].encode())
    peer.send('connection.update-secret-ok')


def test_every_so_many_seconds(peer: ScriptedBroker, provider: Provider) -> None:
    client = peer.open((10, 131072, 0), password=provider, refresh_secret=QUICK)
    for number in (2, 3, 4):
        renewed(peer, provider)
        assert len(provider.given) == number
    client.collect()


def test_no_frame_holds_the_secret_while_the_broker_is_asked(peer: ScriptedBroker) -> None:
    """An error that comes out of the wait is often stored with all that is in its frames."""
    given: list[str] = []  # each a text of its own, and the frames below are searched for its value
    client = peer.open((10, 131072, 0), password=lambda: given.append(token(1000)) or given[-1], refresh_secret=QUICK)
    peer.expect('connection.update-secret', 0)
    frames = [one.gr_frame for one in gc.get_objects() if isinstance(one, greenlet) and one.gr_frame is not None]
    waits = 0
    for frame in frames:
        while frame is not None:
            if 'gamqp' in frame.f_code.co_filename.split(os.sep):
                waits += frame.f_code.co_name == 'update_secret'
                held = {value for value in frame.f_locals.values() if isinstance(value, (str, bytes))}
                assert not held & {given[-1], given[-1].encode()}, frame
            frame = frame.f_back
    assert waits == 1
    peer.send('connection.update-secret-ok')
    client.collect()


def test_a_short_token_is_renewed_before_it_ends(peer: ScriptedBroker) -> None:
    provider = Provider(life=QUICK)
    client = peer.open((10, 131072, 0), password=provider, refresh_secret=True)
    renewed(peer, provider)
    renewed(peer, provider)
    client.collect()


@pytest.mark.parametrize(('life', 'due'), [(100, 80), (3600, 2880), (10**9, secret_renewal.LONGEST)])
def test_it_is_due_when_four_fifths_of_the_life_are_over(
    peer: ScriptedBroker, monkeypatch: pytest.MonkeyPatch, life: float, due: float
) -> None:
    armed: list[float] = []
    later = greenlets.backend.call_later

    def call_later(seconds: float, fn: Any) -> Any:
        armed.append(seconds)
        return later(seconds, fn)

    monkeypatch.setattr(greenlets.backend, 'call_later', call_later)
    client = peer.open((10, 131072, 0), password=Provider(life), refresh_secret=True)
    assert any(due - 10 < seconds <= due for seconds in armed)
    client.collect()


def test_the_default_is_not_to_renew(peer: ScriptedBroker) -> None:
    provider = Provider(life=0)
    client = peer.open((10, 131072, 0), password=provider)
    assert not inside.renews_secret(client) and len(provider.given) == 1
    client.collect()


def test_a_password_without_an_end_is_told_in_the_log(peer: ScriptedBroker, caplog: pytest.LogCaptureFixture) -> None:
    client = peer.open((10, 131072, 0), password=lambda: 'hunter2', refresh_secret=True)
    (record,) = caplog.records
    assert 'give a number of seconds' in record.getMessage() and 'hunter2' not in record.getMessage()
    client.collect()


def test_a_provider_that_fails_is_told_in_the_log_and_asked_again(
    peer: ScriptedBroker, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    client = peer.open((10, 131072, 0), password=provider, refresh_secret=QUICK)
    provider.error = LookupError('no token today')
    greenlets.wait_until(lambda: len(caplog.records) >= 2)
    assert all('could not be renewed, trying again' in record.getMessage() for record in caplog.records)
    assert 'LookupError: no token today' in caplog.records[0].getMessage()
    provider.error = None
    renewed(peer, provider)
    assert client.connected
    client.collect()


def test_a_secret_that_the_broker_refuses_is_told_and_ends_the_connection(
    peer: ScriptedBroker, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    client = peer.open((10, 131072, 0), password=provider, refresh_secret=QUICK)
    waiting = greenlets.spawn(client.drain_events)
    peer.expect('connection.update-secret', 0)
    peer.send('connection.close', reply_code=530, reply_text='NOT_ALLOWED - refused', class_id=10, method_id=70)
    with pytest.raises(exceptions.NotAllowed):
        waiting.get()
    greenlets.wait_until(lambda: bool(caplog.records))
    (record,) = caplog.records
    assert 'the broker refused the renewed secret' in record.getMessage()
    assert provider.given[-1] not in record.getMessage()


@pytest.mark.parametrize('how', ['close', 'collect', 'cut'])
def test_the_end_of_the_connection_ends_it_without_a_word(
    peer: ScriptedBroker, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    asked = []
    client: Any = None  # as yet: it may be asked again before the test goes on

    def slow() -> str:
        asked.append(1)
        if len(asked) > 1:
            greenlets.wait_until(lambda: client is not None and not client.connected)
        return 'secret'

    client = peer.open((10, 131072, 0), password=slow, refresh_secret=QUICK)
    greenlets.wait_until(lambda: len(asked) == 2)  # it is being asked
    caplog.clear()
    if how == 'close':
        closing = greenlets.spawn(client.close)
        peer.agree_to_close()
        closing.get()
    elif how == 'cut':
        peer.hang_up()
        greenlets.wait_until(lambda: not client.connected)
    client.collect()
    for _ in range(5):
        greenlets.sleep(QUICK)
    assert len(asked) == 2
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize('error', [None, LookupError('no token today')])
def test_a_secret_that_comes_while_the_connection_closes_is_not_used(
    peer: ScriptedBroker, caplog: pytest.LogCaptureFixture, error: Exception | None
) -> None:
    asked = []
    released = green.Slot(greenlets.backend)

    def slow() -> str:
        asked.append(1)
        if len(asked) > 1:
            assert released.wait(greenlets.PATIENCE)
            if error is not None:
                raise error
        return 'secret'

    client = peer.open((10, 131072, 0), password=slow, refresh_secret=QUICK)
    greenlets.wait_until(lambda: len(asked) == 2)
    closing = greenlets.spawn(client.close)
    peer.expect('connection.close')
    released.succeed(None)
    for _ in range(5):
        greenlets.sleep(QUICK)
    assert len(asked) == 2 and not caplog.records
    peer.send('connection.close-ok')
    peer.expect_end()
    closing.get()
    assert not caplog.records


def test_nobody_is_asked_while_the_connection_closes(peer: ScriptedBroker, provider: Provider) -> None:
    client = peer.open((10, 131072, 0), password=provider, refresh_secret=QUICK)
    renewed(peer, provider)
    closing = greenlets.spawn(client.close)
    while peer.next().name != 'connection.close':  # one more renewal may have been on its way
        pass
    given = len(provider.given)
    for _ in range(5):
        greenlets.sleep(QUICK)
    assert len(provider.given) == given
    peer.send('connection.close-ok')
    closing.get()


@pytest.mark.filterwarnings('ignore::ResourceWarning')
def test_it_does_not_keep_a_connection_that_nobody_has(peer: ScriptedBroker, provider: Provider) -> None:
    client: Any = peer.open((10, 131072, 0), password=provider, refresh_secret=True)
    peer.let_go()
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(('password', 'more'), [('text', {}), (None, {}), (str, {'login_method': 'EXTERNAL'})])
def test_there_must_be_somebody_to_ask(password: Any, more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match='refresh_secret: a callable password'):
        gamqp.Connection(password=password, refresh_secret=True, **more)
