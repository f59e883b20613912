"""Checks of arguments that a program passes: numbers, texts, callables; and of misspelt names.

Pure functions. Each takes the argument's name and its value, and returns the value
to use. It raises TypeError for a wrong type and ValueError for a number out of range; the text
has the argument's name. Call them at the beginning of a call, before anything is changed or sent.
An error shows the value only where that cannot be a secret.
Does not belong here: what a particular argument means (``connection_settings``).
"""

from __future__ import annotations

import difflib
import math
import numbers
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = (
    'LONGEST',
    'Check',
    'callable_or_none',
    'flag',
    'given_timeout',
    'nearest',
    'number',
    'one_of',
    'optional_timeout',
    'seconds',
    'text',
    'whole',
)

#: A check: takes the argument's name and value, returns the value to use.
Check = Callable[[str, Any], Any]

# Seconds (31 years). Clocks and timers cannot add much larger numbers exactly.
LONGEST = 1e9

# The most characters of a value that an error shows.
SHOWN = 60

# Stands for an argument that was left out where None is a value that a program may pass.
_NO = object()


def given_timeout(name: str, value: object) -> float:
    """Seconds from 0 on for one wait; the caller has handled None before. math.inf is no limit."""
    # Infinity goes past the check, which refuses everything above LONGEST.
    return math.inf if value == math.inf else _checked_seconds(name, value, zero=True)


def optional_timeout(name: str, value: object) -> float | None:
    """Seconds from 0 on for one wait, or None for no limit."""
    return None if value is None else given_timeout(name, value)


def seconds(*, zero: bool = False, none: Any = _NO, zero_is: Any = _NO, most: float = LONGEST) -> Check:
    """More than 0 seconds, or with *zero* from 0 on. none, zero_is: the values to use for None and 0, if allowed."""

    def check(name: str, value: object) -> Any:
        if value is None and none is not _NO:
            return none
        # A meaning for 0 makes 0 a valid value, so the check must accept it.
        checked = _checked_seconds(name, value, zero or zero_is is not _NO, most)
        return zero_is if checked == 0 and zero_is is not _NO else checked

    return check


def _checked_seconds(name: str, value: Any, zero: bool, most: float = LONGEST) -> Any:
    # int and float first: isinstance with a class of ``numbers`` takes much longer, and nearly each wait comes here. A
    # bool is a number for Python, and as seconds a mistake.
    kind = value.__class__
    if kind is not float and kind is not int and (kind is bool or not isinstance(value, numbers.Real)):
        raise TypeError(f'{name}: a number of seconds is wanted, not {shown(value)}')
    amount: Any = value  # type checkers know of no order among numbers.Real
    # Every comparison with NaN is False, so this refuses NaN, too.
    if not (0 <= amount <= most if zero else 0 < amount <= most):
        least = 'seconds from 0' if zero else 'more than 0 seconds,'
        raise ValueError(f'{name}: {least} up to {most:g} are wanted, not {shown(value)}')
    return value


def number(name: str, value: object) -> Any:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f'{name}: a number is wanted, not {shown(value)}')
    # Every comparison with NaN is False, so a test by the caller would not notice it.
    if not math.isfinite(value):
        raise ValueError(f'{name}: a finite number is wanted, not {shown(value)}')
    return value


def whole(least: int, most: int | None = None, *, none: Any = _NO, zero: str = '') -> Check:
    """A whole number. none: the value to use for None, if allowed. zero: if 0 is allowed, its meaning for the error."""

    def check(name: str, value: object) -> Any:
        if value is None and none is not _NO:
            return none
        # A bool is a whole number for Python. As a count it is a mistake.
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise TypeError(f'{name}: a whole number is wanted, not {shown(value)}')
        # An exact int: whole numbers of other types (numpy) would overflow in later arithmetic.
        number = operator.index(value)
        if (most is not None and number > most) or (number < least and not (zero and number == 0)):
            span = f'from {least} up' if most is None else f'from {least} to {most}'
            hint = f', or 0, {zero},' if zero else ''
            raise ValueError(f'{name}: a whole number {span}{hint} is wanted, not {shown(value)}')
        return number

    return check


def flag(name: str, value: object) -> bool:
    """True or False, also as 1, 0 and None. A text is refused, since 'false' would be true."""
    # A bool is one of these whole numbers. 2 is refused, since it was probably meant for another argument.
    if value is None or (isinstance(value, numbers.Integral) and value in (0, 1)):
        return bool(value)
    raise TypeError(f'{name}: True or False is wanted, not {shown(value)}')


def text(name: str, value: object, secret: bool = False) -> str:
    """A str."""
    if not isinstance(value, str):
        # Errors are logged, so of a secret only the type is shown.
        raise TypeError(f'{name}: a str is wanted, not {type(value).__name__ if secret else shown(value)}')
    return value


def callable_or_none(name: str, value: object) -> Any:
    if value is not None and not callable(value):
        raise TypeError(f'{name}: a callable is wanted, or None, not {shown(value)}')
    return value


def one_of(*choices: str) -> Check:
    def check(name: str, value: object) -> Any:
        # A tuple and no set: a value without a hash gets this error, too.
        if value not in choices:
            raise ValueError(f'{name}: one of {", ".join(choices)}, not {value!r}')
        return value

    return check


def shown(value: object) -> str:
    """The value for an error: shortened, and marked as a text if it is one."""
    written = repr(value)
    # The value may be a message body, or a dict with thousands of entries.
    if len(written) > SHOWN:
        written = f'{written[: SHOWN - 1]}…'
    # '5' and 5 differ by their quotes alone, which a reader of the error overlooks.
    return f'the text {written}' if isinstance(value, (str, bytes)) else written


def nearest(name: str, known: Iterable[str], synonyms: Mapping[str, str], cutoff: float = 0.6) -> str | None:
    """What to write instead of an unknown argument's name; None if no name is similar."""
    # A synonym is certain, and similarity is a guess that may lead to another argument.
    said = synonyms.get(name.lower())
    if said is not None:
        return said
    found = difflib.get_close_matches(name.lower(), list(known), 1, cutoff)
    return found[0] if found else None
