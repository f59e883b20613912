"""The architecture page is true of the code: its files, its names, its picture; and the code keeps to its words."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import gamqp
from gamqp.state.lifecycle import TRANSITIONS
from gamqp.wire import METHODS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'gamqp'
PAGE = (ROOT / 'docs' / 'architecture.rst').read_text(encoding='utf-8')
LITERALS = sorted(set(re.findall(r'``([^`]+)``', PAGE)))
FILES = [one for one in LITERALS if re.fullmatch(r'[\w/]+(\.py|/)', one)]
NAMES = [one for one in LITERALS if re.fullmatch(r'[A-Za-z_][\w.]*(\(\))?', one) and one not in FILES]

#: Names on the page that are not gamqp's.
FOREIGN = {'GreenletExit', 'gevent.Timeout', 'socket', 'ssl', *(method.name for method in METHODS.values())}

#: Words that were given up for plain ones. What is called so is called by one of the glossary's words.
FORBIDDEN = {
    'backlog', 'door', 'doors', 'farewell', 'goodbye', 'hall', 'inlet', 'intake', 'pacemaker', 'pacing', 'pulse',
    'supply', 'telling', 'turnstile',
}  # fmt: skip


class Definitions:
    """Everything in gamqp that has a name: by itself, and by the class that it stands in."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.members: dict[str, set[str]] = defaultdict(set)
        self.bases: dict[str, set[str]] = defaultdict(set)
        self.files: dict[str, list[str]] = defaultdict(list)  # of each class
        for path in sorted(PACKAGE.rglob('*.py')):
            where = path.relative_to(PACKAGE).as_posix()
            self.names.add(path.stem)
            for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
                self.names.update(_named(node))
                if isinstance(node, ast.ClassDef):
                    self.files[node.name].append(where)
                    self.bases[node.name].update(ast.unparse(base).split('.')[-1] for base in node.bases)
                    for inner in ast.walk(node):
                        self.members[node.name].update(_named(inner))

    def has_member(self, owner: str, name: str) -> bool:
        return name in self.members[owner] or any(self.has_member(base, name) for base in self.bases[owner])


def _named(node: ast.AST) -> Iterator[str]:
    """The names that a node gives to something."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
        yield node.id if isinstance(node, ast.Name) else node.attr


@pytest.fixture(scope='module')
def code() -> Definitions:
    return Definitions()


def extension(name: str) -> ModuleType:
    """One of the documentation's own directives."""
    spec = importlib.util.spec_from_file_location(f'docs_{name}', ROOT / 'docs' / f'{name}.py')
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def picture() -> ModuleType:
    return extension('imports')


@pytest.mark.parametrize('name', FILES)
def test_a_file_that_the_page_names_exists(name: str) -> None:
    assert (PACKAGE / name).exists() or (ROOT / name).exists()


@pytest.mark.parametrize('name', NAMES)
def test_a_name_on_the_page_is_one_of_the_code(name: str, code: Definitions) -> None:
    name = name.removesuffix('()')
    if name in FOREIGN:
        return
    owner, _, member = name.rpartition('.')
    if owner:
        assert owner in code.files, f'{owner} is no class of gamqp'
        assert code.has_member(owner, member), f'{owner} has no {member}'
    else:
        assert name in code.names, f'nothing in gamqp is called {name}'


def test_the_page_names_enough_to_be_held_to_it() -> None:
    assert len(FILES) > 30
    assert len(NAMES) > 40


def test_each_package_is_told() -> None:
    for path in PACKAGE.iterdir():
        if path.is_dir() and (path / '__init__.py').is_file():
            assert f'``{path.name}/``' in PAGE


# -- the picture -----------------------------------------------------------------------------


def test_the_picture_has_every_package_and_its_arrows_point_down(picture: ModuleType) -> None:
    layer = {room: number for number, (_, rooms) in enumerate(reversed(picture.layers())) for room in rooms}
    packages = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / '__init__.py').is_file()}
    assert packages <= set(layer)
    graph = picture.imports()
    assert {'channel', 'green', 'io'} <= graph['connection']
    for room, others in graph.items():
        assert all(layer[other] <= layer[room] for other in others), room


def test_both_forms_of_the_picture_tell_the_same(picture: ModuleType) -> None:
    dot, table = picture.dot(), picture.table()
    for room, others in picture.without_detours(picture.imports()).items():
        for other in others:
            assert f'"{room}" -> "{other}";' in dot
        assert f'     - {room}\n     - {", ".join(sorted(others)) or "nothing of gamqp"}' in table
    assert dot.count('{') == dot.count('}')


def test_arrows_that_others_imply_are_left_out(picture: ModuleType) -> None:
    graph = {'a': {'b', 'c'}, 'b': {'c'}, 'c': set()}
    assert picture.without_detours(graph) == {'a': {'b'}, 'b': {'c'}, 'c': set()}
    circle = {'a': {'b', 'c'}, 'b': {'a', 'c'}, 'c': set()}
    assert picture.without_detours(circle) == circle


# -- words -----------------------------------------------------------------------------------


def glossary() -> dict[str, str]:
    """Each word of the glossary with what is said of it."""
    _, _, text = PAGE.partition('.. glossary::')
    return dict(re.findall(r'^   (\S.*)\n((?:      .*\n?)+)', text, re.M))


def test_every_public_class_is_in_the_glossary() -> None:
    told = ' '.join(glossary().values())
    for name in gamqp.__all__:
        one = getattr(gamqp, name)
        if inspect.isclass(one) and not issubclass(one, (BaseException, tuple)) and name != 'promise':
            assert f'``{name}``' in told, f'the glossary does not say what {name} is'


def test_the_glossary_says_each_thing_once() -> None:
    words = re.findall(r'^   (\w[\w ]*)$', PAGE.partition('.. glossary::')[2], re.M)
    assert len(words) == len(set(words)) == len(glossary())


def test_words_that_were_given_up_are_no_names(code: Definitions) -> None:
    for name in code.names:
        parts = {part.lower() for part in re.findall(r'[A-Z]?[a-z]+|[A-Z]+(?![a-z])', name)}
        assert not parts & FORBIDDEN, name


def test_no_two_classes_have_one_name(code: Definitions) -> None:
    """But for the two backends, the classes of the protocol in wire/spec.py, and those that bear kombu's names."""
    for name, files in code.files.items():
        places = [file for file in files if file != 'wire/spec.py' and not file.startswith(('green/_', 'kombu/'))]
        assert len(places) <= 1, f'{name}: {places}'


def test_the_picture_of_the_states_has_what_a_connection_can_do_and_so_has_its_table() -> None:
    states = extension('states')
    drawn = {(before, after) for before, after, _ in states.MOVES}
    # Only channels are reopened, and lost while they are opened.
    events = {(state, event) for state, moves in TRANSITIONS.items() for event in moves if event != 'reopen'}
    events -= {('opening', 'lose'), ('opening', 'close')}
    assert drawn == {(state, TRANSITIONS[state][event]) for state, event in events}
    table = (ROOT / 'docs' / 'recovery.rst').read_text(encoding='utf-8')
    rows = re.findall(r'^(\w+) {2,}(\w+(?:, \w+)*) {2,}\S', table[table.index('.. states::') :], re.M)
    assert {(state, after) for state, afters in rows if state in TRANSITIONS for after in afters.split(', ')} == drawn
    assert states.dot().count('->') == len(drawn)
