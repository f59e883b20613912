"""Deliveries beyond the budget, read for a reply's sake: to disk, and back in order when there is room."""

from __future__ import annotations

import itertools
import logging
import os
import tempfile
import warnings
from typing import Any

import greenlets
import inside
import pytest
from flooding import LIMIT, LIMITED, SIZE, body_of, deliveries, drained, flood, temporary_files
from script import ScriptedBroker, frames
from scripted_consumers import begin

import gamqp

pytestmark = pytest.mark.usefixtures('no_file_is_left')

CLIENT = LIMITED

MANY = 300  # 6 MB


@pytest.fixture
def consumed(peer: ScriptedBroker, channel: gamqp.Channel, got: list[Any]) -> gamqp.Channel:
    """The channel, with a callback."""
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    return channel


@pytest.mark.parametrize('no_ack', [True, False], ids=['no ack', 'ack'])
@pytest.mark.parametrize('how', ['callback', 'consume', 'subscribe'])
def test_all_messages_come_in_order_and_whole(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, got: list[Any], how: str, no_ack: bool
) -> None:
    gate = [False]

    def handle(message: Any) -> None:
        greenlets.wait_until(lambda: gate[0])
        got.append(message)

    loop: Any = None
    if how == 'callback':
        begin(peer, lambda: channel.basic_consume('q', 'tag', no_ack=no_ack, callback=handle))
    elif how == 'consume':
        loop = begin(peer, lambda: channel.consume('q', consumer_tag='tag', no_ack=no_ack))
    else:
        begin(peer, lambda: channel.subscribe('q', handle, consumer_tag='tag', no_ack=no_ack))
    headers = {'properties': {'application_headers': {'a': 1}}, 'redelivered': True, 'routing_key': 'key'}
    flood(peer, client, deliveries(range(1, MANY + 1), **headers))
    stats = client.stats()
    assert stats['undelivered_messages'] < 2 * LIMIT
    assert stats['undelivered_messages'] + stats['spooled_messages'] in (MANY, MANY - 1)  # one is being handled
    assert MANY * SIZE > stats['spooled_bytes'] > (MANY - 2 * LIMIT) * SIZE
    assert stats['delivered'] == stats['redelivered'] == MANY
    assert len(temporary_files()) > 0
    gate[0] = True
    if how == 'callback':
        drained(client, got, MANY)
    elif how == 'consume':
        got += itertools.islice(loop, MANY)
    greenlets.wait_until(lambda: len(got) == MANY)
    assert [message.delivery_tag for message in got] == list(range(1, MANY + 1))
    for message in got:
        assert message.body == body_of(message.delivery_tag)
        assert (message.channel, message.headers, message.redelivered) == (channel, {'a': 1}, True)
        assert message.delivery_info['routing_key'] == 'key'
    stats = client.stats()
    assert (stats['spooled_messages'], stats['spooled_bytes'], stats['undelivered_messages']) == (0, 0, 0)
    assert stats['redelivered'] == MANY
    if how == 'consume':
        loop = None


def test_what_comes_meanwhile_stands_behind(
    peer: ScriptedBroker, client: Any, consumed: gamqp.Channel, got: list[Any]
) -> None:
    flood(peer, client, deliveries(range(1, 101)))
    assert inside.overflow(client) is not None
    drained(client, got, LIMIT)  # room, and some have come back
    flood(peer, client, deliveries(range(101, 201)))
    assert drained(client, got, 200) == list(range(1, 201))
    assert inside.overflow(client) is None
    peer.raw(deliveries(range(201, 211)))  # and then it goes its usual way
    assert drained(client, got, 210)[-1] == 210
    assert inside.overflow(client) is None


def test_the_socket_is_not_read_before_the_spool_is_empty(
    peer: ScriptedBroker, client: Any, consumed: gamqp.Channel, got: list[Any]
) -> None:
    flood(peer, client, deliveries(range(1, MANY + 1)))
    peer.raw(deliveries([MANY + 1]))
    greenlets.wait_until(lambda: not inside.reads(client))
    while inside.overflow(client) is not None:
        assert not inside.reads(client)
        client.drain_events(timeout=30)
    drained(client, got, MANY + 1)
    greenlets.wait_until(lambda: inside.reads(client))


def test_what_is_not_read_for_a_reply_stays_in_the_socket_as_long_as_there_is_a_spool(
    peer: ScriptedBroker, client: Any, consumed: gamqp.Channel, got: list[Any]
) -> None:
    """Also while the budget is not spent: half of it is refilled from the disk."""
    flood(peer, client, deliveries(range(1, MANY + 1)))
    taken = 0
    while client.stats()['undelivered_messages'] > LIMIT - 5:
        taken += 1
        drained(client, got, taken)
    assert inside.overflow(client) is not None
    peer.raw(deliveries([MANY + 1]))
    greenlets.wait_until(lambda: not inside.reads(client))
    assert client.stats()['delivered'] == MANY


def test_within_the_budget_and_a_quarter_nothing_goes_to_the_spool(
    peer: ScriptedBroker, client: Any, consumed: gamqp.Channel, got: list[Any]
) -> None:
    flood(peer, client, deliveries(range(1, LIMIT + LIMIT // 4), size=10))
    assert inside.overflow(client) is None
    drained(client, got, LIMIT + LIMIT // 4 - 1)


def test_a_little_too_much_never_touches_the_disk(
    peer: ScriptedBroker, client: Any, consumed: gamqp.Channel, got: list[Any]
) -> None:
    before = temporary_files()
    flood(peer, client, deliveries(range(1, 2000), size=10))
    flood(peer, client, deliveries(range(2000, 2500), size=10))
    assert client.stats()['spooled_messages'] > 400
    assert temporary_files() == before
    assert drained(client, got, 2499) == list(range(1, 2500))


@pytest.mark.parametrize('size', [0, 1, 131_064, 300_000, 3_000_000])
def test_bodies_of_any_size_come_back(
    peer: ScriptedBroker, client: Any, consumed: gamqp.Channel, got: list[Any], size: int
) -> None:
    flood(peer, client, deliveries(range(1, LIMIT * 2), size=10) + deliveries(range(100, 104), size=size))
    count = LIMIT * 2 + 3
    drained(client, got, count)
    assert [message.body for message in got[-4:]] == [body_of(tag, size) for tag in range(100, 104)]
    assert inside.overflow(client) is None


def test_consumers_that_take_turns_get_their_own(
    peer: ScriptedBroker, client: Any, channel: gamqp.Channel, got: list[Any]
) -> None:
    """Two on one channel, and one of the same tag on another."""
    second: list[Any] = []
    third: list[Any] = []
    other = peer.open_channel(client, 2)
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    begin(peer, lambda: channel.basic_consume('q', 'b', no_ack=True, callback=second.append))
    begin(peer, lambda: other.basic_consume('q', 'tag', callback=third.append))
    said = [deliveries([2 * n + 1]) + deliveries([2 * n + 2], 'b') + deliveries([n + 1], 'tag', 2) for n in range(100)]
    flood(peer, client, b''.join(said))
    while len(got) + len(second) + len(third) < 300:
        client.drain_events(timeout=30)
    assert [message.delivery_tag for message in got] == list(range(1, 201, 2))
    assert [message.delivery_tag for message in second] == list(range(2, 201, 2))
    assert [message.delivery_tag for message in third] == list(range(1, 101))
    assert {message.channel for message in third} == {other}


def test_replies_of_remote_calls_do_not_go_to_the_spool(
    peer: ScriptedBroker, client: Any, consumed: gamqp.Channel, got: list[Any]
) -> None:
    calls = gamqp.RPCClient(peer.open_channel(client, 2), timeout=30)
    flood(peer, client, deliveries(range(1, MANY + 1)))
    for _ in range(2):
        calling = greenlets.spawn(calls.call, b'x', 'jobs')
        said = peer.next()
        if said.name == 'basic.consume':
            tag = said.consumer_tag
            peer.send('basic.consume-ok', 2, consumer_tag=tag)
            said = peer.expect('basic.publish')
        number = {'correlation_id': said.properties['correlation_id']}
        peer.raw(deliveries([MANY + 1]))
        peer.raw(frames('basic.deliver', 2, consumer_tag=tag, delivery_tag=1, body=b'r', properties=number))
        assert calling.get().body == b'r'
    assert inside.overflow(client) is not None
    assert len(drained(client, got, MANY + 2)) == MANY + 2


def test_with_the_spool_turned_off_everything_stays_in_memory(peer: ScriptedBroker, got: list[Any]) -> None:
    client: Any = peer.open((10, 131072, 0), max_undelivered_messages=LIMIT, spool=False)
    channel = peer.open_channel(client)
    begin(peer, lambda: channel.basic_consume('q', 'tag', callback=got.append))
    flood(peer, client, deliveries(range(1, MANY + 1)))
    stats = client.stats()
    assert (stats['undelivered_messages'], stats['spooled_messages']) == (MANY, 0)
    drained(client, got, MANY)


def test_where_nothing_can_be_written_it_stays_in_memory_and_is_told_once(
    peer: ScriptedBroker,
    client: Any,
    consumed: gamqp.Channel,
    got: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, 'tempdir', '/nonexistent')
        with caplog.at_level(logging.WARNING, 'gamqp.connection'):
            flood(peer, client, deliveries(range(1, 151)))
            greenlets.wait_until(lambda: 'cannot be written' in caplog.text)
    flood(peer, client, deliveries(range(151, 301)))  # and then it can: the order is kept
    assert drained(client, got, 300) == list(range(1, 301))
    assert [message.body for message in got] == [body_of(tag) for tag in range(1, 301)]
    assert caplog.text.count('cannot be written') == 1


def test_who_hoards_is_told_with_what_lies_on_disk(
    peer: ScriptedBroker, client: Any, consumed: gamqp.Channel, got: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    peer.raw(deliveries(range(1, LIMIT + 1), size=10))
    greenlets.wait_until(lambda: not inside.reads(client))
    flood(peer, client, deliveries(range(LIMIT + 1, MANY + 1)))
    caplog.clear()
    inside.warn_of_full_memory_again(client)  # a minute later
    with caplog.at_level(logging.WARNING, 'gamqp.connection'):
        peer.raw(deliveries([MANY + 1]))
        greenlets.wait_until(lambda: caplog.text)
    assert f'{MANY} of {MANY} undelivered messages' in caplog.text
    assert f'{client.stats()["spooled_bytes"]} in temporary files' in caplog.text
    assert f"{MANY} of them of consumer 'tag'" in caplog.text


def test_a_forked_child_lets_go_of_the_files_and_the_parent_reads_them(
    peer: ScriptedBroker, client: Any, consumed: gamqp.Channel, got: list[Any]
) -> None:
    before = temporary_files()
    flood(peer, client, deliveries(range(1, MANY + 1)))
    drained(client, got, 50)
    assert len(temporary_files()) > len(before)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # eventlet warns of every fork
        child = os.fork()
    if not child:
        os._exit(0 if inside.overflow(client) is None and temporary_files() == before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert drained(client, got, MANY) == list(range(1, MANY + 1))
