"""examples/quickstart.py, run as a user runs it: its table is true by the broker's own counters."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import greens
import pytest

import gamqp

QUICKSTART = Path(__file__).parents[2] / 'examples' / 'quickstart.py'


@pytest.mark.limit(180)
@pytest.mark.skipif(greens.GREEN != 'gevent', reason='the example is written for gevent')
def test_the_numbers_it_prints_are_the_brokers(rabbit):
    if not rabbit.managed:
        pytest.skip('the broker has no management to ask')
    vhost = f'quickstart.{os.getpid()}'
    rabbit.node.add_vhost(vhost)
    try:
        done = subprocess.run(
            [sys.executable, str(QUICKSTART)],
            env={**os.environ, 'AMQP_URL': rabbit.node.url(vhost), 'PYTHONPATH': str(Path(gamqp.__file__).parents[1])},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert table(done.stdout) == {'messages': 20_000, "broker's count": 1_000, 'lost': 0, 'duplicated': 0}
        # The broker's statistics come in with a delay.
        greens.wait_until(lambda: counters(rabbit, vhost) == (20_000, 20_000, 20_000), timeout=60, what='20,000 each')
    finally:
        rabbit.node.delete_vhost(vhost)


def table(text: str) -> dict[str, int]:
    """The whole numbers of the closing table that do not depend on the machine's speed."""
    rows = re.findall(r"^(messages|broker's count|lost|duplicated) +([\d,]+)", text, re.MULTILINE)
    return {name: int(number.replace(',', '')) for name, number in rows}


def counters(rabbit, vhost):
    """(published, confirmed, acked by consumers) in this virtual host."""
    statistics = rabbit.node.api(f'vhosts/{vhost}').get('message_stats') or {}
    return statistics.get('publish'), statistics.get('confirm'), statistics.get('ack')
