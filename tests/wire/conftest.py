"""The fixture ``wire``: the layer under test, once from its sources and once compiled.

The sources are loaded a second time under another package name, so that one process holds both
builds; both raise the classes of ``gamqp.exceptions``.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType
from typing import Any

import pytest

import gamqp.wire

ALIAS = 'gamqp._wire_source'
HERE = os.path.dirname(gamqp.wire.__file__)


class SourceTwin:
    """Finds the modules of the alias package, as sources."""

    finder = FileFinder(HERE, (SourceFileLoader, SOURCE_SUFFIXES))

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return cls.finder.find_spec(name) if name.startswith(ALIAS + '.') else None


def load_source() -> ModuleType:
    """gamqp.wire from its sources, whatever build is installed."""
    if ALIAS not in sys.modules:
        sys.meta_path.insert(0, SourceTwin)
        spec = importlib.util.spec_from_file_location(
            ALIAS, os.path.join(HERE, '__init__.py'), submodule_search_locations=[HERE]
        )
        assert spec is not None and spec.loader is not None
        sys.modules[ALIAS] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[ALIAS])
    return sys.modules[ALIAS]


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """Nothing here makes a greenlet or a socket, and looking for them takes most of the time."""


@pytest.fixture(scope='session')
def source() -> ModuleType:
    return load_source()


@pytest.fixture(scope='session')
def compiled() -> ModuleType:
    if not gamqp.wire.COMPILED:
        pytest.skip('the build under test is pure')
    return gamqp.wire


@pytest.fixture(params=['source', 'compiled'])
def wire(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
def feedings() -> Any:
    """Ways to give the same bytes to a decoder: at once, byte by byte, in odd pieces."""

    def feed(wire: Any, data: bytes, **options: Any) -> list[tuple[Any, list[Any]]]:
        runs = []
        for step in (len(data) or 1, 1, 7):
            decoder = wire.Decoder(**options)
            events: list[Any] = []
            for at in range(0, len(data), step):
                events += decoder.feed(data[at : at + step])
            runs.append((decoder, events))
        return runs

    return feed
