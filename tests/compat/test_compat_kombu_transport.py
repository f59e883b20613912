"""The transport ``gamqp.kombu:Transport``: what it does differently from kombu's own, patched and not patched.

What it has in common with that one is in ``test_compat_kombu.py``. Each program is a process of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import greenlets
import pytest
import scenarios
from installed import is_installed

PROGRAMS = Path(__file__).parent / 'programs'
PATCHED = PROGRAMS / 'kombu_transport.py'
UNPATCHED = PROGRAMS / 'kombu_unpatched.py'

pytestmark = [
    pytest.mark.skipif(not is_installed('kombu'), reason='kombu is not installed'),
    pytest.mark.limit(scenarios.PATIENCE + 20),
]


@pytest.mark.parametrize('scenario', scenarios.names_in(PATCHED))
def test_the_transport(rabbit: Any, scenario: str) -> None:
    if not rabbit.managed:
        pytest.skip('the broker has no management API, by which connections are closed')
    scenarios.check(PATCHED, scenario, greenlets.GREEN, rabbit.url, rabbit.vhost)


@pytest.mark.skipif(greenlets.GREEN != 'gevent', reason='nothing is patched: once is enough')
@pytest.mark.parametrize('scenario', scenarios.names_in(UNPATCHED))
def test_the_transport_without_greenlets(rabbit: Any, scenario: str) -> None:
    scenarios.check(UNPATCHED, scenario, rabbit.url, rabbit.vhost)
