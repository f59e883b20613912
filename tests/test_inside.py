"""The tests know private names of gamqp in one file, ``inside.py``, and that file has none that no test needs."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
INSIDE = TESTS / 'inside.py'

#: Private by their name, and not of gamqp: of Python, OpenTelemetry, eventlet, py-amqp and kombu.
FOREIGN = {
    '_exit', '_fields', '_is_owned', '_msg_callback',
    '_SUPPRESS_INSTRUMENTATION_KEY', '_threadlocal', '_serialize_properties', '_info', '_transport_cache',
    '_broadcast', '_initial_params',
}  # fmt: skip


@functools.cache
def files() -> dict[Path, ast.Module]:
    """All files of the tests, parsed: not before a test asks, since each process reads this one."""
    return {path: ast.parse(path.read_text(encoding='utf-8')) for path in sorted(TESTS.rglob('*.py'))}


def is_private(name: object) -> bool:
    return isinstance(name, str) and name.startswith('_') and not name.startswith('__') and name.isidentifier()


def used(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Private names behind a dot, and those that are given to getattr, setattr and the like; and their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            yield node.attr, node.lineno
        elif isinstance(node, ast.Call):
            function = node.func
            called = function.attr if isinstance(function, ast.Attribute) else getattr(function, 'id', '')
            if called in ('getattr', 'setattr', 'hasattr', 'delattr', 'attrgetter'):
                for argument in node.args:
                    if isinstance(argument, ast.Constant) and is_private(argument.value):
                        yield str(argument.value), argument.lineno


def defined(tree: ast.Module) -> set[str]:
    """What a file makes itself: methods, variables, and attributes that its objects set on themselves."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            owner = node.value
            if isinstance(owner, ast.Name) and owner.id == 'self':
                names.add(node.attr)
    return names


def test_private_names_are_a_files_own_or_inside() -> None:
    found = []
    for path, tree in files().items():
        if path != INSIDE:
            allowed = FOREIGN | defined(tree)
            found += [f'{path.relative_to(TESTS)}:{line}: {name}' for name, line in used(tree) if name not in allowed]
    assert found == []


def test_every_helper_of_inside_is_used() -> None:
    helpers = {node.name for node in files()[INSIDE].body if isinstance(node, ast.FunctionDef)}
    called = {
        node.attr
        for path, tree in files().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == 'inside'
    }
    assert helpers - called == set()
    assert called - helpers == set()
