"""Seconds as texts for logs and errors. A pure function. Does not belong here: clocks."""

from __future__ import annotations

__all__ = ('in_seconds',)


def in_seconds(number: float | None) -> str:
    """'30 s', '0.15 s'; '2 s' also for 1.9999 seconds, which are left of two; None is no limit."""
    if number is None:
        return 'any time'
    digits = 3 if number >= 0.01 else 6
    return f'{round(number, digits):.10g} s'
