"""install_as_amqp and the promise without vine: what happens at import, so each in a process of its own."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from installed import is_installed

PROGRAM = Path(__file__).parent / 'programs' / 'drop_in.py'
CASES = [
    node.name
    for node in ast.parse(PROGRAM.read_text(encoding='utf-8')).body
    if isinstance(node, ast.FunctionDef) and not node.name.startswith('_')
]


@pytest.mark.parametrize('case', CASES)
def test_drop_in(case: str) -> None:
    if case.startswith('too_late') and not is_installed('amqp'):
        pytest.skip('py-amqp is not installed')
    if 'eventlet' in case and not is_installed('eventlet'):
        pytest.skip('eventlet is not installed')
    done = subprocess.run(
        [sys.executable, '-W', 'error', str(PROGRAM), case],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == 'done\n', done.stderr
