"""AMQP URIs: ``amqp://user:password@host:port/vhost?key=value`` -> arguments of Connection.

Pure functions. https://www.rabbitmq.com/docs/uri-spec and its page on query
parameters. Strict: what is not understood is an error, since a misspelt
``heartbeat`` that is silently ignored costs a night. An error never quotes the
URI: it may hold a password.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ('parse',)


def parse(uri: str) -> dict[str, Any]:
    """Arguments for Connection. Raises ValueError saying which part is wrong.

    No path means the virtual host '/', an empty path ('amqp://host/') the
    virtual host ''; '%2f' is a slash. Keys: heartbeat (seconds),
    connection_timeout (milliseconds), channel_max, frame_max, auth_mechanism, name.
    """
    parts = urlsplit(uri)
    if parts.scheme == 'amqps':
        raise ValueError('amqps:// is not supported yet')
    if parts.scheme != 'amqp':
        raise ValueError(f"an AMQP URI begins with 'amqp://', not {parts.scheme!r}")
    if parts.fragment:
        raise ValueError('an AMQP URI has no #fragment')
    try:
        port = parts.port
    except ValueError:
        raise ValueError('the port of the AMQP URI is not a number below 65536') from None
    arguments: dict[str, Any] = {
        'host': _host(parts.hostname or 'localhost', port),
        'virtual_host': '/' if parts.path == '' else unquote(parts.path[1:]),
    }
    if '/' in parts.path[1:]:
        raise ValueError("the path of an AMQP URI is one virtual host: write a slash in its name as '%2f'")
    if parts.username is not None:
        arguments['userid'] = unquote(parts.username)
    if parts.password is not None:
        arguments['password'] = unquote(parts.password)
    for key, value in parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)):
        if key not in _QUERY:
            raise ValueError(f'the AMQP URI has an unknown parameter {key!r}; known are {", ".join(sorted(_QUERY))}')
        name, convert = _QUERY[key]
        arguments[name] = convert(key, value)
    return arguments


def _host(name: str, port: int | None) -> str:
    name = f'[{name}]' if ':' in name else unquote(name)
    return name if port is None else f'{name}:{port}'


def _number(key: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise ValueError(f'the parameter {key} of the AMQP URI must be a whole number, not {value!r}')
    return int(value)


def _milliseconds(key: str, value: str) -> float:
    return _number(key, value) / 1000


def _text(key: str, value: str) -> str:
    return value


def _mechanism(key: str, value: str) -> str:
    return value.upper()


_QUERY: dict[str, tuple[str, Any]] = {
    'heartbeat': ('heartbeat', _number),
    'connection_timeout': ('connect_timeout', _milliseconds),
    'channel_max': ('channel_max', _number),
    'frame_max': ('frame_max', _number),
    'auth_mechanism': ('login_method', _mechanism),
    'name': ('name', _text),
}
