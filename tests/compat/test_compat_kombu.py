"""kombu's pyamqp transport, unmodified, on gamqp by install_as_amqp: against real brokers, in processes of their own.

kombu imports amqp as soon as it is imported itself, so it cannot be tested in this process. One process
per broker and way of patching runs all scenarios of ``programs/kombu_on_gamqp.py``; a test here is one of them.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import greenlets
import pytest

PROGRAM = Path(__file__).parent / 'programs' / 'kombu_on_gamqp.py'
WAYS = (greenlets.GREEN, pytest.param(f'{greenlets.GREEN}-patched', marks=pytest.mark.slow))
PATIENCE = 500  # seconds for all scenarios; they take ten

pytestmark = [
    pytest.mark.skipif(not importlib.util.find_spec('kombu'), reason='kombu is not installed'),
    pytest.mark.limit(PATIENCE + 20),
]


def scenarios() -> list[str]:
    """The names in the program's table, read without running it."""
    for node in ast.parse(PROGRAM.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'SCENARIOS':
            return [ast.unparse(element) for element in node.value.elts]  # type: ignore[attr-defined]
    raise AssertionError('the program has no table of scenarios')


@functools.lru_cache
def outcomes(way: str, url: str, vhost: str) -> tuple[dict[str, str], str]:
    """What each scenario said, and the program's errors; run once."""
    # What kombu does as a matter of course is nothing to be warned of.
    strict = 'ignore,error:queue_declare without,error:basic_consume without'
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path)), 'PYTHONWARNINGS': strict}
    try:
        done = subprocess.run(
            [sys.executable, str(PROGRAM), way, url, vhost],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        out, err = done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        out, err = (late.stdout or b'').decode(), (late.stderr or b'').decode()
    return {name: said for name, said, _ in map(json.loads, out.splitlines())}, err


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('scenario', scenarios())
def test_kombu(rabbit: Any, way: str, scenario: str) -> None:
    if not rabbit.managed:
        pytest.skip('the broker has no management API, by which connections are closed')
    said, errors = outcomes(way, rabbit.url, rabbit.vhost)
    assert scenario in said, f'the program did not come to it:\n{errors}'
    assert not said[scenario], f'{said[scenario]}\n{errors}'
