"""AMQP URIs: ``amqp://user:password@host:port/vhost?key=value`` -> arguments of Connection.

Pure functions. https://www.rabbitmq.com/docs/uri-spec and its page on query
parameters. What is not understood is an error: a misspelt ``heartbeat`` would otherwise be ignored, and
nobody would notice. An error never quotes the URI or a value in it, because it may be a password, or a part of one
with unescaped characters. Does not belong here: checks of the values (``connection_settings``).
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ('parse',)

_SECURE = {'amqp': False, 'amqps': True}

# The number of ssl.CERT_NONE; modules of this layer do not import ssl.
_CERT_NONE = 0

_NOT_IN_A_URI = re.compile(r'[\x00-\x20\x7f]')
# What others write between several hosts.
_SEPARATORS = re.compile(r'[;,]')
_DIGITS = 12  # the most digits of a number: a longer one may not fit a float
_BAD_ESCAPE = re.compile(r'%(?![0-9A-Fa-f]{2})')
# Looked for after decoding: escapes may bring in what would begin another part of the address.
_NOT_IN_A_HOST = re.compile(r'[\x00-\x20\x7f/?#@:\[\]\\]')


def parse(uri: str) -> dict[str, Any]:
    """Arguments for Connection. Raises ValueError saying which part is wrong.

    No path means the virtual host '/', an empty path ('amqp://host/') the
    virtual host ''; '%2f' is a slash, and '+' is a plus everywhere. amqps:// is
    TLS, with certificate and host name verified. Keys: heartbeat (seconds),
    connection_timeout (milliseconds), channel_max, frame_max, auth_mechanism (may
    be repeated, best first), name; and for amqps:// cacertfile, certfile, keyfile,
    password (of the key), verify (verify_peer, verify_none),
    server_name_indication (the name that the certificate must carry; 'disable'
    neither sends a name nor checks one).
    """
    parts, port = _split(uri)
    secure = _SECURE[parts.scheme]
    arguments: dict[str, Any] = {
        # Each part of a URI may be left out. User name and password then are the defaults of Connection.
        'host': _host(parts.hostname or 'localhost', port),
        'virtual_host': '/' if parts.path == '' else _decode('virtual host', parts.path[1:]),
    }
    if '/' in parts.path[1:]:
        raise ValueError("the path of an AMQP URI is one virtual host: write a slash in its name as '%2f'")
    # An empty name is a name: 'amqp://:secret@host' has one.
    if parts.username is not None:
        arguments['userid'] = _decode('user name', parts.username)
    if parts.password is not None:
        arguments['password'] = _decode('password', parts.password)
    tls: dict[str, Any] = {}
    for key, value in _pairs(parts.query):
        if key in _TLS:
            # Without TLS these would have no effect, and nobody would notice.
            if not secure:
                raise ValueError(f'the parameter {key} of the AMQP URI is for amqps:// only')
            tls.update(_TLS[key](key, value))
        else:
            name, convert = _QUERY[key]
            # The value before is passed for auth_mechanism, the only one that may be repeated.
            arguments[name] = convert(key, value, arguments.get(name))
    if secure:
        # The ssl module loads a key only together with its certificate.
        if 'certfile' not in tls and tls.keys() & {'keyfile', 'password'}:
            raise ValueError('the AMQP URI has a keyfile or password, but no certfile it belongs to')
        arguments['ssl'] = tls or True
    return arguments


def _split(uri: str) -> tuple[Any, int | None]:
    if _NOT_IN_A_URI.search(uri):
        # urlsplit would remove some of them silently.
        raise ValueError('an AMQP URI holds no spaces and control characters: escape them (%20)')
    try:
        parts = urlsplit(uri)
    except ValueError:  # its text may quote user name and password
        raise ValueError('the host of the AMQP URI cannot be understood; is a [, ] or @ to be escaped?') from None
    # An unescaped '/', '?' or '#' in a password ends the host too early. The rest of the password is then in one of the
    # other parts, with the '@' behind it.
    if '@' not in parts.netloc and '@' in f'{parts.path}{parts.query}{parts.fragment}':
        raise ValueError(
            "the AMQP URI has a '@' behind its host: if user name or password hold a '/', '?' or '#', write them as "
            "'%2F', '%3F', '%23'; a '@' in a virtual host as '%40'"
        )
    if _SEPARATORS.search(parts.netloc.rpartition('@')[2]):
        raise ValueError("the host of the AMQP URI holds a ';' or ',': several are 'amqp://one;amqp://two', or a list")
    # urlsplit accepts 'amqp:host' as well, with an empty host.
    if parts.scheme not in _SECURE or not uri[len(parts.scheme) :].startswith('://'):
        raise ValueError("an AMQP URI begins with 'amqp://' or 'amqps://'")
    # An empty fragment is not in ``parts``: there only the text itself shows it.
    if parts.fragment or uri.endswith('#'):
        raise ValueError("an AMQP URI has no #fragment: write a '#' in it as '%23'")
    try:
        # It raises for letters and for numbers above 65535. Nobody can listen on port 0.
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError('the port of the AMQP URI is not a number between 1 and 65535')
    return parts, port


def _pairs(query: str) -> list[tuple[str, str]]:
    """The parameters. An error quotes a key only if it cannot be a part of a password."""
    pairs = []
    seen = set()
    for item in query.split('&') if query else ():
        # Not parse_qsl of urllib, which makes a space of '+' and leaves out keys without a value.
        key, equals, value = item.partition('=')
        if not equals:
            raise ValueError("what follows the '?' of an AMQP URI must be key=value pairs joined by '&'")
        # The two tables at the end have all keys. What is not in them is refused here, so the loop in parse() finds
        # each one.
        if key not in _QUERY and key not in _TLS:
            name = 'an unknown parameter' if '@' in query else f'an unknown parameter {key!r}'
            known = ', '.join(sorted({*_QUERY, *_TLS}))
            raise ValueError(f'the AMQP URI has {name}; known are {known}')
        if key in seen and key not in _REPEATABLE:
            raise ValueError(f'the AMQP URI has the parameter {key} twice')
        seen.add(key)
        pairs.append((key, _decode(f'parameter {key}', value)))
    return pairs


def _decode(what: str, text: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise ValueError(f"the {what} of the AMQP URI has a '%' without two hexadecimal digits: write it as '%25'")
    try:
        # unquote keeps a bad escape as it is, so those are found before.
        return unquote(text, errors='strict')
    except UnicodeDecodeError:  # which holds the text
        raise ValueError(f'the {what} of the AMQP URI is not UTF-8 when its %-escapes are decoded') from None


def _host(name: str, port: int | None) -> str:
    if ':' in name:
        # urlsplit has removed the brackets. They are needed where a port follows.
        name = f'[{_decode("host", name)}]'
    else:
        name = _decode('host', name)
        if _NOT_IN_A_HOST.search(name):
            raise ValueError('the host of the AMQP URI holds characters that no host name has')
    return name if port is None else f'{name}:{port}'


def _number(key: str, value: str, before: Any = None) -> int:
    # int() also accepts signs, spaces, underscores and digits of other scripts.
    if not (value.isascii() and value.isdigit() and len(value) <= _DIGITS):
        raise ValueError(f'the parameter {key} of the AMQP URI must be a whole number of at most {_DIGITS} digits')
    return int(value)


def _milliseconds(key: str, value: str, before: Any) -> float:
    return _number(key, value) / 1000


def _text(key: str, value: str, before: Any = None) -> str:
    if not value:
        raise ValueError(f'the parameter {key} of the AMQP URI is empty')
    return value


def _mechanism(key: str, value: str, before: Any) -> Any:
    # Names of SASL mechanisms are upper case (RFC 4422), and URIs often have them in lower case.
    name = _text(key, value).upper()
    if before is None:
        return name
    return (*before, name) if isinstance(before, tuple) else (before, name)


def _as(name: str) -> Any:
    return lambda key, value: {name: _text(key, value)}


def _verify(key: str, value: str) -> dict[str, Any]:
    if value not in ('verify_peer', 'verify_none'):
        raise ValueError('the parameter verify of the AMQP URI must be verify_peer or verify_none')
    # To verify is the default, so there is nothing to set.
    return {} if value == 'verify_peer' else {'cert_reqs': _CERT_NONE}


def _server_name(key: str, value: str) -> dict[str, Any]:
    if value == 'disable':
        return {'server_hostname': '', 'check_hostname': False}
    return {'server_hostname': _text(key, value)}


_REPEATABLE = frozenset(('auth_mechanism',))
_QUERY: dict[str, tuple[str, Any]] = {
    'heartbeat': ('heartbeat', _number),
    'connection_timeout': ('connect_timeout', _milliseconds),
    'channel_max': ('channel_max', _number),
    'frame_max': ('frame_max', _number),
    'auth_mechanism': ('login_method', _mechanism),
    'name': ('name', _text),
}
_TLS: dict[str, Any] = {
    'cacertfile': _as('ca_certs'),
    'certfile': _as('certfile'),
    'keyfile': _as('keyfile'),
    'password': _as('password'),
    'verify': _verify,
    'server_name_indication': _server_name,
}
