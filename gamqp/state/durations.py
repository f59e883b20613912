"""Seconds as texts for people.

Pure functions, no clock.
"""

from __future__ import annotations

__all__ = ('in_seconds',)


def in_seconds(number: float | None) -> str:
    """'2 s' for what is left of two seconds after some microseconds, '0.15 s', '30 s'; None is no limit."""
    if number is None:
        return 'any time'
    digits = 3 if number >= 0.01 else 6
    return f'{round(number, digits):.10g} s'
