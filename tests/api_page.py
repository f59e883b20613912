"""The API reference, ``docs/api.rst``, as tests read it: which classes are on it, and which names of each."""

from __future__ import annotations

import ast
import functools
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ('CLASSES', 'PAGE', 'documented', 'is_ours', 'on_the_page', 'public', 'source_of', 'stored', 'told')

TREE = Path(__file__).parents[1]
PAGE = (TREE / 'docs' / 'api.rst').read_text(encoding='utf-8')


def _classes() -> Iterator[tuple[type, str]]:
    for place, text in re.findall(r'^\.\. autoclass:: ([\w.]+)(?:\(\))?\n((?:   .*\n|\n)*)', PAGE, re.M):
        yield pkgutil.resolve_name(place), text
    for place in re.findall(r'^\.\. automodule:: ([\w.]+)\n   :members:', PAGE, re.M):
        module = pkgutil.resolve_name(place)
        for name in module.__all__:
            one = getattr(module, name)
            if inspect.isclass(one):
                yield one, '   :members:\n'


def _each_once() -> dict[type, str]:
    found: dict[type, str] = {}
    for cls, text in _classes():
        assert cls not in found, f'{cls.__name__} stands twice in docs/api.rst'
        found[cls] = text
    return found


#: Each class of the page, and what stands below its directive.
CLASSES = _each_once()


def is_ours(cls: type) -> bool:
    return cls.__module__.partition('.')[0] == 'gamqp'


def _bases(cls: type) -> list[type]:
    return [base for base in cls.__mro__ if is_ours(base)]


@functools.cache
def _text_of(module: str) -> str:
    """A module of gamqp: the file of the tree, since a compiled one has no source of its own."""
    path = TREE.joinpath(*module.split('.'))
    file = path / '__init__.py' if path.is_dir() else path.with_suffix('.py')
    return file.read_text(encoding='utf-8')


@functools.cache
def source_of(module: str) -> ast.Module:
    """The same, parsed."""
    return ast.parse(_text_of(module))


@functools.cache
def _definition(cls: type) -> ast.ClassDef:
    names = cls.__qualname__.split('.')
    node: ast.Module | ast.ClassDef = source_of(cls.__module__)
    for name in names:
        node = next(one for one in ast.walk(node) if isinstance(one, ast.ClassDef) and one.name == name)
    assert isinstance(node, ast.ClassDef)
    return node


@functools.cache
def stored(cls: type) -> dict[str, ast.expr | None]:
    """The attributes that a class itself declares or gives its objects, and how they are annotated."""
    tree = _definition(cls)
    found: dict[str, ast.expr | None] = {}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node.annotation
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
            found[node.target.attr] = node.annotation
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == 'self':
            found.setdefault(node.attr, None)
    return found


@functools.cache
def public(cls: type) -> set[str]:
    """What a completion offers on an object of a class, without what bases have that are not ours, as set or dict."""
    names = set(dir(cls)).union(*(stored(base) for base in _bases(cls)))
    foreign = {name for base in cls.__mro__ if not is_ours(base) for name in dir(base)}
    return {name for name in names - foreign if not name.startswith('_')}


@functools.cache
def told(cls: type) -> set[str]:
    """The members of a class that the page takes from their docstrings."""
    text = CLASSES.get(cls, '')
    names = {name.strip() for one in re.findall(r'^   :members: (.+)$', text, re.M) for name in one.split(',')}
    if re.search(r'^   :members:\s*$', text, re.M):
        for owner in _bases(cls) if ':inherited-members:' in text else [cls]:
            names |= {name for name, value in vars(owner).items() if _has_doc(value) and name in public(cls)}
    return names | set(re.findall(r'^   \.\. auto(?:method|property|attribute):: (\w+)', text, re.M))


@functools.cache
def on_the_page(cls: type) -> set[str]:
    """The members of a class that the page itself has a word on."""
    blocks = re.findall(r'^   \.\. (?:attribute|method):: (\w+(?:\n {14,18}\w+)*)', CLASSES.get(cls, ''), re.M)
    return {name for block in blocks for name in block.split()}


@functools.cache
def commented(cls: type) -> set[str]:
    """Those with a comment ``#:`` above, or a word in the docstring: ``name: …``, ``name, other: …``, ``name (…)``."""
    doc = inspect.getdoc(cls) or ''
    above = re.findall(
        r'#:.*\n\s+(?:self\.)?(\w+)\b.*=', ast.get_source_segment(_text_of(cls.__module__), _definition(cls)) or ''
    )
    said = r'``{0}(?:\(\))?``|\b{0}(?=[:,]| \()'
    return {*above, *(name for name in public(cls) if re.search(said.format(name), doc))}


@functools.cache
def documented(cls: type) -> set[str]:
    """The public members of a class that the page tells of, there or in the docstring of the class or a base."""
    names = set().union(*(told(base) | on_the_page(base) | commented(base) for base in _bases(cls)))
    for other in CLASSES:  # another class on the page may have the same member
        names |= {name for name in told(other) if hasattr(cls, name) and _is_same(cls, other, name)}
    return names & public(cls)


def _is_same(cls: type, other: type, name: str) -> bool:
    return inspect.getattr_static(cls, name) is inspect.getattr_static(other, name, None)


def _has_doc(value: object) -> bool:
    return bool(inspect.getdoc(value)) and (inspect.isroutine(value) or isinstance(value, property))
