# cython: language_level=3, annotation_typing=False
"""Decodes values: a Reader reads them one after the other from one payload.

Layer 0. Malformed input raises FrameSyntaxError and nothing else. Every access to the bytes passes one bounds check,
``Reader._take``. No call switches greenlets. Does not belong here: frames, methods, what values mean.

The type letters of field values follow RabbitMQ's errata: 's' is a signed 16-bit integer, not a short string.
Both 'l' and 'L' are signed 64-bit integers. By AMQP's letters 'L' would be unsigned, but RabbitMQ, py-amqp
and pika read it as signed, and py-amqp writes negative numbers as 'L'. Text that is not UTF-8 is returned
as bytes: a header that another client has encoded wrongly must not end the connection.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from struct import Struct
from typing import TYPE_CHECKING, Any

from .. import exceptions
from .timestamp import Timestamp

if TYPE_CHECKING:
    import cython
else:
    from ._cython_shim import cython

__all__ = ('COMPILED', 'MAX_DEPTH', 'Reader')

COMPILED: bool = cython.compiled

#: How deep tables and arrays may be nested. Real headers need 3 levels (x-death: table, array, table).
#: Without a limit a hostile payload of nested arrays (5 bytes a level) would overflow the C stack, which
#: in a greenlet crashes the process and raises no RecursionError.
MAX_DEPTH = 64
_MAX_DEPTH = MAX_DEPTH

# The compiler would take annotations of these types for C types that contradict the .pxd.
_int = int

_U16 = Struct('>H')
_U32 = Struct('>I')
_U64 = Struct('>Q')
_F32 = Struct('>f')
_F64 = Struct('>d')

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# 9999-12-31 23:59:59, the last second that a datetime can name.
_LAST_SECOND = 253402300799


class Reader:
    """Reads AMQP values one after the other from *data*, starting at *offset*."""

    __slots__ = ('_bit', '_bit_end', '_bits', '_data', '_end', '_p', '_pos')

    def __init__(self, data: bytes, offset: _int = 0) -> None:
        if offset < 0 or offset > len(data):
            raise exceptions.FrameSyntaxError(f'offset {offset} is outside of a payload of {len(data)} bytes')
        self._data = data
        self._pos = offset
        self._end = len(data)
        self._bits = 0  # the octet before _bit_end, of which _bit bits are used
        self._bit = 8
        self._bit_end = 0
        if cython.compiled:
            self._p = data

    @property
    def offset(self) -> int:
        """Where the next value begins."""
        return self._pos

    def __repr__(self) -> str:
        return f'<Reader at {self._pos} of {self._end}>'

    def _take(self, n: _int) -> int:
        """Step over the next *n* bytes and return where they begin. This is the only bounds check."""
        at = self._pos
        if n < 0 or n > self._end - at:
            raise self._short_of(n)
        self._pos = at + n
        return at

    def _short_of(self, n: _int) -> Exception:
        return exceptions.FrameSyntaxError(
            f'value at offset {self._pos} needs {n} bytes, {self._end - self._pos} are there'
        )

    def u8(self) -> int:
        """octet"""
        at = self._take(1)
        if cython.compiled:
            return self._p[at]
        return self._data[at]

    def u16(self) -> int:
        """short"""
        at = self._take(2)
        if cython.compiled:
            return (self._p[at] << 8) | self._p[at + 1]
        number: int = _U16.unpack_from(self._data, at)[0]
        return number

    def u32(self) -> int:
        """long"""
        at = self._take(4)
        if cython.compiled:
            top = self._p[at]
            return (top << 24) | (self._p[at + 1] << 16) | (self._p[at + 2] << 8) | self._p[at + 3]
        number: int = _U32.unpack_from(self._data, at)[0]
        return number

    def u64(self) -> int:
        """longlong"""
        at = self._take(8)
        if cython.compiled:
            self._pos = at  # the bounds are checked; now read it in two halves
            high = self.u32()
            return (high << 32) | self.u32()
        number: int = _U64.unpack_from(self._data, at)[0]
        return number

    def raw(self, n: _int) -> bytes:
        """The next *n* bytes as they are."""
        at = self._take(n)
        if cython.compiled:
            return self._p[at : at + n]
        return self._data[at : at + n]

    def bit(self) -> bool:
        """One bit. Bits that are read one after the other come from the same octet, the lowest bit first."""
        if self._bit == 8 or self._bit_end != self._pos:
            self._bits = self.u8()
            self._bit_end = self._pos
            self._bit = 0
        value = (self._bits >> self._bit) & 1
        self._bit += 1
        return value == 1

    def shortstr(self) -> str | bytes:
        """Text of at most 255 bytes; bytes where it is not UTF-8."""
        return self._text(self.u8())

    def longstr(self) -> str | bytes:
        """Text of any length; bytes where it is not UTF-8."""
        return self._text(self.u32())

    def _text(self, n: _int) -> str | bytes:
        at = self._take(n)
        try:
            if cython.compiled:
                return self._p[at : at + n].decode('utf-8')
            return self._data[at : at + n].decode('utf-8')
        except UnicodeDecodeError:
            return self._data[at : at + n]

    def f32(self) -> float:
        """float"""
        value: float = _F32.unpack(self.raw(4))[0]
        return value

    def f64(self) -> float:
        """double"""
        value: float = _F64.unpack(self.raw(8))[0]
        return value

    def timestamp(self) -> datetime | int:
        """An aware datetime in UTC; a Timestamp, which is an int, from year 10000 on."""
        seconds = self.u64()
        if seconds > _LAST_SECOND:
            return Timestamp(seconds)
        return _EPOCH + timedelta(seconds=seconds)

    def decimal(self) -> Decimal:
        """Scale and signed 32-bit number; the scale is kept (1.50 stays 1.50)."""
        scale = self.u8()
        unscaled = _signed(self.u32(), 32)
        # Made from digits, since arithmetic would round by the decimal context that the program has set.
        return Decimal((unscaled < 0, tuple(map(int, str(abs(unscaled)))), -scale))

    def table(self) -> dict[Any, Any]:
        """Field table; a key that occurs twice keeps its last value."""
        return self._table(1)

    def array(self) -> list[Any]:
        """Field array."""
        return self._array(1)

    def _table(self, depth: _int) -> dict[Any, Any]:
        outer = self._enter(depth)
        values: dict[Any, Any] = {}
        while self._pos < self._end:
            key = self.shortstr()
            values[key] = self._field(depth)
        self._end = outer
        return values

    def _array(self, depth: _int) -> list[Any]:
        outer = self._enter(depth)
        values: list[Any] = []
        while self._pos < self._end:
            values.append(self._field(depth))
        self._end = outer
        return values

    def _enter(self, depth: _int) -> int:
        """Limit reading to the table or array that begins here. Returns the end to restore.

        After an error the Reader is not used any more, so the end is not restored then.
        """
        if depth > _MAX_DEPTH:
            raise exceptions.FrameSyntaxError(f'tables nested deeper than {_MAX_DEPTH} levels')
        size = self.u32()
        start = self._take(size)
        outer = self._end
        self._end = self._pos
        self._pos = start
        return outer

    def _field(self, depth: _int) -> Any:
        """One value with its type letter. The most frequent letters come first."""
        tag = self.u8()
        if tag == 0x53:  # S
            return self.longstr()
        if tag == 0x49:  # I
            return _signed(self.u32(), 32)
        if tag == 0x74:  # t
            return self.u8() != 0
        if tag == 0x56:  # V
            return None
        if tag == 0x6C:  # l
            return _signed(self.u64(), 64)
        if tag == 0x46:  # F
            return self._table(depth + 1)
        if tag == 0x41:  # A
            return self._array(depth + 1)
        if tag == 0x54:  # T
            return self.timestamp()
        return self._rare_field(tag)

    def _rare_field(self, tag: _int) -> Any:
        if tag == 0x64:  # d
            return self.f64()
        if tag == 0x44:  # D
            return self.decimal()
        if tag == 0x78:  # x
            return self.raw(self.u32())
        if tag == 0x4C:  # L
            return _signed(self.u64(), 64)
        if tag == 0x62:  # b
            return _signed(self.u8(), 8)
        if tag == 0x42:  # B
            return self.u8()
        if tag == 0x73 or tag == 0x55:  # s, U
            return _signed(self.u16(), 16)
        if tag == 0x75:  # u
            return self.u16()
        if tag == 0x69:  # i
            return self.u32()
        if tag == 0x66:  # f
            return self.f32()
        raise exceptions.FrameSyntaxError(f'unknown type {chr(tag)!r} of a field value at offset {self._pos - 1}')


def _signed(value: _int, width: _int) -> int:
    """An unsigned number of *width* bits as two's complement."""
    half = 1  # shifted in place, so that the compiled code shifts a 64-bit number
    half <<= width - 1
    return (value ^ half) - half
