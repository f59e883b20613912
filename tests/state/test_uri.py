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
    ('amqp://h?heartbeat=', 'heartbeat'),
    ('amqp://h?heartbeat', 'key=value'),
    ('amqp://h?channel_max=٣', 'channel_max'),
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
    ],
)
def test_an_error_does_not_quote_the_password(uri: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(uri)
    assert 'hunter2' not in str(caught.value)
