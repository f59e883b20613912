"""Timeouts and kills at random moments inside every public call, a thousand times: nothing breaks, nobody is misled."""

from __future__ import annotations

import os
import random
import time

import broker_tools
import greenlets
import pytest
from interrupts import OPS, Bench
from proxy import Proxy

ROUNDS = broker_tools.repeats(22, 400)  # per call; two brokers and two dozen calls make it a thousand
SEED = int(os.environ.get('GAMQP_TEST_SEED') or 20260203)


@pytest.fixture
def bench(rabbit, request):
    seed = f'{SEED} {request.node.name}'
    print(f'GAMQP_TEST_SEED={SEED}')
    with Proxy(rabbit.node.port) as proxy:
        bench = Bench(rabbit, proxy, random.Random(seed))
        yield bench
        bench.close()


@pytest.mark.limit(60 + ROUNDS)
@pytest.mark.parametrize('name', OPS)
def test_interrupted_at_any_moment(bench, name):
    duration = max(run(bench, name, None) for _ in range(3))
    cut_short = 0
    for number in range(ROUNDS):
        # Beyond the end too, where the result is there and its receiver has not yet run.
        moment = bench.rng.uniform(0, 1.2) * duration if number else 0.0
        cut_short += not run(bench, name, moment, kill=bench.rng.random() < 0.5)
    print(f'{name}: {duration * 1000:.1f} ms, {cut_short} of {ROUNDS} cut short')


def run(bench, name, moment, kill=False):
    """One call, interrupted after that many seconds. Returns how long it took, or whether it was done."""
    call, check = OPS[name](bench)
    outcome = []
    started = time.monotonic()
    if moment is None:
        outcome.append(call())
    elif kill:
        task = greenlets.spawn(lambda: outcome.append(call()))
        if moment:
            greenlets.sleep(moment)
        task.kill()
        greenlets.wait_until(lambda: task.greenlet.dead, 60, 'a killed greenlet ends')
    else:
        task = greenlets.spawn(interrupt_myself, call, outcome, moment)
        task.get(30)
    took = time.monotonic() - started
    done = bool(outcome)
    check(done, outcome[0] if done else None)
    bench.probe()
    return took if moment is None else done


def interrupt_myself(call, outcome, moment):
    try:
        with broker_tools.times_out(moment):
            outcome.append(call())
    except broker_tools.Interrupted:
        pass
