"""Programs that consist of scenarios: run as processes of their own, each scenario a test.

kombu imports amqp as soon as it is imported, and some programs patch first; both cannot be done in the
process of the tests. A program has a table SCENARIOS of functions, and ends in ``main(SCENARIOS, …)``. It
prints a line of JSON for each: the name, '' or what went wrong, the seconds. Ban: imports nothing of gamqp.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

#: Seconds for all scenarios of a program, and for one.
PATIENCE = 500
PATIENCE_FOR_ONE = 120

# What kombu does as a matter of course is nothing to be warned of.
STRICT = 'ignore,error:queue_declare without,error:basic_consume without'


# -- for the tests -----------------------------------------------------------------------------


def names_in(program: Path) -> list[str]:
    """The names in the program's table, read without running it."""
    for node in ast.parse(program.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'SCENARIOS':
            return [ast.unparse(element) for element in node.value.elts]  # type: ignore[attr-defined]
    raise AssertionError(f'{program.name} has no table of scenarios')


@functools.lru_cache
def outcomes(program: Path, *arguments: str) -> tuple[dict[str, str], str]:
    """What each scenario said, and the program's errors; run once for the same arguments."""
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path)), 'PYTHONWARNINGS': STRICT}
    try:
        done = subprocess.run(
            [sys.executable, str(program), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        out, err = done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        out, err = (late.stdout or b'').decode(), (late.stderr or b'').decode()
    return {name: said for name, said, _ in map(json.loads, out.splitlines())}, err


def check(program: Path, scenario: str, *arguments: str) -> None:
    """Fail unless that scenario has gone well."""
    said, errors = outcomes(program, *arguments)
    assert scenario in said, f'the program did not come to it:\n{errors}'
    assert not said[scenario], f'{said[scenario]}\n{errors}'


# -- for the programs --------------------------------------------------------------------------


def main(scenarios: Sequence[Callable[[], None]], wanted: Sequence[str], green: Any = None) -> None:
    """Run those that are wanted, or all, one after the other, and print what came of them.

    green: ``gamqp.green``, to run each in a greenlet of its own and give up when it takes too long; None for this one.
    """
    for scenario in scenarios:
        if not wanted or scenario.__name__ in wanted:
            began = time.monotonic()
            said = _said(scenario) if green is None else _said_in_time(scenario, green)
            print(json.dumps([scenario.__name__, said, round(time.monotonic() - began, 2)]), flush=True)


def _said(scenario: Callable[[], None]) -> str:
    try:
        scenario()
    except BaseException:
        return traceback.format_exc()
    return ''


def _said_in_time(scenario: Callable[[], None], green: Any) -> str:
    slot = green.Slot(green.backend())
    green.backend().spawn(lambda: slot.succeed(_said(scenario)))
    if not slot.wait(PATIENCE_FOR_ONE):
        return f'not over after {PATIENCE_FOR_ONE} s'
    return str(slot.result())
