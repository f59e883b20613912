"""What gamqp offers by name: every name exists, nothing is offered by accident, and errors behave as py-amqp's."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
from typing import Any

import pytest

import gamqp
from gamqp import exceptions
from gamqp.wire.spec import METHODS

# Backends are loaded on demand: one of the two libraries may be missing.
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(gamqp.__path__, 'gamqp.')
    if module.name not in ('gamqp.green._eventlet', 'gamqp.green._gevent')
)
ERRORS = sorted(
    (
        error
        for error in vars(exceptions).values()
        if isinstance(error, type) and issubclass(error, exceptions.AMQPError)
    ),
    key=lambda error: error.__name__,
)
every_error = pytest.mark.parametrize('error', ERRORS, ids=[error.__name__ for error in ERRORS])


@pytest.mark.parametrize('name', MODULES)
def test_every_name_in_all_exists_once(name: str) -> None:
    module = importlib.import_module(name)
    listed = getattr(module, '__all__', ())
    assert len(set(listed)) == len(listed)
    for one in listed:
        assert hasattr(module, one), f'{name}.__all__ names {one}, which does not exist'


def test_the_package_offers_what_it_lists_and_no_more() -> None:
    modules = {name.split('.')[1] for name in MODULES}
    # '@': what pytest adds to every module of a package that has a plugin for it.
    public = {name for name in vars(gamqp) if not name.startswith(('_', '@'))} - modules - {'annotations'}
    assert public == {name for name in gamqp.__all__ if not name.startswith('_')}


def test_the_package_offers_what_programs_take_from_it() -> None:
    for name in ('Connection', 'Channel', 'Message', 'connect', 'VERSION', '__version__', 'error_for_code'):
        assert name in gamqp.__all__
    assert gamqp.Connection.Channel is gamqp.Channel


def test_all_errors_but_our_own_are_offered_at_the_top() -> None:
    for error in ERRORS:
        if error.__name__ not in ('Blocked', 'InboundBodyTooLarge'):
            assert getattr(gamqp, error.__name__) is error


def test_the_version_agrees_with_its_parts() -> None:
    assert '.'.join(str(part) for part in gamqp.VERSION[:3]) + gamqp.VERSION.releaselevel == gamqp.__version__


# -- errors ---------------------------------------------------------------------------


def test_names_of_methods_agree_with_the_table_of_the_wire() -> None:
    names = {}
    for sig, method in METHODS.items():
        class_name, _, name = method.name.partition('.')
        names[sig] = f'{class_name.capitalize()}.{name.replace("-", "_")}'
    assert names == exceptions.METHOD_NAME_MAP


@every_error
def test_an_error_survives_pickle_and_copy(error: Any) -> None:
    original = error('what happened', (50, 10), reply_code=499)
    original.extra = 'kept'
    for again in (pickle.loads(pickle.dumps(original)), copy.copy(original), copy.deepcopy(original)):
        assert type(again) is error
        assert again is not original
        assert str(again) == str(original)
        assert again.args == original.args
        assert vars(again) == vars(original)


@every_error
def test_an_error_tells_code_text_and_method(error: Any) -> None:
    exc = error('what happened', (50, 10))
    assert (exc.reply_code, exc.code) == (error.code, error.code)
    assert (exc.reply_text, exc.message) == ('what happened', 'what happened')
    assert (exc.method_sig, exc.method_name, exc.method) == ((50, 10), 'Queue.declare', 'Queue.declare')
    assert exc.args == (error.code, 'what happened', (50, 10), 'Queue.declare')
    assert str(exc) == f'Queue.declare: ({error.code}) what happened'


def test_an_error_of_no_method_in_particular_is_its_text() -> None:
    assert str(exceptions.NotFound('gone')) == 'gone'
    assert str(exceptions.NotFound('gone', (0, 0))) == 'gone'
    assert str(exceptions.NotFound()) == '<NotFound: unknown error>'
    assert str(exceptions.NotFound('gone', (99, 1))) == '(99, 1): (404) gone'


def test_an_error_without_a_text_says_what_py_amqps_says() -> None:
    assert str(exceptions.AMQPError(method_sig=(50, 60))) == '(50, 60): (0) None'
    assert str(exceptions.NotFound(method_name='Queue.declare')) == 'Queue.declare: (404) None'
    assert str(exceptions.NotFound('', (50, 10))) == 'Queue.declare: (404) '
    error = exceptions.AccessRefused(method_name='Connection.open')
    error.hint = 'what to do'
    assert str(error) == 'Connection.open: (403) None (what to do)'


def test_codes_make_their_errors() -> None:
    by_code = {error.code: error for error in ERRORS if error.code and '__init__' not in vars(error)}
    for code in by_code:
        made = exceptions.error_for_code(code, 'text', (60, 40), exceptions.ChannelError)
        assert made.reply_code == code
        assert made.reply_text == 'text'
        assert type(made).code == code
    unknown = exceptions.error_for_code(799, 'text', None, exceptions.ChannelError)
    assert type(unknown) is exceptions.ChannelError
    assert unknown.reply_code == 799


def test_what_kombu_decides_by() -> None:
    """Whether to connect again is decided by class, so the classes must stand where py-amqp's do."""
    recoverable = exceptions.RecoverableConnectionError
    for error in (
        exceptions.ConnectionForced,
        exceptions.ResourceError,
        exceptions.Blocked,
        exceptions.ConsumerCancelled,
    ):
        assert issubclass(error, recoverable)
    assert issubclass(exceptions.ConsumerCancelled, exceptions.RecoverableChannelError)
    for error in (exceptions.NotFound, exceptions.AccessRefused, exceptions.PreconditionFailed):
        assert issubclass(error, exceptions.IrrecoverableChannelError)
    for error in (exceptions.FrameError, exceptions.NotAllowed, exceptions.InternalError, exceptions.UnexpectedFrame):
        assert issubclass(error, exceptions.IrrecoverableConnectionError)
    assert issubclass(exceptions.EncodeError, ValueError)
    assert not issubclass(exceptions.MessageNacked, exceptions.AMQPError)
    assert exceptions.MessageNacked in gamqp.Connection.recoverable_connection_errors
    assert OSError in gamqp.Connection.connection_errors
    assert exceptions.ChannelError in gamqp.Connection.channel_errors


@every_error
def test_an_error_stands_where_it_stands_in_py_amqp(error: type) -> None:
    theirs = pytest.importorskip('amqp.exceptions')
    twin = getattr(theirs, error.__name__, None)
    if twin is None:
        pytest.skip('our own')
    ours = {base.__name__ for base in error.__mro__}
    assert {base.__name__ for base in twin.__mro__} <= ours
    assert error.code == twin.code  # type: ignore[attr-defined]
