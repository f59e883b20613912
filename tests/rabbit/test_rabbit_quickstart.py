"""examples/quickstart.py, run as a user runs it: its table is true by what went over the wire."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import greenlets
import pytest
import stream_checker

import gamqp

QUICKSTART = Path(__file__).parents[2] / 'examples' / 'quickstart.py'


@pytest.mark.slow
@pytest.mark.limit(180)
@pytest.mark.skipif(greenlets.GREEN != 'gevent', reason='the example is written for gevent')
def test_the_numbers_it_prints_are_those_of_the_wire(rabbit, proxy):
    done = subprocess.run(
        [sys.executable, str(QUICKSTART)],
        env={**os.environ, 'AMQP_URL': proxy.url(rabbit), 'PYTHONPATH': str(Path(gamqp.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert table(done.stdout) == {'messages': 20_000, "broker's count": 1_000, 'lost': 0, 'duplicated': 0}
    sent = sum((stream.methods for stream in proxy.streams), Counter())
    assert sent[stream_checker.PUBLISH] == 20_000
    assert sum(len(tags) for stream in proxy.streams for tags in stream.acked.values()) == 20_000
    assert 0 < sent[stream_checker.ACK] <= 20_000


def table(text: str) -> dict[str, int]:
    """The whole numbers of the closing table that do not depend on the machine's speed."""
    rows = re.findall(r"^(messages|broker's count|lost|duplicated) +([\d,]+)", text, re.MULTILINE)
    return {name: int(number.replace(',', '')) for name, number in rows}
