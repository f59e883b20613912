"""py-amqp's names: each is here, takes what it takes, and gives what it gives. Compared with the installed py-amqp."""

from __future__ import annotations

import importlib
import inspect
import logging
import ssl
import struct
import warnings
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

import gamqp
from gamqp import exceptions, serialization, spec, utils

amqp = pytest.importorskip('amqp', reason='py-amqp is not installed')

MODULES = (
    'basic_message', 'channel', 'connection', 'exceptions', 'protocol', 'sasl', 'serialization', 'spec', 'transport',
    'utils',
)  # fmt: skip
#: How py-amqp is built inside, what it uses of others, and what it only leaves lying about.
INNER = {
    'AbstractChannel', 'AMQP_HEARTBEAT_LOGGER', 'AMQP_LOGGER', 'Queue', 'Thenable', 'coro',
    'set_cloexec', 'method_framing', 'AMQP_PROTOCOL_HEADER', 'DEFAULT_SOCKET_SETTINGS', 'IPV6_LITERAL',
}  # fmt: skip
METHODS_INNER = {
    'Transport', 'bytes_recv', 'bytes_sent', 'dispatch_method', 'frame_writer', 'on_inbound_frame',
    'on_inbound_method', 'prev_recv', 'prev_sent', 'send_method', 'then', 'wait', 'inbound_body', 'inbound_header',
    'frame_handler_cls', 'frame_writer_cls',
}  # fmt: skip


def parameters(function: Any) -> dict[str, Any]:
    return {
        name: one
        for name, one in inspect.signature(function).parameters.items()
        if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL) and name not in ('self', 'argsig')
    }


@pytest.mark.parametrize('name', MODULES)
def test_a_module_has_the_classes_and_functions_of_its_twin(name: str) -> None:
    theirs, ours = importlib.import_module(f'amqp.{name}'), importlib.import_module(f'gamqp.{name}')
    for one, thing in vars(theirs).items():
        if one.startswith('_') or one in INNER or getattr(thing, '__module__', '') != theirs.__name__:
            continue
        assert hasattr(ours, one), f'gamqp.{name}.{one}'


def test_the_package_offers_what_py_amqp_lists() -> None:
    missing = [name for name in amqp.__all__ if not hasattr(gamqp, name)]
    assert missing == []
    assert gamqp.promise is amqp.promise  # vine's, where vine is
    assert gamqp.version_info_t._fields == amqp.version_info_t._fields
    assert gamqp.version_info == gamqp.VERSION


@pytest.mark.parametrize('name', ['Connection', 'Channel', 'Message'])
def test_a_class_has_the_methods_of_its_twin_with_their_parameters(name: str) -> None:
    theirs, ours = getattr(amqp, name), getattr(gamqp, name)
    for member in dir(theirs):
        if member.startswith('_') or member in METHODS_INNER:
            continue
        function = inspect.getattr_static(theirs, member)
        if not inspect.isfunction(function):
            continue  # attributes: see below, on live objects
        assert callable(getattr(ours, member, None)), member
        if member == 'basic_publish_confirm':
            continue  # takes anything there
        mine, yours = parameters(getattr(ours, member)), parameters(function)
        assert list(mine)[: len(yours)] == list(yours), member
        for parameter, one in yours.items():
            assert mine[parameter].default == one.default, f'{member}({parameter}=)'


def test_a_connection_is_made_with_the_same_arguments() -> None:
    mine, yours = parameters(gamqp.Connection.__init__), parameters(amqp.Connection.__init__)
    assert list(mine)[: len(yours)] == list(yours)
    # In py-amqp nobody sends them unless the program ticks, so they are off until asked for; ours are sent.
    different = {name for name, one in yours.items() if mine[name].default != one.default}
    assert different <= {'heartbeat', 'authentication', 'frame_handler', 'frame_writer'}


def test_objects_have_the_attributes_of_their_twins() -> None:
    names = {name for name in vars(amqp.Connection()) if not name.startswith('_')} - METHODS_INNER
    connection = gamqp.Connection()
    assert [name for name in names if not hasattr(connection, name)] == ['connection_id'][: 'connection_id' in names]
    message = gamqp.Message('x')
    for name in ('body', 'properties', 'delivery_info', 'delivery_tag', 'channel', 'headers', 'CLASS_ID', 'PROPERTIES'):
        assert hasattr(message, name), name
    theirs = amqp.Message('x')
    for name in ('body_size', 'body_received', 'ready', 'frame_method', 'frame_args'):
        assert getattr(message, name) == getattr(theirs, name), name


def test_names_that_programs_take_from_modules() -> None:
    assert gamqp.connection.SSLError is amqp.connection.SSLError is ssl.SSLError


def test_get_logger() -> None:
    for module in (utils, amqp.utils):
        logger = module.get_logger(f'test.{module.__name__}')
        assert logger is logging.getLogger(f'test.{module.__name__}')
        assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]
        assert module.get_logger(logger) is logger
        assert len(logger.handlers) == 1


def test_names_that_py_amqp_removed_stay_removed() -> None:
    assert not hasattr(gamqp.Channel, 'access_request')
    for function in (gamqp.Channel.exchange_declare, gamqp.Channel.queue_declare, gamqp.Channel.basic_publish):
        assert 'ticket' not in inspect.signature(function).parameters
    connection = gamqp.Connection(insist=True, known_hosts='x')  # kombu gives it: ignored
    assert not hasattr(connection, 'insist')
    assert not hasattr(connection, 'known_hosts')
    assert not hasattr(gamqp.Channel, 'alerts')
    assert not hasattr(gamqp.Connection(), 'alerts')


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match='nonsense'):
        gamqp.nonsense  # noqa: B018


@pytest.mark.parametrize('name', ['Basic', 'Channel', 'Confirm', 'Connection', 'Exchange', 'Queue', 'Tx'])
def test_numbers_of_methods(name: str) -> None:
    theirs, ours = getattr(amqp.spec, name), getattr(spec, name)
    assert inspect.isclass(ours)
    for one, number in vars(theirs).items():
        if not one.startswith('_'):
            assert getattr(ours, one) == number, one


def test_method_of_spec() -> None:
    assert spec.method((60, 80), 'Lb') == amqp.spec.method((60, 80), 'Lb')
    assert spec.method_t._fields == amqp.spec.method_t._fields


# -- serialization and utils -----------------------------------------------------------------

TABLE = {
    'int': 7, 'big': 2**40, 'text': 'straße', 'yes': True, 'no': False, 'none': None, 'list': [1, 'a', {'deep': 1}],
    'when': datetime(2026, 1, 2, 3, 4, 5), 'exact': Decimal('1.25'), 'bytes': b'\x00\xff',
}  # fmt: skip
CALLS: tuple[tuple[str, list[Any]], ...] = (
    ('oBlL', [1, 2, 3, 4]),
    ('bbbb', [True, False, True, True]),
    ('sS', ['short', 'long' * 100]),
    ('bsb', [True, 'x', False]),
    ('F', [TABLE]),
    ('T', [datetime(2026, 1, 2, 3, 4, 5)]),
)


@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # of py-amqp, which uses utcfromtimestamp
@pytest.mark.parametrize(('letters', 'values'), CALLS, ids=[letters for letters, _ in CALLS])
def test_each_reads_what_the_other_writes(letters: str, values: list[Any]) -> None:
    theirs, ours = amqp.serialization.dumps(letters, values), serialization.dumps(letters, values)
    assert amqp.serialization.loads(letters, ours, 0)[1] == len(ours)
    read, offset = serialization.loads(letters, theirs, 0)
    assert offset == len(theirs)
    again, _ = serialization.loads(letters, ours, 0)
    assert read == again


def test_bad_bytes_are_an_error_with_a_name() -> None:
    with pytest.raises(exceptions.FrameSyntaxError):
        serialization.loads('s', b'\x05ab', 0)
    with pytest.raises(exceptions.EncodeError):
        serialization.dumps('s', ['x' * 300])


def test_properties_of_a_header() -> None:
    message = amqp.Message('x', content_type='text/plain', priority=3, application_headers={'a': 1})
    payload = struct.pack('>HHQ', 60, 0, 5) + message._serialize_properties()
    theirs = amqp.serialization.decode_properties_basic(payload, 12)
    assert serialization.decode_properties_basic(payload, 12) == theirs
    content = serialization.GenericContent()
    assert content.inbound_header(payload) == len(payload)
    assert (content.body_size, content.ready, content.properties) == (5, False, theirs[0])
    content.inbound_body(b'12')
    content.inbound_body(memoryview(b'345'))
    assert content.ready and content.body == b'12345'


def test_utils() -> None:
    for value in ('straße', b'stra\xc3\x9fe', 5, None, '\ud800'):
        assert utils.str_to_bytes(value) == amqp.utils.str_to_bytes(value)
        assert utils.bytes_to_str(value) == amqp.utils.bytes_to_str(value)


# -- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'code', [200, 311, 313, 320, 402, 403, 404, 405, 406, 501, 502, 503, 504, 505, 506, 530, 540, 541]
)
def test_an_error_for_a_code_is_of_the_same_class(code: int) -> None:
    for module in (gamqp, amqp):
        error = module.error_for_code(code, 'text', (50, 10), module.ChannelError)
        assert isinstance(error, module.AMQPError)
    mine = gamqp.error_for_code(code, 'text', (50, 10), gamqp.ChannelError)
    assert type(mine).__name__ == type(amqp.error_for_code(code, 'text', (50, 10), amqp.ChannelError)).__name__
    assert (mine.reply_code, mine.reply_text, mine.method_sig, mine.method_name) == (
        code,
        'text',
        (50, 10),
        'Queue.declare',
    )


@pytest.mark.parametrize(
    'name', ['connection_errors', 'channel_errors', 'recoverable_connection_errors', 'recoverable_channel_errors']
)
def test_what_a_program_catches(name: str) -> None:
    ours = {error.__name__ for error in getattr(gamqp.Connection, name)}
    theirs = {error.__name__ for error in getattr(amqp.Connection, name)}
    # IOError, select.error and the like are names of OSError; so is socket.timeout.
    assert theirs - ours <= {'error', 'SSLError', 'timeout', 'TimeoutError'}


def test_the_warning_of_exchange_declare_is_not_shown_by_default() -> None:
    """py-amqp has the class, and no longer uses it."""
    assert issubclass(gamqp.channel.VDeprecationWarning, DeprecationWarning)
    with warnings.catch_warnings(record=True) as seen:
        warnings.resetwarnings()
        warnings.simplefilter('ignore', DeprecationWarning)
        warnings.warn('x', gamqp.channel.VDeprecationWarning, stacklevel=1)
    assert not seen
