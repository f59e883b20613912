"""The greenlet that iterates ends: its consumer ends with it, also where its traceback keeps the iterator."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any

import greenlet
import greenlets
import inside
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker
from scripted_consumers import messages, start

import gamqp
from gamqp.green import backend

DELIVERED = 3


@pytest.fixture(autouse=True)
def the_collector_is_off() -> Iterator[None]:
    """Nobody must wait for it."""
    gc.disable()
    yield
    gc.enable()


def kill(owner: Any) -> None:
    backend().kill(owner)


def nothing(owner: Any) -> None:
    pass


def work(loop: Any, how: str) -> None:
    iterator = loop.pop()
    for message in iterator:
        if how == 'raises' or (how == 'raises at the second' and message.delivery_tag == 2):
            raise LookupError(message)
        if how == 'waits':
            backend().sleep(60)


ENDS: list[Any] = [
    pytest.param('waits', 1, kill, id='killed in the loop'),
    pytest.param('goes on', DELIVERED, kill, id='killed while it waits'),
    pytest.param('raises', 1, nothing, id='raises'),
    pytest.param('raises at the second', 2, nothing, id='raises later'),
    pytest.param('goes on', DELIVERED, None, id='times out'),
]


@pytest.mark.parametrize(('how', 'taken', 'end'), ENDS)
def test_its_consumer_ends(
    peer: ScriptedBroker,
    client: gamqp.Connection,
    channel: gamqp.Channel,
    how: str,
    taken: int,
    end: Callable[..., Any],
) -> None:
    loop = [start(peer, channel, DELIVERED, timeout=0.01 if end is None else None)]
    tag = loop[0].tag
    inbox = inside.inbox(loop[0])
    owner = backend().spawn(work, loop, how)
    if end is not None:
        greenlets.wait_until(lambda: owner.dead or len(inbox.messages) == DELIVERED - taken)
        end(owner)
    greenlets.wait_until(lambda: owner.dead)
    assert peer.expect('basic.cancel').consumer_tag == tag
    given_back = [peer.expect('basic.nack').delivery_tag for _ in range(DELIVERED - taken)]
    assert given_back == list(range(taken + 1, DELIVERED + 1))
    peer.expect_nothing_more(client)
    peer.send('basic.cancel-ok', consumer_tag=tag)
    greenlets.wait_until(lambda: not channel.consumer_count)
    assert not inside.unfinished_handlers(client).retiring


def test_twenty_kills_leave_no_consumer(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> None:
    owners = []
    for _ in range(20):
        loop = [start(peer, channel)]
        owner = backend().spawn(work, loop, 'goes on')
        owners.append(owner)
        backend().sleep(0)
        kill(owner)
        said = peer.expect('basic.cancel')
        peer.send('basic.cancel-ok', consumer_tag=said.consumer_tag)
    greenlets.wait_until(lambda: not channel.consumer_count)


def test_a_greenlet_that_returns_leaves_it_to_the_next(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    loop = start(peer, channel, DELIVERED)
    got = []

    def take() -> None:
        got.append(next(loop).delivery_tag)

    for _ in range(DELIVERED):
        owner = backend().spawn(take)
        greenlets.wait_until(lambda owner=owner: owner.dead)
        peer.expect_nothing_more(client)
    assert got == [1, 2, 3]


def test_an_earlier_owner_that_fails_does_not_end_it(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    loop = start(peer, channel, DELIVERED)
    taken: list[int] = []

    def take_and_wait() -> None:
        taken.append(next(loop).delivery_tag)
        backend().sleep(60)

    first, second = backend().spawn(take_and_wait), backend().spawn(take_and_wait)
    greenlets.wait_until(lambda: len(taken) == 2)
    kill(first)
    greenlets.wait_until(lambda: first.dead)
    peer.expect_nothing_more(client)
    kill(second)
    assert peer.expect('basic.cancel').consumer_tag == loop.tag
    assert peer.expect('basic.nack').delivery_tag == 3


def test_one_that_was_closed_is_not_ended_again(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    loop = start(peer, channel, 1)

    def take_and_close() -> None:
        next(loop)
        loop.close()
        backend().sleep(60)

    owner = backend().spawn(take_and_close)
    peer.expect('basic.cancel')
    peer.send('basic.cancel-ok', consumer_tag=loop.tag)
    greenlets.wait_until(lambda: inside.has_ended(loop))
    backend().sleep(0)
    kill(owner)
    greenlets.wait_until(lambda: owner.dead)
    peer.expect_nothing_more(client)


def test_whoever_goes_on_with_it_after_that_gets_its_end(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    loop = start(peer, channel, 1)
    owner = backend().spawn(list, loop)
    greenlets.wait_until(lambda: not inside.inbox(loop).messages)
    kill(owner)
    peer.expect('basic.cancel')
    peer.raw(messages(loop.tag, [2]))
    assert peer.expect('basic.nack').delivery_tag == 2
    peer.send('basic.cancel-ok', consumer_tag=loop.tag)
    with pytest.raises(StopIteration):
        next(loop)


def test_the_main_greenlet_and_raw_ones(peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel) -> None:
    """They tell nobody of their end: the iterator is closed when it goes with their frames."""
    loop = [start(peer, channel, 2)]
    assert next(loop[0]).delivery_tag == 1  # in the main greenlet
    hub = backend().hub()

    def take() -> None:
        iterator = loop.pop()
        assert next(iterator).delivery_tag == 2
        with contextlib.suppress(GreenletExit):
            next(iterator)

    raw = greenlet.greenlet(take, parent=getattr(hub, 'greenlet', hub))
    backend().run_soon(raw.switch)
    greenlets.wait_until(lambda: not loop)
    peer.expect_nothing_more(client)
    backend().run_soon(raw.throw, GreenletExit)
    peer.expect('basic.cancel')
    assert raw.dead


def test_a_greenlet_of_many_loops_keeps_nothing_of_them(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    owners: list[Any] = []

    def links() -> list[Any]:
        return [one for one in gc.get_objects() if isinstance(one, backend().FailureLink)]

    before = links()  # of other tests, not collected yet

    def take() -> None:
        owners.append(greenlet.getcurrent())
        for _ in range(5):
            loop = start(peer, channel, 1)
            next(loop)
            del loop
            said = peer.expect('basic.cancel')
            peer.send('basic.cancel-ok', consumer_tag=said.consumer_tag)
        owners.append(None)
        backend().sleep(60)

    owner = backend().spawn(take)
    greenlets.wait_until(lambda: len(owners) == 2)
    assert not [one for one in links() if not any(one is other for other in before)]
    kill(owner)
    greenlets.wait_until(lambda: owner.dead)
