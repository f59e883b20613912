"""The layers of gamqp, held by a walk over every import: a module imports its own layer and lower ones only.

The table below is the law; what the docstring of ``gamqp`` tells people must agree with it. A new
module needs a row, on purpose: where something belongs is decided before it is written.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

import gamqp
from gamqp import Channel, Connection

ROOT = Path(gamqp.__file__).parent

# layer -> what is in it: a package stands for all its modules
LAYERS: dict[int, tuple[str, ...]] = {
    0: ('about', 'exceptions', 'wire'),
    1: ('basic_message', 'protocol', 'sasl', 'state'),
    2: ('green', 'io', 'transport'),
    3: ('channel', 'consuming', 'telemetry'),
    4: ('connection', 'recovery'),
    5: (
        *('__init__', '__main__', 'cli', 'compat', 'groups', 'kombu', 'opentelemetry', 'partitioning', 'pool'),
        *('prometheus', 'rpc', 'serialization', 'spec', 'testing', 'utils'),
    ),
}
# Within a layer: each imports the ones before it only.
ORDER = (('green', 'transport', 'io'), ('telemetry', 'consuming', 'channel'), ('recovery', 'connection'))
NAMES = {0: 'wire', 1: 'state', 2: 'I/O', 3: 'channel', 4: 'connection', 5: 'programs'}

# What annotations of public names need from above: an import under ``if TYPE_CHECKING`` never runs, so a module
# is as independent with it as without it. Without it a user's type checker would see Any. Every such import is listed.
ANNOTATIONS: dict[str, tuple[str, ...]] = {
    'basic_message': ('channel',),
    'channel': ('connection',),
    'consuming': ('connection',),
    'exceptions': ('basic_message',),
    'protocol': ('basic_message',),
    'recovery': ('connection',),
    'sasl': ('connection',),
}

# What layers 0 and 1 must not know, so that no call into them can switch greenlets.
WORLD = {
    'greenlet',
    'logging',
    '_socket',
    'select',
    'selectors',
    'signal',
    'socket',
    'ssl',
    'subprocess',
    'threading',
    'time',
}
# module -> who else may import it
GREENLETS = {'gevent': ('green',), 'eventlet': ('green',)}
# testing is the other end of a connection, and has sockets of its own
SOCKETS = {'socket': ('transport', 'green'), '_socket': ('testing',), 'ssl': ('transport', 'green')}
NOBODY: dict[str, tuple[str, ...]] = {'asyncio': (), 'amqp': (), 'celery': ()}
OPTIONAL = {
    'kombu': ('kombu',),
    'opentelemetry': ('opentelemetry', 'telemetry'),
    'prometheus_client': ('prometheus',),
}
LONGEST = 400  # lines of a file
LONGEST_FUNCTION = 60  # lines of its body, without the docstring

FILES = sorted(path for path in ROOT.rglob('*.py') if '__pycache__' not in path.parts)
every_file = pytest.mark.parametrize('path', FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])


def top(path: Path) -> str:
    """The name by which a file is in the table."""
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix('.py')


def layer_of(name: str) -> int:
    for layer, names in LAYERS.items():
        if name in names:
            return layer
    raise AssertionError(f'{name} is in no layer: add it to the table of {Path(__file__).name}')


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, dotted name) of every import of a file that can run; relative ones are made absolute."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    unrun = {id(node) for block in _type_checking_blocks(tree) for each in block.body for node in ast.walk(each)}
    return _imports_of(path, (node for node in ast.walk(tree) if id(node) not in unrun))


def imports_for_annotations(path: Path) -> list[tuple[int, str]]:
    """The same of what only type checkers see."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    blocks = _type_checking_blocks(tree)
    return _imports_of(path, (node for block in blocks for each in block.body for node in ast.walk(each)))


def _type_checking_blocks(tree: ast.AST) -> list[ast.If]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING']


def _imports_of(path: Path, nodes: Iterable[ast.AST]) -> list[tuple[int, str]]:
    package = ['gamqp', *path.relative_to(ROOT).parts[:-1]]
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split('.') if node.module else [])
            found += [(node.lineno, '.'.join([*base, alias.name])) for alias in node.names]
    return found


def own_module(dotted: str) -> Path | None:
    """The file of gamqp that an import of this name runs; None for others' modules."""
    parts = dotted.split('.')
    if parts[0] != 'gamqp':
        return None
    for length in range(len(parts), 0, -1):  # the last part may be a name inside a module
        place = ROOT.joinpath(*parts[1:length])
        if place.with_suffix('.py').is_file() and length > 1:
            return place.with_suffix('.py')
        if (place / '__init__.py').is_file():
            return place / '__init__.py'
    raise AssertionError(f'{dotted} is nowhere')


@every_file
def test_imports_its_own_layer_and_lower_ones_only(path: Path) -> None:
    mine = layer_of(top(path))
    for line, dotted in imports(path):
        target = own_module(dotted)
        if target is not None:
            theirs = layer_of(top(target))
            assert theirs <= mine, f'{path.name}:{line} is in layer {mine} and imports {dotted} of layer {theirs}'


@every_file
def test_imports_for_annotations_alone_are_listed(path: Path) -> None:
    for line, dotted in imports_for_annotations(path):
        target = own_module(dotted)
        if target is not None and layer_of(top(target)) > layer_of(top(path)):
            allowed = ANNOTATIONS.get(top(path), ())
            assert top(target) in allowed, f'{path.name}:{line} imports {dotted} for annotations, which is not listed'


@every_file
def test_within_a_layer_packages_import_in_one_direction(path: Path) -> None:
    for order in ORDER:
        if top(path) in order:
            later = order[order.index(top(path)) + 1 :]
            for line, dotted in imports(path):
                target = own_module(dotted)
                assert target is None or top(target) not in later, f'{path.name}:{line} must not import {dotted}'


@every_file
def test_no_function_is_long(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            length = node.body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length <= LONGEST_FUNCTION, f'{path.name}: {node.name} has {length} lines'


@every_file
def test_the_world_stays_out_of_the_lower_layers(path: Path) -> None:
    forbidden = {**GREENLETS, **SOCKETS, **NOBODY, **OPTIONAL}
    for line, dotted in imports(path):
        name = dotted.split('.')[0]
        if name in forbidden:
            assert top(path) in forbidden[name], f'{path.name}:{line} must not import {name}'
        if layer_of(top(path)) < 2:
            assert name not in WORLD, f'{path.name}:{line}: layers 0 and 1 must not know {name}'


@every_file
def test_a_file_is_short_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text(encoding='utf-8')
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f'{path} has no docstring'
    assert len(text.splitlines()) <= LONGEST
    defines = any(not isinstance(node, (ast.Expr, ast.ImportFrom)) or _is_reexport(node) for node in tree.body)
    if defines:
        names = {target.id for node in tree.body for target in _targets(node) if isinstance(target, ast.Name)}
        assert '__all__' in names, f'{path} has no __all__'


@every_file
def test_a_docstring_that_names_a_layer_names_the_right_one(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
    for number in re.findall(r'^Layer (\d)\b', text, re.M):
        assert int(number) == layer_of(top(path))


def _targets(node: ast.stmt) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, ast.AnnAssign) else []


def _is_reexport(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module != '__future__'


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        path: {target for _, dotted in imports(path) if (target := own_module(dotted)) not in (None, path)}
        for path in FILES
    }
    done: set[Path] = set()

    def visit(path: Path, trail: tuple[Path, ...]) -> None:
        assert path not in trail, ' -> '.join(one.stem for one in (*trail[trail.index(path) :], path))
        if path not in done:
            for target in graph.get(path, ()):
                visit(target, (*trail, path))
            done.add(path)

    for path in FILES:
        visit(path, ())


def test_every_row_of_the_table_exists() -> None:
    present = {top(path) for path in FILES}
    for layer, names in LAYERS.items():
        for name in names:
            assert name in present, f'layer {layer} names {name}, which is gone'


def test_the_docstring_of_the_package_tells_the_same_layers() -> None:
    rows = re.findall(r'^ {4}(\d)  (\S+(?: \S+)*)  +(.+)$', gamqp.__doc__ or '', re.M)
    assert {int(number): name for number, name, _ in rows} == NAMES
    assert [int(number) for number, _, _ in rows] == sorted(LAYERS, reverse=True)
    for number, _, contents in rows:
        told = set(re.findall(r'\w+', re.sub(r'\(.*?\)', '', contents)))
        for name in told & {top(path) for path in FILES}:
            assert name in LAYERS[int(number)], f'the docstring puts {name} into layer {number}'


def test_the_walk_finds_a_breach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this, a mistake in the walk would be silence."""
    (tmp_path / 'state').mkdir()
    (tmp_path / 'exceptions.py').write_text('')
    (tmp_path / 'connection.py').write_text('')
    bad = tmp_path / 'state' / 'bad.py'
    for line in ('from .. import connection', 'from ..connection import x', 'import gamqp.connection'):
        bad.write_text(f'def f():\n    {line}\n')
        monkeypatch.setitem(globals(), 'ROOT', tmp_path)
        with pytest.raises(AssertionError, match=r'imports gamqp\.connection'):
            test_imports_its_own_layer_and_lower_ones_only(bad)
    bad.write_text('if TYPE_CHECKING:\n    from .. import connection\n')
    test_imports_its_own_layer_and_lower_ones_only(bad)
    with pytest.raises(AssertionError, match='which is not listed'):
        test_imports_for_annotations_alone_are_listed(bad)
    bad.write_text('import time\n')
    with pytest.raises(AssertionError, match='must not know time'):
        test_the_world_stays_out_of_the_lower_layers(bad)


@pytest.mark.parametrize(
    ('whole', 'owners'),
    [(Channel, {'Channel'}), (Connection, {'Connection', 'Dispatch'})],
    ids=['Channel', 'Connection'],
)
def test_a_mixin_holds_no_state(whole: type, owners: set[str]) -> None:
    """What its methods share is made, and gets its first value, in the class that owns it."""
    for part in whole.__mro__:
        if not part.__module__.startswith('gamqp.') or part.__name__ in owners:
            continue
        assert '__init__' not in vars(part), f'{part.__name__} makes state'
        for name, value in vars(part).items():
            is_code = callable(value) or isinstance(value, (property, classmethod, staticmethod))
            assert is_code or name.startswith('__'), f'{part.__name__}.{name} is state'
