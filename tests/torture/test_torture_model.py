"""Fifty greenlets, one connection, every operation, half of them interrupted: a model checks every result.

The usual run does some thousand operations; GAMQP_TEST_LONG=1 does 100,000. GAMQP_TEST_SEED chooses others.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator

import broker_tools
import greenlets
import pytest
from certificates import Certificates
from model import Model
from tls_proxy import Front

import gamqp

GREENLETS = 50
OPERATIONS = broker_tools.repeats(2_000, 100_000)
SEED = int(os.environ.get('GAMQP_TEST_SEED') or 20261123)


@contextlib.contextmanager
def connecting(rabbit, how: str, certificates: Certificates) -> Iterator[gamqp.Connection]:
    if how == 'tcp':
        with rabbit.connect() as connection:
            yield connection
        return
    with Front(rabbit.node.port, certificates.server) as front:
        connection = gamqp.Connection(
            f'localhost:{front.port}', virtual_host=rabbit.vhost, ssl={'ca_certs': certificates.trust}
        )
        with connection:
            yield connection


@pytest.mark.limit(60 + OPERATIONS // 100)
@pytest.mark.parametrize('how', ['tcp', 'tls'])
def test_whatever_fifty_greenlets_do_nothing_is_lost_doubled_or_mixed_up(rabbit, certificates, how):
    print(f'GAMQP_TEST_SEED={SEED}')
    with connecting(rabbit, how, certificates) as connection:
        model = Model(connection, random.Random(f'{SEED} {rabbit.label} {how}'), OPERATIONS)
        for task in [greenlets.spawn(model.work) for _ in range(GREENLETS)]:
            task.get(30 + OPERATIONS // 100)
        model.settle(rabbit.connect)
        print(f'{sum(model.done.values())} operations, {model.cut} more cut short: {dict(model.done)}')
        assert model.cut
        assert all(model.done.values())
