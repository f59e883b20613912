"""The API reference has everything that is public, with a word on each, and nothing else."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import gamqp
from gamqp import exceptions
from gamqp.pool import Lease
from gamqp.state import connection_settings

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / 'docs' / 'api.rst').read_text(encoding='utf-8')
EVERY_STATE = ROOT / 'tests' / 'compat' / 'test_compat_every_state.py'

CLASSES = {
    one
    for name in gamqp.__all__
    if inspect.isclass(one := getattr(gamqp, name)) and not issubclass(one, (BaseException, tuple))
} | {Lease}
every_class = pytest.mark.parametrize('cls', sorted(CLASSES, key=lambda cls: cls.__name__))


def section(cls: type) -> str:
    """What stands below the directive of a class."""
    place = r'gamqp\.(?:\w+\.)*'
    found = re.findall(rf'^\.\. autoclass:: {place}{cls.__name__}(?:\(\))?\n((?:   .*\n|\n)*)', PAGE, re.M)
    assert len(found) == 1, f'{cls.__name__} stands {len(found)} times in docs/api.rst'
    return str(found[0])


def taken_from_docstrings(cls: type) -> set[str]:
    text = section(cls)
    listed = re.findall(r'^   :members: (.+)$', text, re.M)
    names = [name.strip() for one in listed for name in one.split(',')]
    return {*names, *re.findall(r'^   \.\. auto(?:method|property):: (\w+)$', text, re.M)}


def told_on_the_page(cls: type) -> set[str]:
    blocks = re.findall(r'^   \.\. attribute:: (\w+(?:\n {18}\w+)*)$', section(cls), re.M)
    return {name for block in blocks for name in block.split()}


@every_class
def test_each_member_on_the_page_exists_and_has_its_word(cls: Any) -> None:
    for name in taken_from_docstrings(cls):
        assert inspect.getdoc(inspect.getattr_static(cls, name)), f'{cls.__name__}.{name} has no docstring'


def known(*lists: str) -> set[str]:
    """The public names that the test of every state knows."""
    tree = ast.parse(EVERY_STATE.read_text(encoding='utf-8'))
    found = {
        ast.unparse(node.targets[0]): ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in lists
    }
    assert set(found) == set(lists)
    return {name for names in found.values() for name in names if not name.startswith('_')}


def test_the_page_has_everything_public_of_a_connection() -> None:
    page = taken_from_docstrings(gamqp.Connection) | told_on_the_page(gamqp.Connection)
    assert page == known('CONNECTION', 'CONNECTION_FACTS')


def test_the_page_has_everything_public_of_a_channel() -> None:
    page = taken_from_docstrings(gamqp.Channel) | told_on_the_page(gamqp.Channel)
    assert page == known('CHANNEL', 'CHANNEL_FACTS')


def test_every_error_is_in_the_module_that_the_page_takes_them_from() -> None:
    assert '.. automodule:: gamqp.exceptions\n   :members:' in PAGE
    for name in gamqp.__all__:
        one = getattr(gamqp, name)
        if inspect.isclass(one) and issubclass(one, BaseException):
            assert name in exceptions.__all__
            assert inspect.getdoc(one), f'{name} has no docstring'


# -- arguments of a connection -----------------------------------------------------------------

ROW = re.compile(r'^   \* - \*(\w+)\*\n     - ``(.+)``\n     -(.*)\n     -(.*)\n     - ([\d.]+)$', re.M)


def test_each_argument_of_a_connection_stands_once_with_its_default_and_version() -> None:
    rows = ROW.findall(PAGE)
    names = [name for name, *_ in rows]
    assert len(names) == len(set(names))
    assert set(names) == connection_settings.names()
    parameters = inspect.signature(gamqp.Connection.__init__).parameters
    for name, default, *_ in rows:
        assert ast.literal_eval(default) == parameters[name].default, name


def test_each_argument_that_is_a_time_or_a_size_has_its_unit() -> None:
    units = {name: unit.strip() for name, _, unit, _, _ in ROW.findall(PAGE)}
    for name in units:
        if name.endswith(('timeout', 'interval', 'warning')) or name == 'heartbeat':
            assert units[name] == 'seconds', name
        if name.startswith('max_') or name.endswith(('_max', '_limit')):
            assert units[name], name


def test_the_class_leads_to_the_list() -> None:
    assert '.. _connection-arguments:' in PAGE
    assert 'docs/api.rst' in (gamqp.Connection.__doc__ or '')
