"""Publishers and consumers on connections that recover, without a line about connecting again.

    through_faults.py LIBRARY MESSAGES PUBLISHERS CONSUMERS URL...

Publishes until so many messages are confirmed and stdin has ended. Half of the publishers have republish='none', the
others 'all'. Prints 'ready', then every thousand confirmed messages a number, and in the end a JSON object: what became
of the publishes, and which of them came, or not, as they should not have.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import random
import sys
import time
from collections import Counter, deque
from typing import Any

import gamqp
from gamqp import green

# Publishes of one publisher that wait for their confirm.
WINDOW = 50
# Seconds for calls and confirms: no fault lasts so long.
PATIENCE = 600
QUEUES = 10
PUBLISHING, CONSUMING = 6, 5  # connections

#: Of a publish: what its receipt has told.
CONFIRMED, UNKNOWN, UNSENT, REFUSED = 1, 2, 3, 4


class Run:
    def __init__(self, urls: list[str], messages: int, publishers: int, consumers: int) -> None:
        self.urls, self.wanted, self.stopping = urls, messages, False
        self.ids = itertools.count()
        self.confirmed = 0
        self.outcomes: list[int] = []  # by id; 0 while there is none
        self.places = bytearray()  # by id: numbers of its connection and of its queue, two octets
        self.fresh: Counter[int] = Counter()  # ids, as they came
        self.again: Counter[int] = Counter()  # those that were told to be redelivered
        self.doubtful: set[int] = set()  # without a confirm at a loss, with republish='all'
        self.errors: list[str] = []
        self.pending: list[set[int]] = [set() for _ in range(PUBLISHING)]
        self.publishing = [self.connect(f'publishing {n}', n if n % 2 else None) for n in range(PUBLISHING)]
        self.consuming = [self.connect(f'consuming {n}') for n in range(CONSUMING)]
        channel = self.publishing[0].channel()
        self.queues = [f'through-faults.{os.getpid()}.{n}' for n in range(QUEUES)]
        arguments = {'x-queue-type': 'quorum', 'x-delivery-limit': 10_000, 'x-quorum-initial-group-size': 3}
        for queue in self.queues:
            channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)
        channels = [connection.channel() for connection in self.consuming for _ in range(2)]
        for number in range(consumers):
            channels[number % len(channels)].subscribe(self.queues[number % QUEUES], self.take, prefetch=5)
        self.left = publishers
        for number in range(publishers):
            backend.spawn(self.publish, number % PUBLISHING)

    def connect(self, name: str, number: int | None = None) -> gamqp.Connection:
        """number: of a connection whose publishes go out again after a loss."""
        recover = gamqp.Recovery(republish='none' if number is None else 'all', max_delay=3)
        on_lost = None if number is None else lambda error: self.doubtful.update(self.pending[number])
        return gamqp.connect(
            self.urls,
            recover=recover,
            name=name,
            heartbeat=4,
            rpc_timeout=PATIENCE,
            confirm_timeout=PATIENCE,
            connect_timeout=8,
            on_lost=on_lost,
        )

    def take(self, message: gamqp.Message) -> None:
        (self.again if message.redelivered else self.fresh)[int(message.body)] += 1

    # -- a publisher -------------------------------------------------------------------------

    def publish(self, number: int) -> None:
        try:
            channel = self.publishing[number].channel()
            channel.confirm_select()
            window: deque[tuple[int, gamqp.Receipt]] = deque()
            while self.confirmed < self.wanted or not self.stopping:
                one = next(self.ids)
                queue = random.randrange(QUEUES)
                self.outcomes.append(0)
                self.places += bytes((number, queue))
                self.pending[number].add(one)
                try:
                    receipt = channel.publish(b'%d' % one, '', self.queues[queue], delivery_mode=2)
                except gamqp.Lost as error:
                    self.settle(number, one, UNSENT if error.sent is False else UNKNOWN)
                    continue
                window.append((one, receipt))
                if len(window) >= WINDOW:
                    self.await_oldest(number, window)
            while window:
                self.await_oldest(number, window)
        except BaseException as error:
            self.errors.append(f'{type(error).__name__}: {error}')
        finally:
            self.left -= 1

    def await_oldest(self, number: int, window: deque[tuple[int, gamqp.Receipt]]) -> None:
        one, receipt = window.popleft()
        try:
            receipt.wait()
            outcome = CONFIRMED
        except gamqp.Lost as error:
            outcome = UNSENT if error.sent is False else UNKNOWN
        except gamqp.MessageNacked:
            outcome = REFUSED
        assert receipt.done
        self.settle(number, one, outcome)

    def settle(self, number: int, one: int, outcome: int) -> None:
        assert not self.outcomes[one]
        self.outcomes[one] = outcome
        self.pending[number].discard(one)
        if outcome == CONFIRMED:
            self.confirmed += 1
            if not self.confirmed % 1000:
                print(self.confirmed, flush=True)

    # -- the end -----------------------------------------------------------------------------

    def missing(self) -> list[int]:
        """What was confirmed, and has not come."""
        return [
            one
            for one, outcome in enumerate(self.outcomes)
            if outcome == CONFIRMED and one not in self.fresh and one not in self.again
        ]

    def at_broker(self, queue: str) -> tuple[int, int]:
        """Messages of a queue that are ready, and its consumers."""
        with self.publishing[0].channel() as channel:
            said = channel.queue_declare(queue, passive=True)
        return said.message_count, said.consumer_count

    def what_came_back(self, missing: set[int]) -> tuple[int, list[int]]:
        """How much the broker has again once the consumers are gone, and what of that is *missing*."""
        for connection in self.consuming:
            connection.close()
        found: list[int] = []
        quiet = 0
        with self.publishing[0].channel() as channel:
            while quiet < 20 and not missing.issubset(found):  # queues take back what was unacked some time later
                before = len(found)
                for queue in self.queues:
                    while (message := channel.basic_get(queue)) is not None:
                        found.append(int(message.body))
                quiet = quiet + 1 if len(found) == before else 0
                backend.sleep(1)
        return len(found), sorted(missing.intersection(found))

    def shares(self, missing: list[int]) -> dict[str, dict[int, int]]:
        """How many of these ids each connection published (odd numbers: again after a loss), and each queue got.

        The fault of a client shows in its connections, that of the broker in its queues.
        """
        return {
            'connections': dict(Counter(self.places[2 * one] for one in missing)),
            'queues': dict(Counter(self.places[2 * one + 1] for one in missing)),
        }

    def report(self) -> dict[str, Any]:
        everything = [*self.publishing, *self.consuming]
        for connection in everything:
            connection.wait_open(PATIENCE)  # the last fault may just have been
        deadline = time.monotonic() + PATIENCE / 4
        while self.missing() and time.monotonic() < deadline:
            backend.sleep(0.2)
        outcomes = Counter(self.outcomes)
        twice = [one for one, times in self.fresh.items() if times > 1]
        sums: Counter[str] = Counter()
        for connection in everything:
            sums.update({name: int(value) for name, value in connection.stats().items()})
        result = {
            'published': len(self.outcomes),
            'confirmed': outcomes[CONFIRMED],
            'unknown': outcomes[UNKNOWN],
            'unsent': outcomes[UNSENT],
            'refused': outcomes[REFUSED],
            'open': outcomes[0],
            'missing': self.missing(),
            'came, but were unsent': [one for one in {*self.fresh, *self.again} if self.outcomes[one] == UNSENT][:20],
            'twice': len(twice),
            'twice without a doubt': [one for one in twice if one not in self.doubtful][:20],
            'doubtful': len(self.doubtful),
            'redelivered': sum(self.again.values()),
            'states': sorted({connection.state for connection in everything}),
            'consumers': sums['consumers'],
            'unsettled': sums['unsettled'],
            'errors': self.errors,
            **{
                name: sums[name] for name in ('outages', 'recoveries', 'recovery_attempts', 'stale_settlements', 'lost')
            },
            'balance': sums['published'] - sums['confirmed'] - sums['nacked'] - sums['lost'] - sums['unconfirmed'],
        }
        if result['missing']:
            result['shares'] = self.shares(self.missing())
            result['at the broker'] = [self.at_broker(queue) for queue in self.queues]
            # More deliveries than were handled: they were lost here. As many: they have not come.
            result['delivered'] = sums['delivered']
            result['handled'] = sum(self.fresh.values()) + sum(self.again.values())
        result['drained'] = all(connection.drain(60) for connection in self.consuming)
        if result['missing']:
            result['came back'] = self.what_came_back(set(self.missing()))
        with self.publishing[0].channel() as channel:
            result['left'] = sum(channel.queue_delete(queue) for queue in self.queues)
        for connection in everything:
            connection.close()
        return result


def main() -> None:
    messages, publishers, consumers = map(int, sys.argv[2:5])
    run = Run(sys.argv[5:], messages, publishers, consumers)
    gc.collect()
    gc.freeze()
    print('ready', flush=True)
    stdin = backend.Readiness(0)
    while not run.stopping:
        if stdin.wait_readable(0.5):
            run.stopping = not os.read(0, 100)
    while run.left:
        backend.sleep(0.05)
    print(json.dumps(run.report()), flush=True)


if __name__ == '__main__':
    green.use(sys.argv[1])
    backend = green.backend()
    main()
