"""The opening conversation when all goes well, and when both sides have nothing in common."""

from __future__ import annotations

import os
import sys
from typing import Any

import greenlets
import pytest
from named_methods import octets
from script import CAPABILITIES, ScriptedBroker

import gamqp
from gamqp import exceptions, sasl


def test_opens_tells_the_server_who_it_is_and_closes(peer: ScriptedBroker) -> None:
    connection = peer.client(virtual_host='some/vhost', name='jobs', client_properties={'team': 'green'})
    opening = greenlets.spawn(connection.connect)
    peer.handshake()
    assert opening.get() is None
    assert connection.connected
    assert connection.server_properties['product'] == 'Script'
    assert connection.server_capabilities == CAPABILITIES
    assert (connection.version_major, connection.version_minor) == (0, 9)
    assert connection.mechanisms == [b'PLAIN', b'AMQPLAIN']
    said = peer.start_ok.client_properties
    assert said['product'] == 'gamqp'
    assert said['product_version'] == gamqp.__version__
    assert said['team'] == 'green'
    assert said['connection_name'] == 'jobs'
    assert peer.start_ok.locale == 'en_US'
    assert peer.opening.virtual_host == 'some/vhost'
    closing = greenlets.spawn(connection.close)
    said = peer.agree_to_close()
    assert (said.reply_code, said.class_id, said.method_id) == (0, 0, 0)
    closing.get()
    assert not connection.connected


def test_has_a_name_when_none_is_given(peer: ScriptedBroker) -> None:
    peer.open()
    assert peer.start_ok.client_properties['connection_name'].count(':') >= 2


def test_a_program_whose_name_is_no_text_connects(peer: ScriptedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'argv', [os.fsdecode(b'/opt/caf\xe9.py')])
    peer.open()
    assert peer.start_ok.client_properties['connection_name'].endswith(':caf?.py')


@pytest.mark.parametrize('capabilities', ['all', 1, None, ['basic.nack']])
def test_capabilities_that_are_no_table_are_none(peer: ScriptedBroker, capabilities: Any) -> None:
    connection = peer.client()
    opening = greenlets.spawn(connection.connect)
    peer.handshake(properties={'capabilities': capabilities})
    opening.get()
    assert connection.server_capabilities == {}


@pytest.mark.parametrize('heartbeat', [-1, -0.1, float('inf'), float('nan')])
def test_a_heartbeat_that_cannot_be_meant_is_refused_at_once(heartbeat: float) -> None:
    with pytest.raises(ValueError, match='heartbeat'):
        gamqp.Connection(heartbeat=heartbeat)


def test_sends_all_six_capabilities_to_a_server_that_has_them(peer: ScriptedBroker) -> None:
    peer.open()
    assert peer.start_ok.client_properties['capabilities'] == CAPABILITIES


@pytest.mark.parametrize('offered', [{'basic.nack': True, 'publisher_confirms': False}, {}, None])
def test_sends_no_capability_that_the_server_lacks(peer: ScriptedBroker, offered: Any) -> None:
    connection = peer.client()
    opening = greenlets.spawn(connection.connect)
    properties = {'product': 'Old'} if offered is None else {'capabilities': offered}
    peer.handshake(properties=properties)
    opening.get()
    said = peer.start_ok.client_properties.get('capabilities', {})
    assert said == ({'basic.nack': True} if offered else {})


# ours (channel_max, frame_max, heartbeat), theirs, what is agreed on
TUNES = [
    ((None, None, None), (2047, 131072, 60), (2047, 131072, 60)),
    ((10, 8192, 5), (2047, 131072, 60), (10, 8192, 5)),  # the smaller of both
    ((2047, 131072, 60), (5, 4096, 10), (5, 4096, 10)),
    ((0, 0, None), (0, 0, 0), (65535, 0, 0)),
    ((0, 0, None), (7, 4096, 3), (7, 4096, 3)),
    ((7, 4096, 3), (0, 0, 0), (7, 4096, 3)),  # heartbeat: the larger one when the server says 0
    ((None, None, 0), (2047, 131072, 60), (2047, 131072, 0)),  # off on demand, whatever the server says
    ((None, None, 0.2), (2047, 131072, 60), (2047, 131072, 1)),  # a fraction does not become "off"
    ((None, None, None), (65535, 4294967295, 65535), (2047, 131072, 65535)),
]


@pytest.mark.parametrize(('ours', 'theirs', 'agreed'), TUNES)
def test_tune_settles_on(peer: ScriptedBroker, ours: Any, theirs: Any, agreed: Any) -> None:
    connection = peer.open(theirs, channel_max=ours[0], frame_max=ours[1], heartbeat=ours[2])
    assert (peer.tune_ok.channel_max, peer.tune_ok.frame_max, peer.tune_ok.heartbeat) == agreed
    assert (connection.channel_max, connection.frame_max, connection.heartbeat) == agreed
    assert connection.server_heartbeat == theirs[2]


def test_a_frame_max_below_the_minimum_is_refused(peer: ScriptedBroker) -> None:
    connection = peer.client()
    opening = greenlets.spawn(connection.connect)
    peer.handshake(until='tune')
    peer.send('connection.tune', channel_max=10, frame_max=4095, heartbeat=0)
    with pytest.raises(exceptions.NotAllowed, match='4095 is below the minimum of 4096'):
        opening.get()
    assert not connection.connected
    peer.expect_end()


def test_channel_max_is_kept_locally(peer: ScriptedBroker) -> None:
    connection = peer.open((2, 131072, 0))
    for number in (1, 2):
        opening = greenlets.spawn(connection.channel)
        assert peer.expect('channel.open').channel == number
        peer.send('channel.open-ok', number)
        opening.get()
    with pytest.raises(exceptions.ResourceError, match='2 are open and channel_max is 2'):
        connection.channel()
    peer.expect_nothing_more(connection)


def test_frame_max_cuts_what_is_published(peer: ScriptedBroker) -> None:
    connection = peer.open((10, 4096, 0))
    channel = peer.open_channel(connection)
    peer.decoder.frame_max = 4096  # from here on the peer refuses more
    channel.basic_publish(gamqp.Message(b'x' * 10_000), routing_key='q')
    assert peer.expect('basic.publish').body == b'x' * 10_000


AMQPLAIN = b'\x05LOGINS\x00\x00\x00\x04user\x08PASSWORDS\x00\x00\x00\x06s3cret'
# arguments, offered, mechanism and response on the wire
LOGINS: list[Any] = [
    ({}, b'AMQPLAIN PLAIN', 'PLAIN', b'\0user\0s3cret'),
    ({}, b'AMQPLAIN', 'AMQPLAIN', AMQPLAIN),
    ({'login_method': 'PLAIN'}, b'AMQPLAIN PLAIN', 'PLAIN', b'\0user\0s3cret'),
    ({'login_method': 'AMQPLAIN'}, b'PLAIN AMQPLAIN', 'AMQPLAIN', AMQPLAIN),
    ({'login_method': 'EXTERNAL'}, b'PLAIN EXTERNAL', 'EXTERNAL', b''),
    ({'login_method': 'X-TOKEN', 'login_response': b'\xff\x00t'}, b'PLAIN X-TOKEN', 'X-TOKEN', b'\xff\x00t'),
    ({'authentication': sasl.RAW(b'ODD', b'odd')}, b'ODD', 'ODD', b'odd'),
    ({'authentication': [sasl.EXTERNAL(), sasl.PLAIN('a', 'b')]}, b'PLAIN', 'PLAIN', b'\0a\0b'),
    ({'authentication': [sasl.PLAIN(None, None), sasl.RAW(b'R', b'r')]}, b'R PLAIN', 'R', b'r'),
    # EXTERNAL only on demand: a broker may offer it over plain TCP and then refuse.
    ({}, b'EXTERNAL PLAIN', 'PLAIN', b'\0user\0s3cret'),
]


@pytest.mark.parametrize(('arguments', 'offered', 'mechanism', 'response'), LOGINS)
def test_logs_in_by(peer: ScriptedBroker, arguments: Any, offered: bytes, mechanism: str, response: bytes) -> None:
    connection = peer.client(userid='user', password='s3cret', **arguments)
    opening = greenlets.spawn(connection.connect)
    peer.handshake(mechanisms=offered)
    opening.get()
    assert peer.start_ok.mechanism == mechanism
    assert octets(peer.start_ok.response) == response


def test_no_mechanism_in_common_says_what_either_side_can(peer: ScriptedBroker) -> None:
    opening = greenlets.spawn(peer.client().connect)
    peer.accept()
    peer.send('connection.start', mechanisms=b'KERBEROS EXTERNAL', locales=b'en_US')
    with pytest.raises(exceptions.ConnectionError, match=r'we can PLAIN, AMQPLAIN.*offers KERBEROS, EXTERNAL'):
        opening.get()
    peer.expect_end()


class Riddle(sasl.SASL):
    """A mechanism of two rounds."""

    mechanism = b'RIDDLE'

    def start(self, connection: Any) -> bytes:
        return b'ask'

    def challenge(self, connection: Any, question: Any) -> bytes:
        return b'answer to ' + octets(question)


def test_answers_a_challenge(peer: ScriptedBroker) -> None:
    connection = peer.client(authentication=Riddle())
    opening = greenlets.spawn(connection.connect)
    peer.handshake(until='tune', mechanisms=b'RIDDLE')
    for question in (b'one', b'two'):
        peer.send('connection.secure', challenge=question)
        assert octets(peer.expect('connection.secure-ok').response) == b'answer to ' + question
    peer.send('connection.tune', channel_max=10, frame_max=131072, heartbeat=0)
    peer.expect('connection.tune-ok')
    peer.expect('connection.open')
    peer.send('connection.open-ok')
    opening.get()


def test_a_challenge_that_nobody_can_answer_ends_it(peer: ScriptedBroker) -> None:
    opening = greenlets.spawn(peer.client().connect)
    peer.handshake(until='tune')
    peer.send('connection.secure', challenge=b'who?')
    with pytest.raises(exceptions.AMQPNotImplementedError, match='PLAIN has no answer'):
        opening.get()
    peer.expect_end()


def test_hooks_run_in_order(peer: ScriptedBroker) -> None:
    calls: list[Any] = []
    connection = peer.client(
        on_tune_ok=lambda: calls.append('tune'), on_open=lambda opened: calls.append((opened, opened.connected))
    )
    opening = greenlets.spawn(lambda: connection.connect(callback=lambda: calls.append('callback') or 'result'))
    peer.handshake()
    assert opening.get() == 'result'
    assert calls == ['tune', (connection, True), 'callback']


def test_connecting_twice_does_nothing_and_at_the_same_time_is_refused(peer: ScriptedBroker) -> None:
    connection = peer.client()
    opening = greenlets.spawn(connection.connect)
    peer.handshake(until='open-ok')
    with pytest.raises(exceptions.RecoverableConnectionError, match='another greenlet'):
        connection.connect()
    peer.send('connection.open-ok')
    opening.get()
    connection.connect()
    assert connection.connected


def test_the_same_object_connects_again_after_its_end(peer: ScriptedBroker) -> None:
    connection = peer.open()
    peer.cut()
    with pytest.raises(exceptions.RecoverableConnectionError):
        connection.drain_events(timeout=30)
    peer.hang_up()
    opening = greenlets.spawn(connection.connect)
    peer.handshake()
    opening.get()
    assert peer.open_channel(connection).is_open
