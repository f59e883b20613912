"""The layers of gamqp, drawn or listed from what its modules import: the directive ``imports`` of these pages.

    .. imports::

With graphviz on the machine it is a picture, and without it a table with the same contents. Only the
standard library is needed to read the imports; Sphinx is needed for the directive.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gamqp

PACKAGE = Path(gamqp.__file__).parent

# A row of the layers in the docstring of gamqp: number, name, contents.
ROW = re.compile(r'^ {4}(\d)  (\S+(?: \S+)*)  +(.+)$', re.M)


def layers() -> list[tuple[str, list[str]]]:
    """(name, packages and modules) of each layer, the highest first, as the docstring of gamqp has them."""
    found = []
    for number, name, contents in ROW.findall(gamqp.__doc__ or ''):
        rooms = re.findall(r'\w+', re.sub(r'\(.*?\)', '', contents))
        found.append((f'{number} {name}', [room for room in rooms if _is_room(room)]))
    return found


@functools.cache  # it reads every file of the package
def imports() -> dict[str, set[str]]:
    """Which package or module of gamqp imports which others, by their names directly below ``gamqp``."""
    rooms = [room for _, names in layers() for room in names]
    found: dict[str, set[str]] = {room: set() for room in rooms}
    for path in sorted(PACKAGE.rglob('*.py')):
        inside = path.relative_to(PACKAGE).with_suffix('').parts
        if inside[0] in found:
            found[inside[0]].update(room for room in _imported_by(path, inside) if room in found)
    for room, others in found.items():
        others.discard(room)
    return found


def without_detours(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same without each arrow that others imply: a -> c where there are a -> b and b -> c."""
    reach = {room: set(others) for room, others in graph.items()}
    for middle in graph:
        for others in reach.values():
            if middle in others:
                others |= reach[middle]

    def implied(room: str, one: str) -> bool:
        # Not by an arrow of a circle that leads back: of those each one stays.
        return any(
            one in reach[other] and other not in reach[one] and room not in reach[other]
            for other in graph[room] - {one}
        )

    return {room: {one for one in others if not implied(room, one)} for room, others in graph.items()}


def dot() -> str:
    """The picture's source for graphviz."""
    lines = ['digraph gamqp {', 'rankdir=TB; node [shape=box, fontname="sans-serif", fontsize=11];']
    for name, rooms in layers():
        lines.append(f'subgraph "cluster_{name}" {{ label="{name}"; fontname="sans-serif"; fontsize=11; color=gray;')
        lines += [f'"{room}";' for room in rooms]
        lines.append('}')
    for room, others in without_detours(imports()).items():
        lines += [f'"{room}" -> "{other}";' for other in sorted(others)]
    return '\n'.join([*lines, '}'])


def table() -> str:
    """The same as a table in reStructuredText."""
    graph = without_detours(imports())
    lines = ['.. list-table::', '   :header-rows: 1', '', '   * - layer', '     - package or module', '     - imports']
    for name, rooms in layers():
        for room in rooms:
            others = ', '.join(sorted(graph[room])) or 'nothing of gamqp'
            lines += [f'   * - {name}', f'     - {room}', f'     - {others}']
    return '\n'.join(lines)


def _is_room(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f'{name}.py').is_file()


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """``ast.walk`` without what only a type checker runs."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith('TYPE_CHECKING'):
            continue
        yield child
        yield from _walk(child)


def _imported_by(path: Path, inside: tuple[str, ...]) -> Iterator[str]:
    """The first name below gamqp of each import in a file, wherever it stands."""
    package = ['gamqp', *inside[:-1]]
    for node in _walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split('.') if node.module else [])
            names = ['.'.join([*base, alias.name]) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split('.')
            if parts[0] == 'gamqp' and len(parts) > 1:
                yield parts[1]


def setup(app: Any) -> dict[str, Any]:
    """For Sphinx, which calls this because conf.py names the module."""
    import pictures  # which lies beside this file: conf.py has put that folder into the path

    return pictures.add(app, 'imports', 'the layers of gamqp', dot, table)
