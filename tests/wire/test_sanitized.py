"""The compiled modules under the address and undefined-behaviour sanitizers: ``./tests/run --sanitize``.

The sanitizers end the process at the first fault, so every test is one of them. Here is what needs their help, and that
they see anything at all. Skipped where they are not loaded.
"""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from golden import NAMES, load, mutated

PROCESS = ctypes.CDLL(None)
FORBID = getattr(PROCESS, '__asan_poison_memory_region', None)
ALLOW = getattr(PROCESS, '__asan_unpoison_memory_region', None)

pytestmark = pytest.mark.skipif(FORBID is None, reason='no sanitizers: run by ./tests/run --sanitize')

STREAMS = int(os.environ.get('GAMQP_TEST_FUZZ', '20000')) // 20


@contextmanager
def forbidden(room: memoryview, start: int) -> Iterator[None]:
    """Whoever reads or writes ``room[start:]`` meanwhile is ended."""
    assert FORBID is not None and ALLOW is not None
    address = ctypes.addressof(ctypes.c_char.from_buffer(room))  # and the room stays where it is as long as we have it
    place = ctypes.c_void_p(address + start), ctypes.c_size_t(len(room) - start)
    FORBID(*place)
    try:
        yield
    finally:
        ALLOW(*place)


def feed(decoder: Any, data: bytes) -> int:
    room = decoder.room()
    room[: len(data)] = data
    with forbidden(room, len(data)):
        return len(decoder.commit(len(data)))


def test_each_module_was_compiled_with_both(compiled: Any) -> None:
    for name in compiled.COMPILED_MODULES:
        code = Path(sys.modules[f'gamqp.wire.{name}'].__file__ or '').read_bytes()
        assert b'__asan_report_load' in code and b'__ubsan_handle' in code, name


def test_no_byte_is_read_that_has_not_arrived(compiled: Any) -> None:
    """The buffer is larger than what is in it, so that the sanitizer alone would let that pass."""
    chance = random.Random(7)
    golden = [load(name) for name in NAMES if name != 'get-ok-split']
    events = 0
    for _ in range(STREAMS):
        data = b''.join(chance.choices(golden, k=chance.randint(1, 3)))
        if chance.randrange(2):
            data = mutated(chance, data)
        step = chance.choice((len(data) or 1, 64, 3, 1))
        decoder = compiled.Decoder(frame_max=131072, max_body=100_000)
        for at in range(0, len(data), step):
            events += feed(decoder, data[at : at + step])
    assert events > STREAMS // 2, 'the streams are too wild to test anything'


FAULTS = {
    'heap-buffer-overflow': 'ctypes.string_at(id(data), sys.getsizeof(data) + 1)',
    'heap-use-after-free': 'place = id(data)\ndel data\nctypes.string_at(place, 100)',
    'use-after-poison': 'room = memoryview(bytearray(64))\nwith forbidden(room, 5): bytes(room[:6])',
}


@pytest.mark.parametrize('fault', FAULTS)
def test_faults_are_seen(fault: str) -> None:
    """Of this Python, with these options: otherwise it would prove nothing that the tests pass."""
    program = f'import ctypes, sys\nfrom test_sanitized import forbidden\ndata = bytes(range(100))\n{FAULTS[fault]}'
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
    environment['ASAN_OPTIONS'] = environment.get('ASAN_OPTIONS', '') + ':log_path=stderr'  # this one is wanted
    done = subprocess.run([sys.executable, '-c', program], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert f'ERROR: AddressSanitizer: {fault} ' in done.stderr
