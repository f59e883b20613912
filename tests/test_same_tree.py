"""The tests refuse to run on another gamqp than the one beside them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from same_tree import difference

ROOT = Path(__file__).parents[1]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A copy of this tree's package, elsewhere."""
    return Path(shutil.copytree(ROOT / 'gamqp', tmp_path / 'gamqp', ignore=shutil.ignore_patterns('__pycache__')))


def test_a_copy_is_as_good_as_the_tree(other: Path) -> None:
    assert difference(other, ROOT / 'gamqp') is None
    (other / 'wire' / 'frames.so').write_bytes(b'built from it')
    assert difference(other, ROOT / 'gamqp') is None


def test_each_difference_is_named(other: Path) -> None:
    (other / 'sasl.py').write_text('')
    assert difference(other, ROOT / 'gamqp') == 'sasl.py is another one'
    (other / 'rpc' / 'client.py').unlink()
    assert difference(other, ROOT / 'gamqp') == 'rpc/client.py is missing'
    (other / 'amqps.py').write_text('')
    assert difference(other, ROOT / 'gamqp') == 'amqps.py is not in this tree'


def test_tests_without_a_tree_have_nothing_to_compare_with(other: Path, tmp_path: Path) -> None:
    assert difference(other, tmp_path / 'nothing') is None


def test_pytest_ends_with_one_line(other: Path) -> None:
    with (other / 'sasl.py').open('a') as file:
        file.write('\n# edited\n')
    run = 'import sys; sys.path[0] = sys.argv.pop(1); import pytest; sys.exit(pytest.main(sys.argv[1:]))'
    options = ('-p', 'no:cacheprovider', '-q', 'tests/state/test_backoff.py')
    done = subprocess.run(
        [sys.executable, '-c', run, other.parent, *options],
        cwd=ROOT,
        env={**os.environ, 'PYTEST_ADDOPTS': ''},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    said = [line for line in done.stderr.splitlines() if line]
    assert len(said) == 1
    assert f'Python imports {other}, where sasl.py is another one' in said[0]
    assert not done.stdout.strip()
