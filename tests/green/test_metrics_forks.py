"""The metrics hook across a fork: the numbers of the parent's connection are for the parent to tell."""

from __future__ import annotations

from typing import Any

import pytest
from test_programs import every_library, program, successful


@every_library
@pytest.mark.parametrize('when', ['early', 'not'])
def test_a_child_does_not_tell_the_parents_last_numbers(rabbit: Any, library: str, when: str) -> None:
    assert successful(program('forking_metrics.py', library, when, rabbit.url)).split() == ['0', '1']


@every_library
@pytest.mark.parametrize('when', ['early', 'not'])
def test_a_child_tells_prometheus_of_its_own_connections_from_zero(rabbit: Any, library: str, when: str) -> None:
    lines = successful(program('forking_prometheus.py', library, when, rabbit.url)).splitlines()
    assert lines == ['child ended 2 0 0', 'ended parent 4 0 0']
