"""The settings by which a lost connection is opened again: what each takes."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gamqp import Recovery
from gamqp.state.recovery_settings import recovery_or_none


@pytest.mark.parametrize(
    ('name', 'value', 'error'),
    [
        ('first_delay', -1, ValueError),
        ('first_delay', (2, 1), ValueError),
        ('first_delay', (1, 2, 3), ValueError),
        ('first_delay', '1', TypeError),
        ('delay', 0, ValueError),
        ('delay', math.nan, ValueError),
        ('max_delay', '30', TypeError),
        ('attempts', 0, ValueError),
        ('attempts', 1.5, TypeError),
        ('give_up_after', 0, ValueError),
        ('stable_after', None, TypeError),
        ('topology', 'some', ValueError),
        ('keep', 5, TypeError),
        ('on_record_error', 'skip', TypeError),
        ('cancelled', 'restart', ValueError),
        ('while_down', True, ValueError),
        ('republish', 'some', ValueError),
        ('locked_timeout', -1, ValueError),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_name(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f'^{name}: '):
        Recovery(**{name: value})


def test_the_argument_of_a_connection() -> None:
    own = Recovery(attempts=3)
    assert recovery_or_none('recover', own) is own
    assert recovery_or_none('recover', True) == Recovery()
    assert recovery_or_none('recover', False) is recovery_or_none('recover', None) is None
    for wrong in (1, 'yes', {}, Recovery):
        with pytest.raises(TypeError, match=r'^recover: '):
            recovery_or_none('recover', wrong)
