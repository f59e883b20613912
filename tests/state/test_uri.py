"""AMQP URIs, the examples of RabbitMQ's specification and its page on query parameters among them."""

from __future__ import annotations

from typing import Any

import pytest

from gamqp.state.uri import parse

# https://www.rabbitmq.com/docs/uri-spec#appendix-a-examples, where it applies
GOOD: list[tuple[str, dict[str, Any]]] = [
    (
        'amqp://user:pass@host:10000/vhost',
        {'userid': 'user', 'password': 'pass', 'host': 'host:10000', 'virtual_host': 'vhost'},
    ),
    (
        'amqp://user%61:%61pass@ho%61st:10000/v%2fhost',
        {'userid': 'usera', 'password': 'apass', 'host': 'hoast:10000', 'virtual_host': 'v/host'},
    ),
    ('amqp://', {'host': 'localhost', 'virtual_host': '/'}),
    ('amqp://:@/', {'userid': '', 'password': '', 'host': 'localhost', 'virtual_host': ''}),
    ('amqp://user@', {'userid': 'user', 'host': 'localhost', 'virtual_host': '/'}),
    ('amqp://user:pass@', {'userid': 'user', 'password': 'pass', 'host': 'localhost', 'virtual_host': '/'}),
    ('amqp://host', {'host': 'host', 'virtual_host': '/'}),
    ('amqp://:10000', {'host': 'localhost:10000', 'virtual_host': '/'}),
    ('amqp:///vhost', {'host': 'localhost', 'virtual_host': 'vhost'}),
    ('amqp://host/', {'host': 'host', 'virtual_host': ''}),
    ('amqp://host/%2f', {'host': 'host', 'virtual_host': '/'}),
    ('amqp://[::1]', {'host': '[::1]', 'virtual_host': '/'}),
    ('amqp://[::1]:5673/v', {'host': '[::1]:5673', 'virtual_host': 'v'}),
    ('AMQP://host', {'host': 'host', 'virtual_host': '/'}),
    ('amqp://u:p%40ss%3aw%2ford@h', {'userid': 'u', 'password': 'p@ss:w/ord', 'host': 'h', 'virtual_host': '/'}),
    ('amqp://h/z%C3%BCrich', {'host': 'h', 'virtual_host': 'zürich'}),
    (
        'amqp://h?heartbeat=30&connection_timeout=2500&channel_max=10&frame_max=8192&auth_mechanism=external&name=jobs',
        {
            'host': 'h',
            'virtual_host': '/',
            'heartbeat': 30,
            'connect_timeout': 2.5,
            'channel_max': 10,
            'frame_max': 8192,
            'login_method': 'EXTERNAL',
            'name': 'jobs',
        },
    ),
    ('amqp://h/v?heartbeat=0', {'host': 'h', 'virtual_host': 'v', 'heartbeat': 0}),
    ('amqp://h?name=two%20words', {'host': 'h', 'virtual_host': '/', 'name': 'two words'}),
    (
        'amqps://h?cacertfile=ca&certfile=c&keyfile=k&password=p&verify=verify_none&server_name_indication=n',
        {
            'host': 'h',
            'virtual_host': '/',
            'ssl': {
                'ca_certs': 'ca',
                'certfile': 'c',
                'keyfile': 'k',
                'password': 'p',
                'cert_reqs': 0,
                'server_hostname': 'n',
            },
        },
    ),
    (
        'amqps://h?verify=verify_peer&server_name_indication=disable',
        {'host': 'h', 'virtual_host': '/', 'ssl': {'server_hostname': '', 'check_hostname': False}},
    ),
    (
        'amqp://h?auth_mechanism=external&auth_mechanism=plain',
        {'host': 'h', 'virtual_host': '/', 'login_method': ('EXTERNAL', 'PLAIN')},
    ),
    ('amqps://h', {'host': 'h', 'virtual_host': '/', 'ssl': True}),
    ('amqp://u:a+b@h/c+d', {'userid': 'u', 'password': 'a+b', 'host': 'h', 'virtual_host': 'c+d'}),
    ('amqp://h?name=a+b%2Bc%26d%3De', {'host': 'h', 'virtual_host': '/', 'name': 'a+b+c&d=e'}),
    ('amqp://a@b:c@d@h/v@w', {'userid': 'a@b', 'password': 'c@d', 'host': 'h', 'virtual_host': 'v@w'}),
    ('amqp://u:p%3Fw%23%25@h', {'userid': 'u', 'password': 'p?w#%', 'host': 'h', 'virtual_host': '/'}),
    ('amqp://u:a:b@h', {'userid': 'u', 'password': 'a:b', 'host': 'h', 'virtual_host': '/'}),
    ('amqp://:p@h', {'userid': '', 'password': 'p', 'host': 'h', 'virtual_host': '/'}),
    ('amqp://HOST.Example', {'host': 'host.example', 'virtual_host': '/'}),
    ('amqp://h:', {'host': 'h', 'virtual_host': '/'}),
    ('amqp://h?', {'host': 'h', 'virtual_host': '/'}),
    ('amqp://h/%2f%2F', {'host': 'h', 'virtual_host': '//'}),
    ('amqp://[fe80::1%25eth0]:1', {'host': '[fe80::1%eth0]:1', 'virtual_host': '/'}),
    ('amqp://u@[2001:db8::1]/', {'userid': 'u', 'host': '[2001:db8::1]', 'virtual_host': ''}),
    (
        'amqp://h?auth_mechanism=external&auth_mechanism=PLAIN&auth_mechanism=amqplain',
        {'host': 'h', 'virtual_host': '/', 'login_method': ('EXTERNAL', 'PLAIN', 'AMQPLAIN')},
    ),
    ('amqp://h?connection_timeout=1', {'host': 'h', 'virtual_host': '/', 'connect_timeout': 0.001}),
    ('AMQPS://h:1/v', {'host': 'h:1', 'virtual_host': 'v', 'ssl': True}),
    ('amqps://h?verify=verify_peer', {'host': 'h', 'virtual_host': '/', 'ssl': True}),
    ('amqps://h?verify=verify_none', {'host': 'h', 'virtual_host': '/', 'ssl': {'cert_reqs': 0}}),
    (
        'amqps://h?server_name_indication=other',
        {'host': 'h', 'virtual_host': '/', 'ssl': {'server_hostname': 'other'}},
    ),
    (
        'amqps://u:p@h?cacertfile=/a%20b/ca+1.pem&certfile=c&keyfile=k&password=p%26w',
        {
            'userid': 'u',
            'password': 'p',
            'host': 'h',
            'virtual_host': '/',
            'ssl': {'ca_certs': '/a b/ca+1.pem', 'certfile': 'c', 'keyfile': 'k', 'password': 'p&w'},
        },
    ),
]

BAD = [
    ('http://h', 'begins with'),
    ('amqp:h', 'begins with'),
    ('amqp://h?verify=verify_none', 'verify of the AMQP URI is for amqps://'),
    ('amqps://h?keyfile=k', 'no certfile'),
    ('amqps://h?verify=maybe', 'verify'),
    ('amqp://h/a b', 'spaces'),
    ('amqp://h/%zz', 'virtual host'),
    ('amqp://u:%ff@h', 'password'),
    ('amqp://h:0', 'port'),
    ('amqp://h?heartbeat=1&heartbeat=2', 'heartbeat twice'),
    ('host', 'begins with'),
    ('', 'begins with'),
    ('amqp://h:port', 'port'),
    ('amqp://h:65536', 'port'),
    ('amqp://h/a/b', '%2f'),
    ('amqp://h/v#fragment', 'fragment'),
    ('amqp://h?heartbaet=5', 'heartbaet'),
    ('amqp://h?heartbeat=soon', 'heartbeat'),
    ('amqp://h?heartbeat=-1', 'heartbeat'),
    (f'amqp://h?heartbeat={"9" * 400}', 'heartbeat'),
    (f'amqp://h?connection_timeout={"9" * 400}', 'connection_timeout'),
    ('amqp://h?heartbeat=', 'heartbeat'),
    ('amqp://h?heartbeat', 'key=value'),
    ('amqp://h?channel_max=٣', 'channel_max'),
    ('amqp:/h', 'begins with'),
    ('//h', 'begins with'),
    ('amqp://h:-1', 'port'),
    ('amqp://h#', 'fragment'),
    ('amqp://[::1', 'host'),
    ('amqp://::1', 'port'),
    ('amqp://h%2fx', 'host'),
    ('amqp://h%3a1', 'host'),
    ('amqp://h%00', 'host'),
    ('amqp://h/%', "virtual host .* '%'"),
    ('amqp://h/%f', "virtual host .* '%'"),
    ('amqp://h/%ff', 'virtual host .* UTF-8'),
    ('amqp://%ff@h', 'user name .* UTF-8'),
    ('amqp://u:%@h', "password .* '%'"),
    ('amqp://h?name=%ff', 'parameter name .* UTF-8'),
    ('amqp://h x', 'spaces'),
    ('amqp://h/a\nb', 'control characters'),
    (' amqp://h', 'spaces'),
    ('amqp://h?name=', 'name .* empty'),
    ('amqp://h?auth_mechanism=', 'auth_mechanism .* empty'),
    ('amqp://h?heartbeat=1&', 'key=value'),
    # characters of a password that end the part it stands in
    ('amqp://u:pa/ss@h/v', "'/', '.' or '#', write them as '%2F', '%3F', '%23'"),
    ('amqp://u:12/ss@h/v', "write them as '%2F'"),
    ('amqp://u:pa?ss@h/v', "write them as '%2F', '%3F'"),
    ('amqp://u:12?ss=x@h/v', "write them as '%2F', '%3F'"),
    ('amqp://u:pa#ss@h/v', "'%23'"),
    ('amqp://u/v:pass@h', "write them as '%2F'"),
    ('amqp://h?heartbeat=1;name=x', 'heartbeat'),
    ('amqp://h?Heartbeat=1', 'Heartbeat'),
    ('amqp://h?cacertfile=x', 'cacertfile .* amqps:// only'),
    ('amqps://h?cacertfile=', 'cacertfile .* empty'),
    ('amqps://h?password=k', 'no certfile'),
    ('amqps://h?server_name_indication=', 'server_name_indication .* empty'),
]


@pytest.mark.parametrize(('uri', 'arguments'), GOOD, ids=[uri for uri, _ in GOOD])
def test_means(uri: str, arguments: dict[str, Any]) -> None:
    assert parse(uri) == arguments


@pytest.mark.parametrize(('uri', 'part'), BAD, ids=[uri for uri, _ in BAD])
def test_is_refused_naming_the_part(uri: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        parse(uri)


@pytest.mark.parametrize(
    'uri',
    [
        'amqp://u:hunter2@h:99999',
        'amqps://u:hunter2@h?keyfile=k',
        'amqp://u:hunter2%@h',
        'amqp://u:hunter2%ff@h',
        'amqp://u:hunter2@h/a/b',
        'amqp://u:hunter2@h?nonsense=1',
        'amqp://u:hunter2@h?heartbeat=x',
        'amqp://u:hunter2@h?x',
        'amqp://u:hunter2@[::1',
        'amqp://u:hunter2#@h',
        'amqp://u:123?hunter2@h',
        'amqps://u:hunter2@h?verify=x',
        'amqps://h?password=hunter2',
        'amqps://h?password=hunter2%',
        'amqps://h?verify=hunter2',
        'amqp://h?heartbeat=hunter2',
        'amqp://u:hunter2 @h',
        'amqp://u:hunter2\u2100@h',
        'amqp://u:[hunter2@h',
        'amqp://u:1?hunter2=3@h',
        'amqp://u:1?x&hunter2@h',
        'hunter2:hunter2@h',
        'hunter2://u@h',
    ],
)
def test_an_error_does_not_quote_the_password(uri: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(uri)
    assert 'hunter2' not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
