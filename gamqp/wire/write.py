# cython: language_level=3, annotation_typing=False
"""Encodes values: an Encoder appends them to a buffer of its own.

Layer 0. A value that cannot be sent raises EncodeError that names the place (``['x']['y'][3]: …``), and nothing else.
No call switches greenlets. But a Mapping of the user may run any code, so an Encoder is used for one encoding only.
The primitives (u8 … u64, raw) take numbers that are known to fit; ``ranged`` checks those of users.
Does not belong here: methods, and what values mean; of frames only where their size stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from math import isfinite
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Any

from .. import exceptions
from . import spec
from .read import MAX_DEPTH
from .timestamp import Timestamp
from .value_checks import SURROGATE, decimal_parts, int_between, kind_of, octets_of, seconds_of, within

# pyright: reportMissingImports=false
if TYPE_CHECKING:
    import cython
    from cython.cimports.cpython.bytearray import PyByteArray_FromStringAndSize, PyByteArray_Resize
    from cython.cimports.libc.string import memcpy
else:
    from ._cython_shim import cython

__all__ = ('COMPILED', 'Encoder', 'ranged')

COMPILED: bool = cython.compiled

_HEAD_SIZE = 7
_OVERHEAD = spec.FRAME_OVERHEAD
_FRAME_END = spec.FRAME_END

# Values are not nested deeper than the Reader accepts. This also ends a dict that contains itself.
_MAX_DEPTH = MAX_DEPTH
_ROOM = 256  # bytes; most methods and properties fit without growing
_MAX_LONG = 0xFFFF_FFFF

# The compiler would take annotations of these types for C types that contradict the .pxd.
_int = int
_bool = bool

_HEAD = Struct('>BHI')
_U16 = Struct('>H')
_U32 = Struct('>I')
_U64 = Struct('>Q')
_F32 = Struct('>f')
_F64 = Struct('>d')


class Encoder:
    """Appends AMQP values to a buffer of its own. room: the bytes of the buffer at first."""

    __slots__ = ('_bit', '_bit_end', '_buf', '_len', '_p', '_room')

    def __init__(self, room: _int = _ROOM) -> None:
        self._len = 0
        self._bit = 8  # how many bits of the octet before _bit_end are used
        self._bit_end = 0
        if cython.compiled:
            self._buf = PyByteArray_FromStringAndSize(cython.NULL, room)
            self._p = self._buf
            self._room = room
        else:
            self._buf = bytearray()

    def __len__(self) -> int:
        return self.tell()

    def __repr__(self) -> str:
        return f'<Encoder with {self.tell()} bytes>'

    def getvalue(self) -> bytes:
        """A copy of the bytes that were written."""
        if cython.compiled:
            return self._p[: self._len]  # type: ignore[no-any-return]
        return bytes(self._buf)

    def detach(self) -> bytearray:
        """The buffer itself, not copied. The Encoder must not be used afterwards."""
        if cython.compiled:
            PyByteArray_Resize(self._buf, self._len)
        return self._buf  # type: ignore[no-any-return]

    # The primitives: the two builds differ only here. The numbers must be known to fit.

    def tell(self) -> int:
        """How many bytes were written, which is the place of the next one."""
        if cython.compiled:
            return self._len
        return len(self._buf)

    def u8(self, value: _int) -> None:
        """octet"""
        if cython.compiled:
            self._p[self._claim(1)] = value
        else:
            self._buf.append(value)

    def u16(self, value: _int) -> None:
        """short"""
        if cython.compiled:
            self.patch_u16(self._claim(2), value)
        else:
            self._buf += _U16.pack(value)

    def u32(self, value: _int) -> None:
        """long"""
        if cython.compiled:
            self.patch_u32(self._claim(4), value)
        else:
            self._buf += _U32.pack(value)

    def u64(self, value: _int) -> None:
        """longlong"""
        if cython.compiled:
            self.u32(value >> 32)
            self.u32(value & 0xFFFF_FFFF)
        else:
            self._buf += _U64.pack(value)

    def patch_u16(self, at: _int, value: _int) -> None:
        """Write a number at a place that was left free for it."""
        if cython.compiled:
            self._p[at] = (value >> 8) & 0xFF
            self._p[at + 1] = value & 0xFF
        else:
            _U16.pack_into(self._buf, at, value)

    def patch_u32(self, at: _int, value: _int) -> None:
        """Write a number at a place that was left free for it."""
        if cython.compiled:
            self._p[at] = value >> 24
            self._p[at + 1] = (value >> 16) & 0xFF
            self._p[at + 2] = (value >> 8) & 0xFF
            self._p[at + 3] = value & 0xFF
        else:
            _U32.pack_into(self._buf, at, value)

    def raw(self, value: bytes) -> None:
        """Bytes as they are, without a length."""
        self.part(value, 0, len(value))

    def part(self, value: bytes, at: _int, n: _int) -> None:
        """*n* of the bytes, from *at* on; the caller has checked that there are so many."""
        if cython.compiled:
            source: Any = value  # compiled: a pointer to the bytes
            start = self._claim(n)
            memcpy(self._p + start, source + at, n)  # pyright: ignore[reportOperatorIssue]
        elif n == len(value):
            self._buf += value
        else:
            self._buf += memoryview(value)[at : at + n]

    def bit(self, value: _bool) -> None:
        """One bit. Bits that are written one after the other share octets, the lowest bit first."""
        at = self._bit
        if at == 8 or self._bit_end != self.tell():
            self.u8(0)
            self._bit_end = self.tell()
            at = 0
        if value:
            last = self._bit_end - 1
            if cython.compiled:
                self._p[last] |= 1 << at
            else:
                self._buf[last] |= 1 << at
        self._bit = at + 1

    def begin_frame(self, kind: _int, channel_id: _int) -> int:
        """The head of a frame; ``end_frame`` fills in the size. Returns the place of the head."""
        at = self.tell()
        if cython.compiled:
            self.u8(kind)
            self.u16(channel_id)
            self.u32(0)
        else:
            self._buf += _HEAD.pack(kind, channel_id, 0)
        return at

    def end_frame(self, at: _int, frame_max: _int, what: str) -> None:
        """End the frame that began at *at*. EncodeError if it is larger than *frame_max* (0: no limit)."""
        size = self.tell() - at - _HEAD_SIZE
        if frame_max and size + _OVERHEAD > frame_max:
            raise exceptions.EncodeError(
                f'{what}: frame of {size + _OVERHEAD} bytes, the connection allows {frame_max}'
            )
        self.patch_u32(at + 3, size)
        self.u8(_FRAME_END)

    def _claim(self, n: _int) -> int:
        """Make room for *n* more bytes and return their place; compiled only."""
        at = self._len
        if n > self._room - at:
            self._room += max(self._room, n)  # at least twice as much, so that appending takes linear time
            PyByteArray_Resize(self._buf, self._room)
            self._p = self._buf
        self._len = at + n
        return at

    # Values of users.

    def shortstr(self, value: Any) -> None:
        """str as UTF-8, or bytes, at most 255 of them; None is the empty string."""
        if type(value) is str:  # nearly always, hence without a call
            try:
                text = value
                octets = text.encode()
            except UnicodeEncodeError:
                raise exceptions.EncodeError(SURROGATE) from None
        else:
            octets = octets_of(value)
        n = len(octets)
        if n > 255:
            raise exceptions.EncodeError(f'short string of {n} bytes, the protocol allows 255')
        if cython.compiled:
            self.u8(n)
            self.part(octets, 0, n)
        else:
            self._buf.append(n)
            self._buf += octets

    def longstr(self, value: Any) -> None:
        """str as UTF-8, or bytes; None is the empty string."""
        if type(value) is str:  # nearly always, hence without a call
            try:
                text = value
                octets = text.encode()
            except UnicodeEncodeError:
                raise exceptions.EncodeError(SURROGATE) from None
        else:
            octets = octets_of(value)
        n = len(octets)
        if n > _MAX_LONG:
            raise exceptions.EncodeError(f'long string of {n} bytes, the protocol allows {_MAX_LONG}')
        if cython.compiled:
            self.u32(n)
            self.part(octets, 0, n)
        else:
            self._buf += _U32.pack(n)
            self._buf += octets

    def timestamp(self, value: Any) -> None:
        """datetime (without a zone it is taken as UTC, as in py-amqp), or seconds since 1970."""
        if isinstance(value, datetime):
            value = seconds_of(value)
        self.u64(ranged(value, 0, 0xFFFF_FFFF_FFFF_FFFF))

    def f32(self, value: Any) -> None:
        """float"""
        try:
            self.raw(_F32.pack(value))
        except (StructError, OverflowError, TypeError):
            raise exceptions.EncodeError(f'{kind_of(value)} does not fit a 32-bit float') from None

    def table(self, value: Any) -> None:
        """Mapping of str (or bytes) to field values; None is the empty table."""
        self._table(value, 1)

    def array(self, value: Any) -> None:
        """list or tuple of field values; None is the empty array."""
        self._array(() if value is None else value, 1)

    def _table(self, value: Any, depth: _int) -> None:
        if value is None:
            value = {}
        at = self._open(depth)
        if type(value) is not dict and not isinstance(value, Mapping):
            raise exceptions.EncodeError(f'expected a table (a mapping), got {kind_of(value)}')
        key: Any = None
        try:
            for key, item in value.items():
                if not isinstance(key, (str, bytes)):
                    raise exceptions.EncodeError(f'a key must be str, not {kind_of(key)}')
                self.shortstr(key)
                self._field(item, depth)
        except exceptions.EncodeError as exc:
            raise within(f'[{repr(key)[:80]}]', exc) from None
        self._close(at)

    def _array(self, value: Any, depth: _int) -> None:
        at = self._open(depth)
        if not isinstance(value, (list, tuple)):
            raise exceptions.EncodeError(f'expected an array (list or tuple), got {kind_of(value)}')
        index = 0
        try:
            for item in value:
                self._field(item, depth)
                index += 1
        except exceptions.EncodeError as exc:
            raise within(f'[{index}]', exc) from None
        self._close(at)

    def _open(self, depth: _int) -> int:
        """Begin a table or array: leave room for its length, and return that place."""
        if depth > _MAX_DEPTH:
            raise exceptions.EncodeError(f'nested deeper than {_MAX_DEPTH} levels, or contains itself')
        at = self.tell()
        self.u32(0)
        return at

    def _close(self, at: _int) -> None:
        size = self.tell() - at - 4
        if size > _MAX_LONG:
            raise exceptions.EncodeError(f'table of {size} bytes, the protocol allows {_MAX_LONG}')
        self.patch_u32(at, size)

    def _field(self, value: Any, depth: _int) -> None:
        """One value with its type letter. Exact types come first, since nearly every value has one of them."""
        kind = type(value)
        if kind is str:
            self.u8(0x53)  # S
            self.longstr(value)
        elif value is None:
            self.u8(0x56)  # V
        elif kind is bool:
            self.u8(0x74)  # t
            self.u8(1 if value else 0)
        elif kind is int:
            self._integer(value)
        elif kind is dict:
            self.u8(0x46)  # F
            self._table(value, depth + 1)
        elif kind is list:
            self.u8(0x41)  # A
            self._array(value, depth + 1)
        else:
            self._rare_field(value, depth)

    def _rare_field(self, value: Any, depth: _int) -> None:
        if isinstance(value, float):
            if not isfinite(value):
                # They could be encoded, but RabbitMQ answers with error 541 and closes the connection.
                raise exceptions.EncodeError(f'{value} is not a number that AMQP has')
            self.u8(0x64)  # d
            self.raw(_F64.pack(value))
        elif isinstance(value, (datetime, Timestamp)):
            self.u8(0x54)  # T
            self.timestamp(value)
        elif isinstance(value, Decimal):
            self._decimal(value)
        elif isinstance(value, (bytes, bytearray, memoryview)):
            self.u8(0x78)  # x
            self.longstr(value)
        elif isinstance(value, str):
            self.u8(0x53)  # S
            self.longstr(value)
        elif isinstance(value, int):
            self._integer(int(value))
        elif isinstance(value, (list, tuple)):
            self.u8(0x41)  # A
            self._array(value, depth + 1)
        elif isinstance(value, Mapping):
            self.u8(0x46)  # F
            self._table(value, depth + 1)
        else:
            raise exceptions.EncodeError(f'{kind_of(value)} has no AMQP type')

    def _integer(self, value: Any) -> None:
        """As a signed integer of 32 bits if it fits, else of 64 bits."""
        if -0x8000_0000 <= value <= 0x7FFF_FFFF:
            number = value
            self.u8(0x49)  # I
            self.u32(number & 0xFFFF_FFFF)
        else:
            # No unsigned type is used: 'L' is one by AMQP's letters, but RabbitMQ and its clients read it as signed.
            number = ranged(value, -0x8000_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF)
            self.u8(0x6C)  # l
            self.u64(number & 0xFFFF_FFFF_FFFF_FFFF)

    def _decimal(self, value: Decimal) -> None:
        scale, number = decimal_parts(value)
        self.u8(0x44)  # D
        self.u8(scale)
        self.u32(number & 0xFFFF_FFFF)


def ranged(value: Any, low: Any, high: Any) -> Any:
    """*value* as an int between *low* and *high*, or EncodeError."""
    if type(value) is int and low <= value <= high:
        return value
    return int_between(value, low, high)
