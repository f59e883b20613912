"""The API reference has everything that is public, with a word on each, and nothing else."""

from __future__ import annotations

import ast
import inspect
import re
from typing import Any

import api_page
import pytest

import gamqp
from gamqp import exceptions
from gamqp.state import connection_settings


def test_each_class_of_the_package_is_on_the_page() -> None:
    offered = {getattr(gamqp, name) for name in gamqp.__all__}
    assert {one for one in offered if inspect.isclass(one) and not issubclass(one, tuple)} <= set(api_page.CLASSES)


@pytest.mark.parametrize('cls', api_page.CLASSES, ids=lambda cls: cls.__qualname__)
def test_each_member_on_the_page_exists_and_has_its_word(cls: Any) -> None:
    for name in api_page.told(cls):
        assert inspect.getdoc(inspect.getattr_static(cls, name)), f'{cls.__name__}.{name} has no docstring'


def test_every_error_is_in_the_module_that_the_page_takes_them_from() -> None:
    assert '.. automodule:: gamqp.exceptions\n   :members:' in api_page.PAGE
    for name in gamqp.__all__:
        one = getattr(gamqp, name)
        if inspect.isclass(one) and issubclass(one, BaseException):
            assert name in exceptions.__all__
            assert inspect.getdoc(one), f'{name} has no docstring'


# -- arguments of a connection -----------------------------------------------------------------

ROW = re.compile(r'^   \* - \*(\w+)\*\n     - ``(.+)``\n     -(.*)\n     -(.*)\n     - ([\d.]+)$', re.M)


def test_each_argument_of_a_connection_stands_once_with_its_default_and_version() -> None:
    rows = ROW.findall(api_page.PAGE)
    names = [name for name, *_ in rows]
    assert len(names) == len(set(names))
    assert set(names) == connection_settings.names()
    parameters = inspect.signature(gamqp.Connection.__init__).parameters
    for name, default, *_ in rows:
        assert ast.literal_eval(default) == parameters[name].default, name


def test_each_argument_that_is_a_time_or_a_size_has_its_unit() -> None:
    units = {name: unit.strip() for name, _, unit, _, _ in ROW.findall(api_page.PAGE)}
    for name in units:
        if name.endswith(('timeout', 'interval', 'warning')) or name == 'heartbeat':
            assert units[name] == 'seconds', name
        if name.startswith('max_') or name.endswith(('_max', '_limit')):
            assert units[name], name


def test_the_class_leads_to_the_list() -> None:
    assert '.. _connection-arguments:' in api_page.PAGE
    assert 'docs/api.rst' in (gamqp.Connection.__doc__ or '')
