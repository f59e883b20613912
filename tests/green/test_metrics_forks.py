"""The metrics hook across a fork: the numbers of the parent's connection are for the parent to tell."""

from __future__ import annotations

from typing import Any

import pytest
from test_programs import every_library, program, successful


@every_library
@pytest.mark.parametrize('when', ['early', 'not'])
def test_a_child_does_not_tell_the_parents_last_numbers(rabbit: Any, library: str, when: str) -> None:
    assert successful(program('forking_metrics.py', library, when, rabbit.url)).split() == ['0', '1']
