"""Settings: what each argument of a connection takes, and that whatever cannot be meant is refused by its name."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import ssl
from decimal import Decimal
from fractions import Fraction
from typing import Any

import inside
import pytest

import gamqp
from gamqp.state import connection_settings
from gamqp.state.connection_settings import Settings
from gamqp.state.host_and_port import to_host_port

#: Of every number: what is no number at all.
NO_NUMBERS = ['5', b'5', '', True, [5], object(), Decimal(5), 1j]

#: name -> (good values and what they become, bad numbers). NO_NUMBERS are bad for all, None where it is in no list.
NUMBERS: dict[str, tuple[dict[Any, Any], list[Any]]] = {
    'connect_timeout': ({None: 10.0, 0.5: 0.5, 3: 3, Fraction(1, 2): Fraction(1, 2)}, [0, -1, math.nan, math.inf]),
    'rpc_timeout': ({0.001: 0.001, 1e9: 1e9}, [None, 0, -1, math.nan, math.inf, 10**400]),
    'confirm_timeout': ({7: 7}, [None, 0, 0.0, -0.5, math.nan, math.inf]),
    'read_timeout': ({None: None, 0: None, 2.5: 2.5}, [-1, math.nan, math.inf]),
    'write_timeout': ({None: None, 0: None, 2.5: 2.5}, [-1, math.nan, -math.inf]),
    'heartbeat': ({None: None, 0: 0, 0.5: 0.5, 65535: 65535}, [-1, 65536, math.nan, math.inf]),
    'channel_max': ({None: 2047, 0: 0, 1: 1, 65535: 65535}, [-1, 65536, 1.5, 10**30]),
    'frame_max': ({None: 131072, 0: 0, 4096: 4096, 2**32 - 1: 2**32 - 1}, [-1, 1, 4095, 2**32, 8192.0]),
    'outstanding_limit': ({0: 0, 1: 1}, [None, -1, 1.0, math.inf]),
    'blocked_timeout': ({None: None, 0: 0, 3: 3}, [-1, math.nan, math.inf]),
    'max_inbound_body': ({1: 1, 2**40: 2**40}, [None, 0, -1, 1.0]),
    'max_undelivered_bytes': ({0: 0, 1: 1}, [None, -1, 1.0]),
    'max_undelivered_messages': ({0: 0, 1: 1}, [None, -1, 1.0]),
    'unsettled_warning': ({None: None, 0: None, 30: 30}, [-1, math.nan, math.inf]),
    'metrics_interval': ({0.1: 0.1}, [None, 0, -1, math.nan, math.inf]),
}

#: name -> (good values, bad values) of what is no number.
OTHERS: dict[str, tuple[list[Any], list[Any]]] = {
    'host': (['a', 'a:1', '[::1]:5', '::1', '::1:5672'], [None, b'a', 5, '', ':5672', 'a:0', 'a:65536', 'a:b', 'a\0b']),
    'virtual_host': (['', '/', 'ä' * 127], [None, 5, b'/', 'ä' * 128]),
    'userid': ([None, '', 'ä'], [5, b'guest']),
    'password': ([None, '', 'ä', str], [5, b'guest', []]),
    'refresh_secret': ([None, True, False, 0.5, 300], ['300', 'true', -1, 0, math.nan, math.inf, []]),
    'login_method': ([None, 'PLAIN', ('PLAIN', 'AMQPLAIN')], [5, ('PLAIN', 5)]),
    'login_response': ([None, b''], ['text', 5]),
    'authentication': ([(), gamqp.sasl.EXTERNAL(), [gamqp.sasl.EXTERNAL()]], ['PLAIN', 5]),
    'locale': (['de_DE'], [None, 5, 'x' * 256]),
    'name': ([None, 'a'], [5, b'a']),
    'client_properties': ([None, {}, {'a': 1}], ['text', 5, [('a', 1)]]),
    'ssl': ([None, False, True, 0, 1, '1', 'true', {}, ssl.create_default_context()], []),  # the rest is TLS's matter
    'socket_settings': ([None, {}, {1: 2, 3: None}], [5, 'text', {'1': 2}, {1: '2'}, {1: -1}]),
    'heartbeat_thread': ([True, False, 1, 0, None], ['false', 2, 'yes', []]),
    'confirm_publish': ([True, False, 1, 0, None], ['false', 2, 'yes', []]),
    'combine_acks': ([True, False, 1, 0, None], ['false', 2, 'yes', []]),
    'spool': ([True, False, 1, 0, None], ['false', 2, 'yes', []]),
    'blocked_policy': (['wait', 'raise', 'pass'], [None, 'ignore', 5]),
    'on_open': ([None, print], ['print', 5]),
    'on_tune_ok': ([None, print], ['print', 5]),
    'on_blocked': ([None, print], ['print', 5]),
    'on_unblocked': ([None, print], ['print', 5]),
    'on_lost': ([None, print], ['print', 5]),
    'recover': ([None, False, True, gamqp.Recovery()], [1, 'yes', {}]),
    'on_recovering': ([None, print], ['print', 5]),
    'on_recovered': ([None, print], ['print', 5]),
    'on_given_up': ([None, print], ['print', 5]),
    'metrics': ([None, print], ['print', 5]),
    'frame_handler': ([None, 5], []),
    'frame_writer': ([None, 5], []),
}


def bad(table: dict[str, tuple[Any, list[Any]]], more: list[Any]) -> list[Any]:
    return [
        pytest.param(name, value, id=f'{name}-{str(value)[:20]}')
        for name, (_, refused) in table.items()
        for value in [*refused, *more]
    ]


def test_every_argument_is_in_one_of_the_tables_and_is_checked() -> None:
    assert {*NUMBERS, *OTHERS} == connection_settings.names()
    unchecked = {one.name for one in dataclasses.fields(Settings) if 'check' not in one.metadata}
    assert unchecked == {'frame_handler', 'frame_writer'}


@pytest.mark.parametrize('name', NUMBERS)
def test_numbers_mean_what_the_documentation_says(name: str) -> None:
    for value, meant in NUMBERS[name][0].items():
        assert getattr(Settings(**{name: value}), name) == meant


@pytest.mark.parametrize(('name', 'value'), bad(NUMBERS, NO_NUMBERS))
def test_a_number_that_cannot_be_meant_is_refused_by_its_name(name: str, value: Any) -> None:
    for make in (Settings, gamqp.Connection):
        with pytest.raises((TypeError, ValueError), match=rf'^{name}: '):
            make(**{name: value})
    with pytest.raises((TypeError, ValueError), match=rf'^{name}: '):
        gamqp.Pool('amqp://', **{name: value})
    with pytest.raises((TypeError, ValueError), match=rf'^{name}: '):
        gamqp.connect('amqp://127.0.0.1:1', **{name: value})


def test_a_number_as_text_is_a_type_error_that_shows_it() -> None:
    with pytest.raises(TypeError, match="heartbeat: a number of seconds is wanted, not the text '30'"):
        gamqp.Connection(heartbeat='30')  # type: ignore[arg-type]


@pytest.mark.parametrize('name', OTHERS)
def test_other_arguments_take_what_is_documented(name: str) -> None:
    for value in OTHERS[name][0]:
        Settings(**{name: value})


@pytest.mark.parametrize(('name', 'value'), bad(OTHERS, []))
def test_other_arguments_are_refused_by_their_name(name: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=rf'^{name}: '):
        gamqp.Connection(**{name: value})


def test_heartbeat_false_is_off_and_true_is_no_number() -> None:
    assert Settings(heartbeat=False).heartbeat == 0
    with pytest.raises(TypeError, match='heartbeat'):
        Settings(heartbeat=True)


@pytest.mark.parametrize(('value', 'meant'), [(None, False), (0, False), (1, True), ('1', True), ('True', True)])
def test_ssl_of_other_spellings(value: Any, meant: bool) -> None:
    connection = gamqp.Connection(ssl=value)
    assert connection.ssl is meant
    assert any(type(one).__name__ == 'EXTERNAL' for one in connection.authentication) is meant


@pytest.mark.parametrize('value', ['no', '0', 'false', '', 2, -1, 0.0, []])
def test_an_ssl_argument_that_cannot_be_understood_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match='ssl'):
        gamqp.Connection(ssl=value)


def test_secrets_are_in_no_repr() -> None:
    made = Settings(password='hunter2', login_response=b'hunter2', ssl={'certfile': 'x', 'password': 'hunter2'})
    assert 'hunter2' not in repr(made)


@pytest.mark.parametrize('value', [b'hunter2', ['hunter2'], 5])
def test_a_password_of_another_kind_is_not_quoted(value: Any) -> None:
    with pytest.raises(TypeError, match=r'^password: ') as caught:
        gamqp.Connection(password=value)
    assert 'hunter2' not in str(caught.value)


def test_settings_are_frozen_and_attributes_are_not() -> None:
    connection = gamqp.Connection(rpc_timeout=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        inside.settings(connection).rpc_timeout = 5  # type: ignore[misc]
    connection.rpc_timeout = 5
    assert inside.settings(connection).rpc_timeout == 3


def test_arguments_make_the_same_settings_again() -> None:
    made = Settings(read_timeout=0, channel_max=None, ssl=1, client_properties=None, heartbeat=False)
    assert Settings(**made.arguments()) == made


# -- signature, fields and documentation ------------------------------------------------------------------


def parameters() -> dict[str, inspect.Parameter]:
    found = dict(inspect.signature(gamqp.Connection.__init__).parameters)
    return {name: one for name, one in found.items() if name not in ('self', 'others')}


def test_a_connection_takes_exactly_the_settings_with_the_same_defaults() -> None:
    assert set(parameters()) == connection_settings.names()
    defaults = {name: one.default for name, one in parameters().items()}
    assert Settings(**defaults) == Settings()


def test_the_docstring_names_each_argument_and_its_default() -> None:
    text = re.sub(r'\s+', ' ', gamqp.Connection.__doc__ or '')
    missing = [name for name in parameters() if not re.search(rf'\b{name}\b', text)]
    assert missing == []
    untold = [
        name
        for name, one in parameters().items()
        if isinstance(one.default, (int, float)) and not isinstance(one.default, bool)
        if not re.search(rf'\b{name}\b[^.;:]*\({one.default:g}\)'.replace('+', r'\+'), text)
        and not re.search(rf'\b{name}\b[^.;:]*\({one.default:.0f}\)', text)
    ]
    assert untold == []


# -- names that are none ------------------------------------------------------------------------------------

SYNONYMS = [
    ('port', 'host='), ('hostname', 'host='), ('username', 'userid'), ('user', 'userid'), ('passwd', 'password'),
    ('vhost', 'virtual_host'), ('use_ssl', 'ssl='), ('ssl_options', 'ssl='), ('tls', 'ssl='), ('ca_certs', 'ssl='),
    ('heartbeats', 'heartbeat'), ('heartbeat_interval', 'heartbeat'), ('timeout', 'connect_timeout'),
    ('publisher_confirms', 'confirm_publish'), ('connection_name', 'name'), ('uri', r'gamqp\.connect'),
    ('blocked_connection_timeout', 'blocked_timeout'), ('token', 'password'), ('virtual_hots', 'virtual_host'),
    ('hearbeat', 'heartbeat'), ('max_undelivered_message', 'max_undelivered_messages'), ('PORT', 'host='),
    ('hosts', r'gamqp\.connect\(\['), ('urls', r'gamqp\.connect\(\['),
]  # fmt: skip


@pytest.mark.parametrize(('name', 'meant'), SYNONYMS)
def test_a_name_that_means_one_of_ours_is_a_type_error_that_says_which(name: str, meant: str) -> None:
    for call in (
        lambda: gamqp.Connection(**{name: 1}),
        lambda: gamqp.connect('amqp://127.0.0.1:1', **{name: 1}),
        lambda: gamqp.Pool('amqp://127.0.0.1:1', **{name: 1}) if name != 'timeout' else gamqp.Connection(timeout=1),
    ):
        with pytest.raises(TypeError, match=rf"there is no argument '{name}'; did you mean {meant}"):
            call()


def test_no_name_of_ours_is_taken_for_another() -> None:
    assert not connection_settings.names() & {*connection_settings.SYNONYMS, *connection_settings.KOMBU_OPTIONS}


@pytest.mark.parametrize(('call', 'name'), [(gamqp.connect, 'heartbeat'), (gamqp.Pool, 'channels_per_connection')])
def test_connect_and_pool_refuse_every_other_name_and_list_theirs(call: Any, name: str) -> None:
    with pytest.raises(TypeError, match=rf"there is no argument 'zzz'; there are .*\b{name}\b"):
        call('amqp://127.0.0.1:1', zzz=1)
    with pytest.raises(TypeError, match='insist'):
        call('amqp://127.0.0.1:1', insist=False)


def test_a_pool_knows_its_own_names() -> None:
    with pytest.raises(TypeError, match="there is no argument 'conections'; did you mean connections"):
        gamqp.Pool('amqp://127.0.0.1:1', conections=2)


@pytest.mark.parametrize(
    'name',
    [
        'insist', 'max_retries', 'interval_start', 'interval_step', 'interval_max', 'retry_policy', 'polling_interval',
        'visibility_timeout', 'fanout_prefix', 'fanout_patterns', 'socket_timeout', 'socket_connect_timeout',
        'socket_keepalive', 'socket_keepalive_options', 'max_connections', 'priority_steps', 'queue_order_strategy',
        'global_keyprefix', 'master_name', 'sentinel_kwargs', 'region', 'queue_name_prefix', 'wait_time_seconds',
        'deadletter_queue', 'body_encoding', 'data_folder_in', 'data_folder_out', 'health_check_interval',
        'retry_on_timeout', 'allow_create_topics', 'errback', 'secure', 'sasl_mechanism', 'is_secure', 'client',
    ],
)  # fmt: skip
def test_what_users_of_kombu_have_in_transport_options_is_ignored(name: str) -> None:
    gamqp.Connection(**{name: 'x'})


# -- from a URI -----------------------------------------------------------------------------------------------


def test_arguments_go_before_what_the_uri_says() -> None:
    made = connection_settings.from_uri('amqp://a:b@h:1/v?heartbeat=7', {'heartbeat': 9, 'userid': 'c'})
    assert (made.host, made.virtual_host, made.userid, made.password, made.heartbeat) == ('h:1', 'v', 'c', 'b', 9)


@pytest.mark.parametrize(
    ('query', 'name'), [('heartbeat=65536', 'heartbeat'), ('channel_max=65536', 'channel_max'),
                        ('frame_max=100', 'frame_max'), ('connection_timeout=0', 'connect')],
)  # fmt: skip
def test_numbers_of_a_uri_are_checked_too(query: str, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        connection_settings.from_uri(f'amqp://h?{query}', {})


@pytest.mark.parametrize('off', [False, None, 0])
def test_amqps_and_an_argument_that_turns_it_off_contradict_each_other(off: Any) -> None:
    with pytest.raises(ValueError, match='contradict'):
        connection_settings.from_uri('amqps://h', {'ssl': off})
    assert connection_settings.from_uri('amqps://h', {'ssl': {}}).secure


# -- hosts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('host', 'name', 'port'),
    [
        ('a', 'a', 5672), ('a:1', 'a', 1), ('a:', 'a', 5672), ('10.0.0.1:80', '10.0.0.1', 80),
        ('[::1]', '::1', 5672), ('[::1]:5', '::1', 5), ('[fe80::1%eth0]:5', 'fe80::1%eth0', 5),
        # as kombu joins an address and a port
        ('::1:5672', '::1', 5672), ('2001:db8::1:5671', '2001:db8::1', 5671), ('fe80::1%eth0:99', 'fe80::1%eth0', 99),
        ('1:2:3:4:5:6:7:8:9', '1:2:3:4:5:6:7:8', 9), ('::ffff:10.0.0.1:5672', '::ffff:10.0.0.1', 5672),
        # where nothing but an address comes of it
        ('::1', '::1', 5672), ('fe80::1', 'fe80::1', 5672), ('1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8', 5672),
        ('::ab12', '::ab12', 5672), ('::1:ab', '::1:ab', 5672), ('2001:db8::5672', '2001:db8::5672', 5672),
    ],
)  # fmt: skip
def test_host_and_port(host: str, name: str, port: int) -> None:
    assert to_host_port(host) == (name, port)


@pytest.mark.parametrize('host', ['a\0', 'a\0b:1', 'a b', 'a\n', '\ta', 'a\x7f', 'a\x85', '[::1\0]:1', 'a:1\n'])
def test_control_characters_in_a_host_are_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r'host: .* spaces or control characters'):
        gamqp.Connection(host)


@pytest.mark.parametrize('host', ['[::1', '[::1]5672', '[::1]5x', '[', '[a:5'])
def test_brackets_that_are_not_around_an_address_are_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r'host: .* no address in brackets'):
        gamqp.Connection(host)


@pytest.mark.parametrize('host', ['a:0', 'a:65536', 'a:b', 'a:-1', 'a:1.5', 'a:\u0663', '::1:70000', '[::1]:0'])
def test_a_port_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r'host: .*port'):
        gamqp.Connection(host)
