"""The limits of tune in all combinations, and what a version of RabbitMQ would answer by hanging up."""

from __future__ import annotations

import itertools
from typing import Any

import greenlets
import pytest
from script import ScriptedBroker

import gamqp
from gamqp import exceptions

FRAMES = (0, 8192, 131072, 2**31)
CHANNELS = (0, 1, 2047, 65535)


def smaller(ours: int, theirs: int) -> int:
    """0 is no limit."""
    return min(one for one in (ours or 2**40, theirs or 2**40)) % 2**40


@pytest.mark.parametrize('ours', FRAMES)
def test_frame_max_is_the_smaller_of_both(peer: ScriptedBroker, ours: int) -> None:
    for theirs in FRAMES:
        connection = peer.open((2047, theirs, 0), frame_max=ours)
        agreed = smaller(ours, theirs)
        assert (connection.frame_max, peer.tune_ok.frame_max) == (agreed, agreed)
        channel = peer.open_channel(connection)
        peer.decoder.frame_max = agreed  # the peer refuses what is larger
        room = (agreed or 131072) - 8
        for size in {0, 1, min(room, 200_000) - 1, min(room, 200_000), min(room, 200_000) + 1}:
            channel.basic_publish(gamqp.Message(bytes(size)), '', 'q')
            assert peer.expect('basic.publish').body == bytes(size)
        connection.collect()
        peer.hang_up()


def test_channel_max_is_the_smaller_of_both(peer: ScriptedBroker) -> None:
    for ours, theirs in itertools.product(CHANNELS, CHANNELS):
        connection = peer.open((theirs, 131072, 0), channel_max=ours)
        agreed = smaller(ours, theirs) or 65535
        assert (connection.channel_max, peer.tune_ok.channel_max) == (agreed, agreed)
        connection.collect()
        peer.hang_up()


def rabbitmq(version: str) -> dict[str, Any]:
    return {'product': 'RabbitMQ', 'version': version}


@pytest.mark.parametrize('ours', [4096, 8191])
def test_frames_smaller_than_a_new_rabbitmq_takes_are_refused_here(peer: ScriptedBroker, ours: int) -> None:
    """It would only hang up, three seconds later."""
    opening = greenlets.spawn(peer.client(frame_max=ours).connect)
    peer.handshake(until='tune', properties=rabbitmq('4.1.0'))
    peer.send('connection.tune', channel_max=10, frame_max=131072, heartbeat=0)
    with pytest.raises(exceptions.NotAllowed, match=f'frame_max {ours} is below the minimum of 8192'):
        opening.get()
    peer.expect_end()


@pytest.mark.parametrize('version', ['3.10.8', '4.0.9', 'of my own'])
def test_others_agree_to_4096(peer: ScriptedBroker, version: str) -> None:
    connection = peer.client(frame_max=4096)
    opening = greenlets.spawn(connection.connect)
    peer.handshake(properties=rabbitmq(version))
    opening.get()
    assert connection.frame_max == peer.tune_ok.frame_max == 4096


# -- a password or token that is too long for the broker to read ---------------------------------


@pytest.mark.parametrize(('version', 'limit'), [('3.13.7', 4096), ('4.0.9', 4096)])
def test_a_start_ok_that_no_broker_of_that_version_takes_is_refused_here_and_not_quoted(
    peer: ScriptedBroker, version: str, limit: int
) -> None:
    opening = greenlets.spawn(peer.client(password='t0ken' * (limit // 5)).connect)
    peer.accept()
    start(peer, version)
    with pytest.raises(exceptions.EncodeError, match=f'the broker takes {limit}: the password or token') as caught:
        opening.get()
    assert 't0ken' not in str(caught.value) + repr(caught.value)
    peer.expect_end()


def test_a_start_ok_of_just_that_size_is_sent(peer: ScriptedBroker) -> None:
    version, limit = '3.13.7', 4096
    overhead = limit - start_ok_size(peer, version, '')
    assert start_ok_size(peer, version, 'x' * overhead) == limit
    with pytest.raises(exceptions.EncodeError):
        start_ok_size(peer, version, 'x' * (overhead + 1))


@pytest.mark.parametrize('closes', [True, False])
def test_a_longer_start_ok_goes_to_brokers_that_may_take_it_and_the_limit_is_a_hint_when_they_do_not(
    peer: ScriptedBroker, closes: bool
) -> None:
    connection = peer.client(password='t0ken' * 4000)
    opening = greenlets.spawn(connection.connect)
    peer.accept()
    start(peer, '4.1.0')
    response = peer.expect('connection.start-ok').response
    assert response.endswith('t0ken' if isinstance(response, str) else b't0ken')
    if closes:
        peer.hang_up()
        with pytest.raises(exceptions.RecoverableConnectionError, match=r'start-ok had 20\d\d\d bytes.*8192') as caught:
            opening.get()
        assert 't0ken' not in str(caught.value)
    else:
        peer.send('connection.tune', channel_max=10, frame_max=131072, heartbeat=0)
        peer.expect('connection.tune-ok')
        peer.expect('connection.open')
        peer.send('connection.open-ok')
        opening.get()
        assert connection.connected


def start(peer: ScriptedBroker, version: str) -> None:
    peer.send(
        'connection.start', version_minor=9, server_properties=rabbitmq(version), mechanisms=b'PLAIN', locales=b'en_US'
    )


def start_ok_size(peer: ScriptedBroker, version: str, password: str) -> int:
    """Bytes of the whole frame. Raises what connect raises."""
    connection = peer.client(password=password, name='x')
    opening = greenlets.spawn(connection.connect)
    peer.hang_up()
    peer.accept()
    start(peer, version)
    data = peer.recv(20_000, 'start-ok, or the end')
    if not data:
        opening.get()
    connection.collect()
    with pytest.raises(exceptions.RecoverableConnectionError):
        opening.get()
    assert int.from_bytes(data[3:7], 'big') + 8 == len(data)
    return len(data)
