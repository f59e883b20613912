"""What programs hold has the names for programs alone: each public name has its word in the API reference.

Looked at is each class of the page, and each class that a public method, property or attribute of such a class gives.
Names that are for other parts of gamqp begin with an underscore, or belong to another object.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import api_page
import pytest

import gamqp
from gamqp.state import connection_settings


@functools.cache
def imported(module: ModuleType) -> dict[str, str]:
    """Name -> module, of all imports from gamqp in a module, also of those for type checkers alone."""
    package = module.__name__ if hasattr(module, '__path__') else module.__name__.rpartition('.')[0]
    found = {}
    for node in ast.walk(api_page.source_of(module.__name__)):
        if isinstance(node, ast.ImportFrom) and node.level:
            where = package.split('.')[: len(package.split('.')) - node.level + 1]
            for name in node.names:
                found[name.asname or name.name] = f'{".".join([*where, *filter(None, [node.module])])} {name.name}'
    return found


def classes_in(annotation: Any, module: ModuleType) -> Iterator[type]:
    """The classes of gamqp that an annotation names."""
    if annotation is None:
        return
    tree = ast.parse(annotation, mode='eval') if isinstance(annotation, str) else annotation
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            node = ast.Name(node.value)  # a name in quotes
        if isinstance(node, ast.Name):
            one = getattr(module, node.id, None)
            if one is None and node.id in imported(module):
                place, name = imported(module)[node.id].split()
                one = getattr(importlib.import_module(place), name)
            if inspect.isclass(one) and api_page.is_ours(one):
                yield one


def given_by(cls: type) -> Iterator[type]:
    """The classes of what the public members of a class give."""
    for base in cls.__mro__:
        if not api_page.is_ours(base):
            continue
        module = importlib.import_module(base.__module__)
        for name, value in vars(base).items():
            if not name.startswith('_') or name in ('__enter__', '__iter__', '__next__'):
                function = inspect.unwrap(getattr(value, 'fget', None) or getattr(value, '__func__', value))
                if inspect.isfunction(function):
                    yield from classes_in(function.__annotations__.get('return'), module)
        for name, annotation in api_page.stored(base).items():
            if not name.startswith('_'):
                yield from classes_in(annotation, module)


def held() -> list[type]:
    """All classes of which programs hold objects."""
    offered = (getattr(gamqp, name) for name in gamqp.__all__)
    found = dict.fromkeys(
        [*api_page.CLASSES, *(one for one in offered if inspect.isclass(one) and api_page.is_ours(one))]
    )
    due = list(found)
    while due:
        for one in given_by(due.pop()):
            if one not in found:
                found[one] = None
                due.append(one)
    return sorted(found, key=lambda cls: cls.__qualname__)


def public(cls: type) -> set[str]:
    names = api_page.public(cls)
    return names - connection_settings.names() if issubclass(cls, gamqp.Connection) else names


@pytest.mark.parametrize('cls', held(), ids=lambda cls: f'{cls.__module__}.{cls.__qualname__}')
def test_each_public_name_is_documented(cls: type) -> None:
    assert public(cls) - api_page.documented(cls) == set()


@pytest.mark.parametrize('cls', api_page.CLASSES, ids=lambda cls: cls.__qualname__)
def test_the_page_has_no_other_names(cls: type) -> None:
    assert {
        name for name in api_page.told(cls) | api_page.on_the_page(cls) if not hasattr(cls, name)
    } <= api_page.public(cls)
