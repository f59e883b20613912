"""Values and their bytes, used in both directions."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal

UTC = timezone.utc

# (letter of py-amqp, value, bytes): read and written alike
PLAIN = [
    ('o', 0, '00'),
    ('o', 0x7F, '7f'),
    ('o', 0x80, '80'),
    ('o', 0xFF, 'ff'),
    ('B', 0, '0000'),
    ('B', 0x7FFF, '7fff'),
    ('B', 0x8000, '8000'),
    ('B', 0xFFFF, 'ffff'),
    ('l', 1, '00000001'),
    ('l', 0x7FFFFFFF, '7fffffff'),
    ('l', 0x80000000, '80000000'),
    ('l', 0xFFFFFFFF, 'ffffffff'),
    ('L', 1, '0000000000000001'),
    ('L', 2**31, '0000000080000000'),
    ('L', 2**63 - 1, '7fffffffffffffff'),
    ('L', 2**63, '8000000000000000'),
    ('L', 2**64 - 1, 'ffffffffffffffff'),
    ('s', '', '00'),
    ('s', 'abc', '03616263'),
    ('s', 'ü', '02c3bc'),
    ('s', 'x' * 255, 'ff' + '78' * 255),
    ('S', '', '00000000'),
    ('S', 'abc', '00000003616263'),
    ('T', datetime(1970, 1, 1, tzinfo=UTC), '0000000000000000'),
    ('T', datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC), '000000005e0d5da5'),
    ('T', datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), '0000003afff4417f'),
    ('T', 253402300800, '0000003afff44180'),
    ('T', 2**64 - 1, 'ffffffffffffffff'),
    ('F', {}, '00000000'),
    ('A', [], '00000000'),
    ('f', 1.5, '3fc00000'),
]

# (value, bytes of a tagged field value): read and written alike
_FIELDS = [
    (True, '7401'),
    (False, '7400'),
    (0, '4900000000'),
    (-1, '49ffffffff'),
    (2**31 - 1, '497fffffff'),
    (-(2**31), '4980000000'),
    (2**31, '6c0000000080000000'),
    (-(2**31) - 1, '6cffffffff7fffffff'),
    (2**63 - 1, '6c7fffffffffffffff'),
    (-(2**63), '6c8000000000000000'),
    (1.5, '643ff8000000000000'),
    (Decimal('1.50'), '440200000096'),
    (Decimal('-0.01'), '4402ffffffff'),
    (Decimal('7'), '440000000007'),
    (Decimal(2**31 - 1), '44007fffffff'),
    (Decimal(-(2**31)), '440080000000'),
    (Decimal('1E-255'), '44ff00000001'),
    ('', '5300000000'),
    ('text', '530000000474657874'),
    ('ü€', '5300000005c3bce282ac'),
    (b'', '7800000000'),
    (b'\x00\xff', '780000000200ff'),
    (datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC), '54000000005e0d5da5'),
    ({}, '4600000000'),
    ({'a': {'b': None}}, '460000000a0161' + '4600000003016256'),
    ([], '4100000000'),
    ([1, None, [True]], '410000000d' + '4900000001' + '56' + '41000000027401'),
    (None, '56'),
]
FIELDS = [(value, bytes.fromhex(text)) for value, text in _FIELDS]


def table(field: bytes) -> bytes:
    """A table with this tagged value under the key 'k'."""
    body = b'\x01k' + field
    return len(body).to_bytes(4, 'big') + body
