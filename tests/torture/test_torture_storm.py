"""A storm: many greenlets, random calls, random interruptions and cuts, all at once on one connection to a real broker.

The standard run has a second of it. GAMQP_TEST_LONG=1 makes it minutes; GAMQP_TEST_SEED chooses another storm.
"""

from __future__ import annotations

import os
import random
import time

import broker_tools
import greenlets
import pytest
from interrupts import OPS, Bench
from proxy import Proxy

import gamqp

SECONDS = broker_tools.repeats(1, 60)
GREENLETS = 30
SEED = int(os.environ.get('GAMQP_TEST_SEED') or 20260204)

# Those that count consumers, or drain what is another's, cannot be done by several at a time.
TOGETHER = sorted(set(OPS) - {'basic_consume', 'basic_cancel', 'drain_events'})


@pytest.mark.limit(60 + SECONDS)
def test_interrupted_calls_of_every_kind_at_once(rabbit):
    """Whatever is killed or times out: the others get their own answers, and no message is lost or doubled."""
    print(f'GAMQP_TEST_SEED={SEED}')
    rng = random.Random(f'{SEED} {rabbit.label}')
    with Proxy(rabbit.node.port) as proxy:
        bench = Bench(rabbit, proxy, rng)
        bench.alone = False
        until = time.monotonic() + SECONDS
        done = []

        def work():
            while time.monotonic() < until:
                call, check = OPS[rng.choice(TOGETHER)](bench)
                outcome = []
                moment = rng.random() ** 3 * 0.05  # most of them early, some never in time
                if rng.random() < 0.5:
                    try:
                        with broker_tools.times_out(moment):
                            outcome.append(call())
                    except broker_tools.Interrupted:
                        pass
                else:
                    victim = greenlets.spawn(lambda call=call, outcome=outcome: outcome.append(call()))
                    greenlets.sleep(moment)
                    victim.kill()
                    greenlets.wait_until(lambda victim=victim: victim.greenlet.dead, 60)
                check(bool(outcome), outcome[0] if outcome else None)
                done.append(bool(outcome))

        for task in [greenlets.spawn(work) for _ in range(GREENLETS)]:
            task.get(SECONDS + 30)
        bench.probe()
        bench.close()
        print(f'{len(done)} calls, {len(done) - sum(done)} of them cut short')
        assert sum(done) < len(done)


@pytest.mark.limit(60 + SECONDS)
def test_connections_cut_at_any_moment_of_full_use(rabbit):
    """What was confirmed is there, what was acked is gone, nothing else is missing, whenever the line broke."""
    print(f'GAMQP_TEST_SEED={SEED}')
    rng = random.Random(f'{SEED} cut {rabbit.label}')
    confirmed, maybe, acked, seen = set(), set(), set(), set()
    numbers = iter(range(10**9))
    with rabbit.connect() as control, Proxy(rabbit.node.port) as proxy:
        queue = broker_tools.shared_queue(control.channel())

        def publish(channel):
            while True:
                number = next(numbers)
                maybe.add(number)
                channel.basic_publish_confirm(gamqp.Message(b'%d' % number), '', queue)
                confirmed.add(number)
                greenlets.sleep(0)

        def consume(connection, channel):
            def callback(message):
                number = int(bytes(message.body))
                seen.add(number)
                if rng.random() < 0.7:
                    message.ack()
                    acked.add(number)

            channel.basic_qos(0, 20, False)
            channel.basic_consume(queue, callback=callback)
            while True:
                connection.drain_events()

        until = time.monotonic() + SECONDS
        rounds = 0
        while time.monotonic() < until:
            rounds += 1
            connection = gamqp.connect(proxy.url(rabbit))
            tasks = [greenlets.spawn(publish, connection.channel()) for _ in range(3)]
            tasks += [greenlets.spawn(consume, connection, connection.channel()) for _ in range(2)]
            way = proxy.up if rng.random() < 0.5 else proxy.down
            way.cut_after(rng.randrange(1, 100_000), reset=rng.random() < 0.5)
            for task in tasks:
                error = broker_tools.raised(task)
                assert isinstance(error, connection.recoverable_connection_errors), error
            connection.close()
        channel = control.channel()
        greenlets.wait_until(lambda: channel.queue_declare(queue, passive=True).consumer_count == 0)
        left = {int(bytes(message.body)) for message in broker_tools.get_all(channel, queue)}
        print(f'{rounds} cuts, {len(confirmed)} confirmed, {len(acked)} acked, {len(left)} left')
        assert left <= maybe
        # An ack may have been lost with the line, a message never.
        assert confirmed <= left | acked
        assert seen <= maybe
        channel.queue_delete(queue)
