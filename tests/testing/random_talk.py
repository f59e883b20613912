"""Random conversations with a broker: the same seed makes the same one, with whatever broker it is held.

By hand, against a real broker: ``random_talk.py VERSION URL FIRST COUNT`` compares it with ``testing.Broker``. Does not
belong here: what depends on time, or on RabbitMQ's own chance.
"""

from __future__ import annotations

import functools
import json
import random
import sys
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / 'broker'), str(HERE.parents[1])]

from conversations import BrokerTalker, Talker  # noqa: E402
from record_scenes import play  # noqa: E402

from gamqp import testing  # noqa: E402

__all__ = ('converse',)

_QUEUES = ('~q', '~r', '~s')
_EXCHANGES = {'~d': 'direct', '~t': 'topic', '~f': 'fanout', '~h': 'headers'}
_KEYS = ('a', 'a.b', 'b', '')
_ARGUMENTS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {'x-max-length': 2},
    {'x-max-length': 2, 'x-overflow': 'reject-publish'},
    {'x-max-length-bytes': 5},
    {'x-max-priority': 3},
    {'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': '~r'},
    {'x-dead-letter-exchange': '~f'},
    {'x-single-active-consumer': True},
)
_AT_ONCE = 40


class _Conversation:
    def __init__(self, talk: Talker, chance: random.Random) -> None:
        self.talk = talk
        self.chance = chance
        self.tags = {1: 1, 2: 1}  # the next delivery tag that may exist
        self.consumers = 0

    def go(self, steps: int) -> None:
        self.talk.open(1, 2)
        for name, kind in _EXCHANGES.items():
            self.talk.ask('exchange.declare', exchange=name, type=kind, auto_delete=True)
        for name in _QUEUES[:2]:
            self.declare(name)
            self._settle()
        for _ in range(steps):
            step = self.chance.choice(_STEPS)
            step(self, self.chance.choice((1, 1, 1, 2)))
            self._settle()
            if self.talk.ended:
                return

    def _settle(self) -> None:
        for channel, name, _ in self.talk.settle():
            if name in ('basic.deliver', 'basic.get-ok'):
                self.tags[channel] = self.tags.get(channel, 1) + 1
            elif name == 'channel.open-ok':
                self.tags[channel] = 1

    def queue(self) -> str:
        return self.chance.choice(_QUEUES)

    def declare(self, name: str = '', ch: int = 1) -> None:
        arguments = self.chance.choice(_ARGUMENTS)
        self.talk.send('queue.declare', ch, queue=name or self.queue(), exclusive=True, arguments=arguments)

    def step_declare(self, ch: int) -> None:
        self.declare('', ch)

    def step_passive(self, ch: int) -> None:
        self.talk.send('queue.declare', ch, queue=self.queue(), passive=True)

    def step_publish(self, ch: int) -> None:
        exchange = self.chance.choice(('', '', *_EXCHANGES))
        key = self.talk.prefix + self.queue()[1:] if not exchange else self.chance.choice(_KEYS)
        properties: dict[str, Any] = {'application_headers': self.chance.choice(({}, {'a': 1}, {'a': 2, 'b': 'x'}))}
        if self.chance.random() < 0.3:
            properties['priority'] = self.chance.randrange(5)
        body = self.chance.choice((b'', b'1', b'22', b'333', b'4444'))
        exchange = self.talk.prefix + exchange[1:] if exchange else ''
        self.talk.publish(exchange, key, body, ch=ch, mandatory=self.chance.random() < 0.3, **properties)

    def step_get(self, ch: int) -> None:
        self.talk.send('basic.get', ch, queue=self.queue(), no_ack=self.chance.random() < 0.3)

    def step_settle(self, ch: int) -> None:
        tag = self.chance.randrange(0, self.tags[ch] + 1)
        if not tag and self.chance.random() < 0.8:
            tag = 1
        how = self.chance.randrange(3)
        multiple, requeue = self.chance.random() < 0.3, self.chance.random() < 0.5
        if how == 0:
            self.talk.send('basic.ack', ch, delivery_tag=tag, multiple=multiple)
        elif how == 1:
            self.talk.send('basic.nack', ch, delivery_tag=tag, multiple=multiple, requeue=requeue)
        else:
            self.talk.send('basic.reject', ch, delivery_tag=tag, requeue=requeue)

    def step_consume(self, ch: int) -> None:
        self.consumers += 1
        arguments = {'x-priority': self.chance.randrange(3)} if self.chance.random() < 0.3 else {}
        no_ack, exclusive = self.chance.random() < 0.3, self.chance.random() < 0.1
        self.talk.send('basic.consume', ch, queue=self.queue(), consumer_tag=f'c{self.consumers}', no_ack=no_ack,
                       exclusive=exclusive, arguments=arguments)  # fmt: skip

    def step_cancel(self, ch: int) -> None:
        self.talk.send('basic.cancel', ch, consumer_tag=f'c{self.chance.randrange(1, self.consumers + 2)}')

    def step_bind(self, ch: int) -> None:
        arguments = self.chance.choice(({}, {'a': 1}, {'x-match': 'any', 'a': 1, 'b': 'x'}))
        key = self.chance.choice((*_KEYS, '#', 'a.*'))
        name = self.chance.choice(('queue.bind', 'queue.bind', 'queue.unbind'))
        self.talk.send(name, ch, queue=self.queue(), exchange=self.chance.choice(tuple(_EXCHANGES)), routing_key=key,
                       arguments=arguments)  # fmt: skip

    def step_chain(self, ch: int) -> None:
        source, destination = self.chance.choices(tuple(_EXCHANGES), k=2)
        self.talk.send(
            'exchange.bind', ch, source=source, destination=destination, routing_key=self.chance.choice(_KEYS)
        )

    def step_purge(self, ch: int) -> None:
        self.talk.send('queue.purge', ch, queue=self.queue())

    def step_delete(self, ch: int) -> None:
        if_unused, if_empty = self.chance.random() < 0.3, self.chance.random() < 0.3
        self.talk.send('queue.delete', ch, queue=self.queue(), if_unused=if_unused, if_empty=if_empty)

    def step_qos(self, ch: int) -> None:
        self.talk.send('basic.qos', ch, prefetch_count=self.chance.randrange(3))

    def step_confirm(self, ch: int) -> None:
        self.talk.send('confirm.select', ch)

    def step_tx(self, ch: int) -> None:
        self.talk.send(self.chance.choice(('tx.select', 'tx.commit', 'tx.rollback')), ch)

    def step_close(self, ch: int) -> None:
        self.talk.ask('channel.close', ch)
        self.talk.send('channel.open', ch)


_STEPS = (
    *[_Conversation.step_publish] * 10,
    *[_Conversation.step_settle] * 5,
    *[_Conversation.step_get] * 3,
    *[_Conversation.step_consume] * 3,
    *[_Conversation.step_bind] * 3,
    *[_Conversation.step_declare] * 2,
    *(_Conversation.step_passive, _Conversation.step_cancel, _Conversation.step_chain, _Conversation.step_purge),
    *(_Conversation.step_delete, _Conversation.step_qos, _Conversation.step_confirm, _Conversation.step_tx),
    _Conversation.step_close,
)


def converse(talk: Talker, seed: int, steps: int) -> Any:
    """Hold the conversation of *seed*; what was answered."""
    return play(talk, lambda talk: _Conversation(talk, random.Random(seed)).go(steps))


def _real(url: str, steps: int, quiet: float, seed: int) -> Any:
    return converse(Talker(url, f'rt{uuid.uuid4().hex[:8]}-', quiet), seed, steps)


def main(version: str, url: str, first: str, count: str, steps: str = '25') -> None:
    """Compare, and show what differs."""
    seeds = range(int(first), int(first) + int(count))
    with testing.Broker(version) as broker:
        here = {seed: converse(BrokerTalker(broker, f'rt{uuid.uuid4().hex[:8]}-'), seed, int(steps)) for seed in seeds}
    different: Iterable[int] = seeds
    there: dict[int, Any] = {}
    for quiet in (0.1, 0.3, 0.6):  # a difference is looked at again, and slower: it may be a late answer
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            there |= zip(different, pool.map(functools.partial(_real, url, int(steps), quiet), different), strict=True)
        different = [seed for seed in seeds if here[seed] != there[seed]]
    for seed in different:
        print(f'seed {seed}')
        _show(there[seed], here[seed])
    print(f'{len(seeds)} conversations like {version}, {len(different)} differ')


def _show(there: Any, here: Any) -> None:
    for channel in sorted({*there, *here}):
        theirs, ours = there.get(channel, []), here.get(channel, [])
        for at in range(max(len(theirs), len(ours))):
            pair = [json.dumps(record[at]) if at < len(record) else 'nothing' for record in (theirs, ours)]
            if pair[0] != pair[1]:
                print(f'  channel {channel} at {at}\n    {pair[0]}\n    {pair[1]}')
                break


if __name__ == '__main__':
    main(*sys.argv[1:])
