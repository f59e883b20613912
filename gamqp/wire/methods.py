# cython: language_level=3, annotation_typing=False
"""Encodes and decodes the arguments of methods, and encodes method frames.

Layer 0. Uses the table of methods in ``spec``. Only the methods that are sent for every message (ack, nack, reject)
have code of their own. No call switches greenlets. Does not belong here: content, the state of channels.

Bytes behind the last argument are ignored: a later revision of AMQP may append arguments.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Any

from .. import exceptions
from . import spec
from .read import Reader
from .value_checks import within
from .write import Encoder, ranged

# pyright: reportMissingImports=false
if TYPE_CHECKING:
    import cython
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
else:
    from ._cython_shim import cython

__all__ = (
    'COMPILED',
    'decode_args',
    'dumps',
    'encode_ack',
    'encode_method',
    'encode_nack',
    'encode_reject',
    'loads',
    'write_method',
)

COMPILED: bool = cython.compiled

# The compiler would take annotations of these types for C types that contradict the .pxd.
_int = int
_bool = bool
_Letter = str

_FORMATS: dict[spec.Sig, str] = {
    sig: ''.join(letter for _, letter in method.args) for sig, method in spec.METHODS.items()
}
_ACK = 80
_REJECT = 90
_NACK = 120
_MAX_U64 = 0xFFFF_FFFF_FFFF_FFFF

# type, channel, size, class, method, delivery tag, bits, end
_SETTLE = Struct('>BHIHHQBB')
_SETTLE_SIZE = 13


def decode_args(sig: spec.Sig, payload: bytes, offset: _int) -> tuple[Any, ...]:
    """The arguments of method *sig*, which begin at *offset* of the payload.

    Raises FrameSyntaxError that names the method, InvalidCommand when there is no such method.
    """
    letters = _FORMATS.get(sig)
    if letters is None:
        raise exceptions.InvalidCommand(f'unknown method {sig}', sig)
    try:
        return tuple(_read(letters, Reader(payload, offset)))
    except exceptions.FrameSyntaxError as exc:
        name = spec.METHODS[sig].name
        raise exceptions.FrameSyntaxError(f'malformed {name}: {exc.reply_text}', sig) from None


def encode_method(channel_id: _int, sig: spec.Sig, args: Any, frame_max: _int = 0) -> bytes:
    """One complete method frame; *frame_max* is the limit for its whole size, 0 for none.

    Raises EncodeError that names method and argument.
    """
    writer = Encoder()
    write_method(writer, channel_id, sig, args, frame_max)
    return writer.getvalue()


def write_method(writer: Encoder, channel_id: _int, sig: spec.Sig, args: Any, frame_max: _int) -> None:
    """Append one complete method frame."""
    method = spec.METHODS.get(sig)
    if method is None:
        raise exceptions.EncodeError(f'there is no method {sig}')
    start = writer.begin_frame(spec.FRAME_METHOD, ranged(channel_id, 0, 0xFFFF))
    writer.u16(method.sig[0])
    writer.u16(method.sig[1])
    try:
        _write_args(writer, method.args, args)
    except exceptions.EncodeError as exc:
        raise within(method.name, exc) from None
    writer.end_frame(start, frame_max, method.name)


def encode_ack(channel_id: _int, delivery_tag: _int, multiple: _bool) -> bytes:
    """basic.ack"""
    return _settle(_ACK, channel_id, delivery_tag, 1 if multiple else 0)


def encode_nack(channel_id: _int, delivery_tag: _int, multiple: _bool, requeue: _bool) -> bytes:
    """basic.nack"""
    return _settle(_NACK, channel_id, delivery_tag, (1 if multiple else 0) | (2 if requeue else 0))


def encode_reject(channel_id: _int, delivery_tag: _int, requeue: _bool) -> bytes:
    """basic.reject"""
    return _settle(_REJECT, channel_id, delivery_tag, 1 if requeue else 0)


def _settle(method_id: _int, channel_id: Any, delivery_tag: Any, bits: _int) -> bytes:
    """ack, nack and reject have the same form: a delivery tag and some bits."""
    try:
        if cython.compiled and type(channel_id) is int and type(delivery_tag) is int:
            return _settle_frame(method_id, channel_id, delivery_tag, bits)
        return _SETTLE.pack(1, channel_id, _SETTLE_SIZE, 60, method_id, delivery_tag, bits, 0xCE)
    except (StructError, OverflowError):
        ranged(channel_id, 0, 0xFFFF)
        try:
            ranged(delivery_tag, 0, _MAX_U64)
        except exceptions.EncodeError as exc:
            raise within('delivery_tag', exc) from None
        raise


def _settle_frame(method_id: _int, channel_id: _int, delivery_tag: _int, bits: _int) -> bytes:
    """The same for numbers of C, written into the bytes object itself; compiled only."""
    if channel_id > 0xFFFF:
        raise OverflowError
    frame = PyBytes_FromStringAndSize(cython.NULL, 21)
    p: Any = PyBytes_AS_STRING(frame)
    p[0] = 1
    p[1] = channel_id >> 8
    p[2] = channel_id & 0xFF
    p[3] = p[4] = p[5] = 0
    p[6] = _SETTLE_SIZE
    p[7] = 0
    p[8] = 60
    p[9] = 0
    p[10] = method_id
    for at in range(8):
        p[11 + at] = (delivery_tag >> (56 - 8 * at)) & 0xFF
    p[19] = bits
    p[20] = 0xCE
    return frame  # type: ignore[no-any-return]


def dumps(format: str, values: Any) -> bytes:
    """Encode *values* by py-amqp's letters (those of ``spec``, and f float, A array, x bytes).

    Raises EncodeError that names the place by its number.
    """
    writer = Encoder()
    letters = format if isinstance(format, str) else format.decode()
    _write_args(writer, tuple((str(index), letter) for index, letter in enumerate(letters)), tuple(values))
    return writer.getvalue()


def loads(format: str, buf: bytes, offset: _int = 0) -> tuple[list[Any], int]:
    """Decode values by the letters of ``dumps``; returns them and the offset behind the last.

    Raises FrameSyntaxError.
    """
    reader = Reader(bytes(buf), offset)
    values = _read(format if isinstance(format, str) else format.decode(), reader)
    return values, reader.offset


def _read(letters: str, reader: Reader) -> list[Any]:
    values: list[Any] = []
    for letter in letters:
        values.append(_read_one(letter, reader))
    return values


def _read_one(letter: _Letter, reader: Reader) -> Any:
    if letter == 's':
        return reader.shortstr()
    if letter == 'b':
        return reader.bit()
    if letter == 'L':
        return reader.u64()
    if letter == 'l':
        return reader.u32()
    if letter == 'B':
        return reader.u16()
    if letter == 'o':
        return reader.u8()
    if letter == 'F':
        return reader.table()
    if letter == 'S':
        return reader.longstr()
    if letter == 'T':
        return reader.timestamp()
    if letter == 'A':
        return reader.array()
    if letter == 'f':
        return reader.f32()
    if letter == 'x':
        return reader.raw(reader.u32())
    raise exceptions.FrameSyntaxError(f'no AMQP type has the letter {letter!r}')


def _write_args(writer: Encoder, args: Any, values: Any) -> None:
    if len(args) != len(values):
        names = ', '.join(name for name, _ in args)
        raise exceptions.EncodeError(f'{len(values)} arguments given, {len(args)} expected: {names}')
    name = ''
    try:
        for (name, letter), value in zip(args, values, strict=True):  # noqa: B007 - told by the except clause
            _write_one(writer, letter, value)
    except exceptions.EncodeError as exc:
        raise within(name, exc) from None


def _write_one(writer: Encoder, letter: _Letter, value: Any) -> None:
    if letter == 's':
        writer.shortstr(value)
    elif letter == 'b':
        writer.bit(bool(value))
    elif letter == 'B':
        writer.u16(ranged(value, 0, 0xFFFF))
    elif letter == 'L':
        writer.u64(ranged(value, 0, _MAX_U64))
    elif letter == 'l':
        writer.u32(ranged(value, 0, 0xFFFF_FFFF))
    elif letter == 'o':
        writer.u8(ranged(value, 0, 255))
    elif letter == 'F':
        writer.table(value)
    elif letter == 'S' or letter == 'x':
        writer.longstr(value)
    elif letter == 'T':
        writer.timestamp(value)
    elif letter == 'A':
        writer.array(value)
    elif letter == 'f':
        writer.f32(value)
    else:
        raise exceptions.EncodeError(f'no AMQP type has the letter {letter!r}')
