"""Seconds as texts for logs and errors. A pure function. Does not belong here: clocks."""

from __future__ import annotations

__all__ = ('in_seconds',)


def in_seconds(number: float | None) -> str:
    """'30 s', '0.15 s'; '2 s' also for 1.9999 seconds, which are left of two; None is no limit."""
    if number is None:
        return 'any time'
    # Three digits hide that a clock has moved on a little since the limit was set. A limit below 10 ms needs more, or
    # it would be shown as 0 or 0.001.
    digits = 3 if number >= 0.01 else 6
    # 'g' drops zeros at the end. With its usual six digits it would write 1234567 as 1.23457e+06.
    return f'{round(number, digits):.10g} s'
