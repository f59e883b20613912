"""examples/webhook_app.py, run as a user runs it: forked gunicorn workers publish what they answer 202 to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import broker_tools
import greenlets
import pytest

import gamqp

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'webhook_app.py'

pytestmark = [
    pytest.mark.limit(120),
    pytest.mark.skipif(greenlets.GREEN != 'gevent', reason='the example is written for gevent'),
]


def self_test(url: str, queue: str, requests: int) -> tuple[str, str]:
    """What the example prints, and what it and gunicorn say besides."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), '--self-test', '--requests', str(requests), '--clients', '50'],
        env={
            **os.environ,
            'AMQP_URL': url,
            'WEBHOOK_QUEUE': queue,
            'PYTHONPATH': str(Path(gamqp.__file__).parents[1]),
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, done.stderr


def test_what_it_accepts_is_in_the_queue(rabbit):
    queue = f'webhooks.{os.getpid()}'
    out, err = self_test(rabbit.url, queue, 400)
    assert re.findall(r'^(\d{3})\b.* (\d+)$', out, re.MULTILINE) == [('202', '400')], out
    workers = re.findall(
        r'^worker +\d+ +connections (\d+), channels (\d+), leased (\d+), leases (\d+)', out, re.MULTILINE
    )
    assert len(workers) == 2
    assert all(int(connections) <= 2 and int(leased) == 0 for connections, _, leased, _ in workers)
    assert sum(int(leases) for *_, leases in workers) >= 400
    with rabbit.connect() as connection:
        channel = connection.channel()
        bodies = [bytes(message.body) for message in broker_tools.get_all(channel, queue)]
        channel.queue_delete(queue)
    assert sorted(bodies) == sorted(b'request %d' % number for number in range(400))
    assert 'Traceback' not in err and 'Warning' not in err, err


def test_without_a_broker_it_says_when_to_come_back():
    out, err = self_test('amqp://guest:s3cret@127.0.0.1:1', 'webhooks', 50)
    assert re.findall(r'^(\d{3}.*?) +(\d+)$', out, re.MULTILINE) == [('503, Retry-After 5', '50')], out
    assert 'Connection refused' in err
    assert 's3cret' not in out + err
