"""That the build is what it says it is."""

from __future__ import annotations

import ast
import os
import runpy
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Any

import pytest

from gamqp import wire as loaded

HERE = os.path.dirname(loaded.__file__)
SETUP = os.path.join(os.path.dirname(__file__), '..', '..', 'setup.py')


def test_every_pxd_has_its_source_and_is_listed() -> None:
    types = {name.removesuffix('.pxd') for name in os.listdir(HERE) if name.endswith('.pxd')}
    assert types == set(loaded.COMPILED_MODULES)
    assert all(os.path.exists(os.path.join(HERE, f'{name}.py')) for name in types)


def test_setup_builds_the_same_modules() -> None:
    with open(SETUP, encoding='utf-8') as file:
        tree = ast.parse(file.read())
    (listed,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'COMPILED_MODULES'
    )
    assert listed == loaded.COMPILED_MODULES


def module_of(name: str) -> Any:
    return sys.modules[f'gamqp.wire.{name}']


def test_the_build_is_of_one_kind() -> None:
    kinds = {module_of(name).COMPILED for name in loaded.COMPILED_MODULES}
    assert kinds == {loaded.COMPILED}
    for name in loaded.COMPILED_MODULES:
        assert module_of(name).__file__.endswith('.py') is not loaded.COMPILED


def test_the_compiled_leg_is_compiled() -> None:
    if os.environ.get('GAMQP_CYTHON') != '1':
        pytest.skip('GAMQP_CYTHON is not 1')
    assert loaded.COMPILED


def test_the_pure_leg_is_pure() -> None:
    if os.environ.get('GAMQP_CYTHON') != '0':
        pytest.skip('GAMQP_CYTHON is not 0')
    assert not loaded.COMPILED


def test_no_extension_is_older_than_its_sources() -> None:
    """An extension left over from an earlier build would hide the source that was edited."""
    for name in loaded.COMPILED_MODULES:
        for suffix in EXTENSION_SUFFIXES:
            built = os.path.join(HERE, name + suffix)
            if os.path.exists(built):
                for source in (f'{name}.py', f'{name}.pxd'):
                    assert os.path.getmtime(built) >= os.path.getmtime(os.path.join(HERE, source)) - 2, built


def test_the_environment_chooses_the_sources() -> None:
    program = 'import sys; sys.path[:0] = sys.argv[1:]; import gamqp.wire as w; print(w.COMPILED, w.read.__file__)'
    environment = os.environ | {'GAMQP_PURE_PYTHON': '1'}
    command = [sys.executable, '-c', program, os.path.dirname(os.path.dirname(HERE))]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert told[0] == 'False'
    assert told[1].endswith('read.py')


def test_cython_is_not_imported_at_run_time() -> None:
    program = 'import sys; sys.path[:0] = sys.argv[1:]; import gamqp.wire; print("cython" in sys.modules)'
    command = [sys.executable, '-c', program, os.path.dirname(os.path.dirname(HERE))]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == 'False'


def test_a_wrong_choice_is_an_error() -> None:
    environment = os.environ | {'GAMQP_CYTHON': 'perhaps'}
    command = [sys.executable, SETUP, '--version']
    pytest.importorskip('setuptools')
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=os.path.dirname(SETUP))
    assert done.returncode != 0
    assert "must be auto, 1 or 0, not 'perhaps'" in done.stderr


def test_an_editable_install_is_the_pure_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """An extension beside its source would go on running when the source is edited."""
    setuptools = pytest.importorskip('setuptools')
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, 'setup', lambda **arguments: given.update(arguments))
    monkeypatch.setattr(sys, 'argv', ['setup.py', 'editable_wheel'])
    monkeypatch.delenv('GAMQP_CYTHON', raising=False)
    runpy.run_path(SETUP)
    assert given['ext_modules'] == []


def test_names_that_are_exported_exist(wire: Any) -> None:
    assert all(hasattr(wire, name) for name in wire.__all__)
    assert sorted(wire.__all__) == sorted(set(wire.__all__))
