"""tests/README.rst is true: each module of gamqp has a row in its map, and each file that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / 'gamqp'
PAGE = (TESTS / 'README.rst').read_text(encoding='utf-8')
MAP = PAGE.partition('Which tests to run for which module')[2]

#: The rows of the map: (modules, tests).
ROWS = [
    (re.findall(r'``([\w/]+\.py)``', modules), re.findall(r'``([\w/]+\.py)``', tests))
    for modules, tests in re.findall(r'^   \* - (``.*)\n     - ((?:.*\n?)(?: {7}.*\n?)*)', MAP, re.M)
]
FILES = sorted(set(re.findall(r'``([\w/]+\.py)``', PAGE.partition('Which tests to run for which module')[0])))


def test_each_module_has_one_row() -> None:
    told = [module for modules, _ in ROWS for module in modules]
    assert sorted(told) == sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob('*.py'))


def test_each_row_names_tests_that_exist() -> None:
    for modules, tests in ROWS:
        assert tests, f'no test for {modules}'
        for name in tests:
            assert (TESTS / name).is_file(), f'{name}, in the row of {modules}'
            assert Path(name).name.startswith('test_')


@pytest.mark.parametrize('name', FILES)
def test_each_file_that_is_named_exists(name: str) -> None:
    assert (TESTS / name).is_file()


def test_each_helper_has_its_line() -> None:
    helpers = [
        path.relative_to(TESTS).as_posix()
        for path in TESTS.rglob('*.py')
        if path.parent.name != 'programs' and not path.name.startswith(('test_', 'conftest'))
    ]
    for name in helpers:
        assert name in FILES, f'{name} is not among the helpers of tests/README.rst'


def test_each_ring_and_each_marker_is_told() -> None:
    rings = {path.name for path in TESTS.iterdir() if path.is_dir() and any(path.glob('test_*.py'))}
    for ring in rings:
        assert re.search(rf'^``{ring}/``', PAGE, re.M), ring
    configured = (TESTS / 'conftest.py').read_text(encoding='utf-8')
    for marker in re.findall(r"'markers', '(\w+)", configured):
        assert re.search(rf'^``{marker}', PAGE, re.M), marker
