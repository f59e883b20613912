"""Checks and conversions that encoding a message seldom needs: odd strings and integers, decimals, datetimes.

Layer 0. Not compiled: nearly all values have exactly the type that ``write`` looks for first, and do not come here.
Does not belong here: writing bytes. No call switches greenlets.
"""

from __future__ import annotations

import operator
from calendar import timegm
from datetime import datetime
from decimal import Decimal
from typing import Any

from .. import exceptions

__all__ = ('SURROGATE', 'decimal_parts', 'int_between', 'kind_of', 'octets_of', 'seconds_of', 'within')

#: The text of the error for a str that UTF-8 cannot encode.
SURROGATE = 'text has no UTF-8 form (it holds a lone surrogate)'


def within(place: str, exc: exceptions.EncodeError) -> exceptions.EncodeError:
    """The same error with the place, one level further out, in front of its text."""
    text = exc.reply_text or ''
    return exceptions.EncodeError(f'{place}{"" if text.startswith("[") else ": "}{text}')


def kind_of(value: Any) -> str:
    """The type of a value, for an error's text."""
    return type(value).__name__


def int_between(value: Any, low: int, high: int) -> int:
    """*value* as an int; EncodeError if it is no integer, a bool, or not between *low* and *high*."""
    try:
        if isinstance(value, bool):  # probably meant for another argument
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise exceptions.EncodeError(f'expected an integer, got {kind_of(value)}') from None
    if number < low or number > high:
        # A very long number is not converted to digits: that takes time that grows with the square of its length.
        shown = str(number) if number.bit_length() < 128 else f'of {number.bit_length()} bits'
        raise exceptions.EncodeError(f'integer {shown} is outside of {low} to {high}')
    return number


def octets_of(value: Any) -> bytes:
    """The bytes of a string argument whose type is not exactly str."""
    try:
        if value is None:
            return b''
        if isinstance(value, str):
            return str.encode(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
    except UnicodeEncodeError:
        raise exceptions.EncodeError(SURROGATE) from None
    except ValueError as exc:  # a released memoryview
        raise exceptions.EncodeError(str(exc)) from None
    raise exceptions.EncodeError(f'expected str or bytes, got {kind_of(value)}')


def seconds_of(value: datetime) -> int:
    """Seconds since 1970; a datetime without a zone is taken as UTC. EncodeError if UTC cannot express it."""
    try:
        return timegm(value.utctimetuple())
    except OverflowError:
        raise exceptions.EncodeError('datetime is out of range in UTC') from None


def decimal_parts(value: Decimal) -> tuple[int, int]:
    """(scale, number without the point) of a Decimal. EncodeError if AMQP's decimal type cannot hold it."""
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise exceptions.EncodeError(f'Decimal {value} is not a number that AMQP has')
    scale = max(-exponent, 0)
    # Checked before the number is computed: Decimal('1e999999') is short to write and takes long to multiply out.
    if scale > 255 or len(digits) > 10 or (exponent > 10 and any(digits)):
        raise exceptions.EncodeError('Decimal does not fit 32 bits and a scale of 0 to 255')
    unscaled = int(''.join(map(str, digits))) * 10 ** (max(exponent, 0) if any(digits) else 0)
    return scale, int_between(-unscaled if sign else unscaled, -0x8000_0000, 0x7FFF_FFFF)
