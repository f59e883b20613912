"""Publisher confirms against a model: random verdicts, ranges, repetitions, kills, channel closes and an end.

Whatever happens, each publish ends exactly once, with the verdict on itself.
"""

from __future__ import annotations

import os
import random
from typing import Any

import broker_tools
import greenlets
import pytest
from greenlet import GreenletExit
from script import ScriptedBroker, frames

import gamqp
from gamqp import exceptions

SEEDS = range(broker_tools.repeats(6, 300))
STEPS = 120


class Publish:
    """One publish: what it should end with, and what it ended with."""

    def __init__(self, channel: gamqp.Channel, number: int) -> None:
        self.number = number
        self.due: Any = None  # the verdict; None as long as there is none
        self.outcomes: list[Any] = []
        self.task = greenlets.spawn(self._run, channel)

    def _run(self, channel: gamqp.Channel) -> None:
        outcome: Any = 'acked'
        try:
            channel.basic_publish_confirm(gamqp.Message(b'%d' % self.number), '', 'q', confirm_timeout=30)
        except exceptions.MessageNacked:
            outcome = 'nacked'
        except exceptions.AMQPError as error:
            outcome = error.reply_code
        except GreenletExit:
            outcome = 'killed'
        self.outcomes.append(outcome)


class Model:
    """The broker's side, and what it has said of whom."""

    def __init__(self, peer: ScriptedBroker, seed: int) -> None:
        self.peer, self.rng = peer, random.Random(seed)
        self.connection = peer.open(heartbeat=0)
        self.channel = peer.open_channel(self.connection)
        self.all: list[Publish] = []
        self.open: dict[int, Publish] = {}  # by delivery tag
        self.tag = 0

    def publish(self) -> None:
        one = Publish(self.channel, len(self.all))
        self.all.append(one)
        event = self.peer.next('a publish')
        if event.name == 'confirm.select':
            self.peer.send('confirm.select-ok')
            event = self.peer.next('a publish')
        assert (event.name, event.body) == ('basic.publish', b'%d' % one.number)
        self.tag += 1
        self.open[self.tag] = one

    def settle(self) -> None:
        """A verdict on one or on a range, of which some may have been told before."""
        if not self.open:
            return  # it might be read behind the next publish, and be taken for that
        # 0 speaks of everything: only where somebody waits, which tells when it has been read.
        tag = self.rng.randint(0 if any(one.due is None for one in self.open.values()) else 1, self.tag)
        multiple = tag == 0 or self.rng.random() < 0.2
        verdict = self.rng.choice(['ack', 'nack'])
        spoken_of = list(self.open) if not tag else [one for one in self.open if one == tag or (multiple and one < tag)]
        for one in spoken_of:
            publish = self.open.pop(one)
            publish.due = publish.due or f'{verdict}ed'
        self.peer.raw(frames(f'basic.{verdict}', delivery_tag=tag, multiple=multiple))
        if not tag:  # everything until now
            greenlets.wait_until(lambda: all(one.outcomes for one in self.all if one.due))

    def kill(self) -> None:
        """It has published, and keeps its number."""
        if self.open:
            one = self.rng.choice(list(self.open.values()))
            if one.due is None:
                one.due = 'killed'
                one.task.kill()
                greenlets.wait_until(lambda: one.outcomes)

    def close_channel(self) -> None:
        if not any(one.due is None for one in self.open.values()):
            return  # the error would come out of the next call
        for one in self.open.values():
            one.due = one.due or 406
        self.open.clear()
        self.tag = 0
        self.peer.send('channel.close', reply_code=406, reply_text='PRECONDITION_FAILED', class_id=60, method_id=40)
        self.peer.expect('channel.close-ok')
        self.peer.expect('channel.open')
        self.peer.send('channel.open-ok')
        greenlets.wait_until(lambda: self.channel.is_open)

    def end(self) -> None:
        for one in self.open.values():
            one.due = one.due or 320
        self.peer.send('connection.close', reply_code=320, reply_text='CONNECTION_FORCED')
        for one in self.all:
            one.task.get()


@pytest.mark.parametrize('seed', SEEDS)
def test_each_publish_ends_once_with_the_verdict_on_itself(peer: ScriptedBroker, seed: int) -> None:
    seed += int(os.environ.get('GAMQP_TEST_SEED') or 0)
    print(f'seed {seed}')
    model = Model(peer, seed)
    for _ in range(STEPS):
        step = model.rng.choices([model.publish, model.settle, model.kill, model.close_channel], [10, 5, 2, 0.3])[0]
        step()
    model.end()
    assert len(model.all) > STEPS // 3
    wrong = [(one.number, one.due, one.outcomes) for one in model.all if one.outcomes != [one.due]]
    assert wrong == []
