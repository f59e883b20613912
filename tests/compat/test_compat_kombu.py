"""kombu on gamqp: its own pyamqp transport, unmodified, by install_as_amqp, and the transport ``gamqp.kombu``.

Against real brokers. One process per broker and way runs all scenarios of ``programs/kombu_on_gamqp.py``; a
test here is one of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import greenlets
import pytest
import scenarios
from installed import is_installed

PROGRAM = Path(__file__).parent / 'programs' / 'kombu_on_gamqp.py'
WAYS = (
    greenlets.GREEN,
    pytest.param(f'{greenlets.GREEN}-transport', marks=pytest.mark.slow),
    pytest.param(f'{greenlets.GREEN}-patched', marks=pytest.mark.slow),
)

pytestmark = [
    pytest.mark.skipif(not is_installed('kombu'), reason='kombu is not installed'),
    pytest.mark.limit(scenarios.PATIENCE + 20),
]


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('scenario', scenarios.names_in(PROGRAM))
def test_kombu(rabbit: Any, way: str, scenario: str) -> None:
    if not rabbit.managed:
        pytest.skip('the broker has no management API, by which connections are closed')
    scenarios.check(PROGRAM, scenario, way, rabbit.url, rabbit.vhost)
