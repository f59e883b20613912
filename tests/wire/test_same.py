"""Both builds, the same input: the same value or the same exception.

The inputs are golden frames and random values, mutated from a fixed seed, in five parts, of which
the default run of ``./tests/run`` takes the first. ``GAMQP_TEST_FUZZ`` is how many there are in all
parts together (a nightly run takes millions).
"""

from __future__ import annotations

import os
import random
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import inside
import pytest
from golden import NAMES, load, mutated

PARTS = 5
COUNT = int(os.environ.get('GAMQP_TEST_FUZZ', '20000')) // PARTS

in_parts = pytest.mark.parametrize(
    'part', [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, PARTS))]
)


def outcome(act: Any) -> Any:
    """What came out, in a form that can be compared: repr tells 1 from True and 1.0, and equals nan."""
    try:
        return repr(act())
    except Exception as exc:
        return type(exc), str(exc)


def events_of(wire: Any, data: bytes, step: int) -> Any:
    """Everything that a decoder and its messages tell about *data*."""
    decoder = wire.Decoder(frame_max=131072, max_body=100_000)
    told = []
    for at in range(0, len(data), step):
        for event in decoder.feed(data[at : at + step]):
            if isinstance(event, tuple):
                told.append(repr(event))
                continue
            told.append(repr(event) + outcome(lambda: event.body))  # noqa: B023 - called at once
            told.append(outcome(lambda: event.properties))  # noqa: B023
            told.append(outcome(lambda: event.delivery_info))  # noqa: B023
            told.append(repr((event.consumer_tag, event.delivery_tag, event.redelivered, inside.size_of(event))))
    return told, type(decoder.error), str(decoder.error), decoder.pending, decoder.heartbeats


@in_parts
def test_streams(source: Any, compiled: Any, part: int) -> None:
    chance = random.Random(f'1 {part}')
    golden = [load(name) for name in NAMES if name != 'get-ok-split']
    for _ in range(COUNT):
        data = mutated(chance, b''.join(chance.choices(golden, k=chance.randint(1, 3))))
        step = chance.choice((len(data) or 1, len(data) or 1, 64, 3))
        assert events_of(source, data, step) == events_of(compiled, data, step), data.hex()


@in_parts
def test_however_a_stream_is_cut(wire: Any, part: int) -> None:
    """The pieces in which bytes arrive decide nothing, neither events nor errors."""
    chance = random.Random(f'2 {part}')
    golden = [load(name) for name in NAMES if name != 'get-ok-split']
    for _ in range(COUNT // 10):
        data = mutated(chance, b''.join(chance.choices(golden, k=chance.randint(1, 3))))
        assert events_of(wire, data, len(data) or 1) == events_of(wire, data, 1), data.hex()


@in_parts
def test_sections(source: Any, compiled: Any, part: int) -> None:
    chance = random.Random(f'3 {part}')
    frames = [load(name) for name in ('deliver-all-types', 'deliver-task', 'deliver-dead-letter')]
    sections = [frame[frame.index(b'\xce\x02') + 20 :] for frame in frames]
    for _ in range(COUNT):
        data = mutated(chance, chance.choice(sections))
        results = [outcome(lambda: wire.decode_properties(data, 0)) for wire in (source, compiled)]  # noqa: B023
        assert results[0] == results[1], data.hex()


@in_parts
def test_arguments(source: Any, compiled: Any, part: int) -> None:
    chance = random.Random(f'4 {part}')
    sigs = sorted(source.spec.METHODS)
    for _ in range(COUNT):
        sig = chance.choice(sigs)
        data = chance.randbytes(chance.randint(0, 40))
        results = [outcome(lambda: wire.decode_args(sig, data, 0)) for wire in (source, compiled)]  # noqa: B023
        assert results[0] == results[1], (sig, data.hex())


def value(chance: random.Random, depth: int = 0) -> Any:
    """Something that somebody may put into a header, fit to be sent or not."""
    near = chance.choice((0, 7, 8, 15, 16, 31, 32, 63, 64))
    kind = chance.randrange(14 if depth < 4 else 10)
    if kind < 2:
        return (1 << near) * chance.choice((1, -1)) + chance.randint(-2, 2)
    if kind == 2:
        return ''.join(chance.choices('ab\xfc\u20ac\U0001f600\ud800', (9, 9, 3, 3, 3, 0.1), k=chance.randint(0, 9)))
    if kind == 3:
        return chance.randbytes(chance.randint(0, 9))
    if kind == 4:
        return chance.choice((None, True, False, 1.5, -0.0, 1e300, object, 'x' * 300, float('inf')))
    if kind == 5:
        return Decimal(chance.randint(-(2**33), 2**33)).scaleb(chance.randint(-12, 4))
    if kind == 6:
        zone = chance.choice((None, timezone.utc, timezone(timedelta(hours=chance.randint(-12, 12)))))
        return datetime(chance.choice((1, 1969, 1970, 2020, 9999)), 1, 1, chance.randint(0, 23), tzinfo=zone)
    if kind < 10:
        return chance.randint(-300, 300)
    if kind < 12:
        return [value(chance, depth + 1) for _ in range(chance.randint(0, 3))]
    return {chance.choice(('a', 'b', 'ü', b'\xff', 'k' * 255)): value(chance, depth + 1) for _ in range(3)}


@in_parts
def test_encoding(source: Any, compiled: Any, part: int) -> None:
    chance = random.Random(f'5 {part}')
    names = [name for name, _ in source.spec.PROPERTIES]
    sent = 0
    for _ in range(COUNT):
        properties = {name: value(chance) for name in chance.sample(names, chance.randint(0, 2))}
        properties['application_headers'] = {'k': value(chance)}
        args = (
            chance.randint(0, 9),
            value(chance),
            'key',
            False,
            False,
            properties,
            b'x' * chance.randint(0, 300),
            256,
        )
        results = [outcome(lambda: wire.encode_publish(*args)) for wire in (source, compiled)]  # noqa: B023
        assert results[0] == results[1], args
        sent += isinstance(results[0], str)
        sig = chance.choice(sorted(source.spec.METHODS))
        values = tuple(value(chance) for _ in source.spec.METHODS[sig].args)
        results = [outcome(lambda: wire.encode_method(1, sig, values)) for wire in (source, compiled)]  # noqa: B023
        assert results[0] == results[1], (sig, values)
    assert sent > COUNT // 50, 'the values are too wild to test anything'


def test_what_is_written_reads_back(wire: Any) -> None:
    chance = random.Random(6)
    for _ in range(COUNT // 10):
        table = {'k': chance.randint(-(2**63), 2**63 - 1), 's': chance.choice(('', 'ü', 'x' * 999)), 'n': [None, {}]}
        data = wire.dumps('F', [table])
        assert wire.loads('F', data) == ([table], len(data))


@pytest.mark.parametrize('letter', 'oBlLsSbFTAfx')
def test_every_short_input(source: Any, compiled: Any, letter: str) -> None:
    inputs = [bytes([first, second]) * 5 for first in range(0, 256, 5) for second in (0, 1, 4, 127, 128, 255)]
    for data in inputs:
        for end in range(11):
            results = [outcome(lambda: wire.loads(letter, data[:end])) for wire in (source, compiled)]  # noqa: B023
            assert results[0] == results[1], (letter, data[:end])
