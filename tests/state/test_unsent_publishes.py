"""What can be read from frames that were not sent, and publishes that are kept."""

from __future__ import annotations

from typing import Any

import pytest

from gamqp.state.confirm_matching import Confirms
from gamqp.state.kept_publishes import KeepingConfirms, hand_over
from gamqp.state.unsent_publishes import address, longest_frame, publishes_by_channel, sets_behind
from gamqp.wire import HEARTBEAT, encode_method, encode_publish
from gamqp.wire.spec import Basic


def publish(channel: int = 1, size: int = 10, exchange: str = 'ex') -> bytes:
    return bytes(encode_publish(channel, exchange, 'key', False, False, {}, b'x' * size, 4096))


SETS = [publish(), bytes(encode_method(1, Basic.Cancel, ('tag', False))), publish(2, 10_000), HEARTBEAT, publish(1, 0)]


@pytest.mark.parametrize('sent', range(len(SETS) + 1))
@pytest.mark.parametrize('more', [0, 1])
def test_a_set_of_which_a_part_was_sent_is_not_among_the_rest(sent: int, more: int) -> None:
    if sent == len(SETS) and more:
        return
    begun = sum(map(len, SETS[:sent])) + more
    assert sets_behind(memoryview(b''.join(SETS))[begun:]) == SETS[sent + more :]


def test_publishes_are_found_by_their_channel() -> None:
    assert publishes_by_channel(SETS) == {1: [SETS[0], SETS[4]], 2: [SETS[2]]}


def test_what_a_publish_says_of_itself() -> None:
    assert longest_frame(SETS[2]) == 4096 and address(SETS[2]) == ('ex', 'key')
    assert address(publish(exchange='')) == ('', 'key')


class Waiter:
    def __init__(self) -> None:
        self.got: list[Any] = []

    def _settle(self, verdict: Any) -> None:
        self.got.append(verdict)

    _lose = _settle
    _awaited = False
    succeed = fail = _settle


def test_the_latest_are_handed_over_with_all_that_belongs_to_them() -> None:
    source, to, waiters = Confirms(), KeepingConfirms(), [Waiter() for _ in range(4)]
    for tag, waiter in enumerate(waiters, 1):
        source.published = tag
        if tag == 3:
            source.enter_mandatory(tag, waiter, 'ex', 'key', 10, publish())
        else:
            source.enter(tag, waiter)
    source.observe(4, waiters[3]._settle)
    both, none_lost = Waiter(), Waiter()
    source.barrier(both)
    hand_over(source, source.latest(2), [b'3', b'4'], to)
    assert list(source.waiting) == [1, 2] and list(to.waiting) == [3, 4]
    assert source.has_barriers and not to.has_barriers  # it waits for publishes that stay, too
    kept = to.get(3)
    assert kept is not None and (kept.frames, kept.waiter, kept.key) == (b'3', waiters[2], ('ex', 'key', 10))
    to.settle(4, True, True)
    assert [waiter.got for waiter in waiters] == [[], [], [True], [True, True]] and not to.frames
    source.settle(2, True, True)
    source.published = 5
    source.enter(5, None)
    source.barrier(none_lost)
    later = KeepingConfirms()
    hand_over(source, source.latest(9), [b'5'], later)
    assert not source.has_barriers and later.has_barriers
