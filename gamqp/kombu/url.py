"""The URL of a kombu.Connection whose transport was given by name: ``amqps://`` means TLS there too.

Layer 5. kombu takes the URL apart in its constructor and then forgets the scheme when a transport was named, so that
``amqps://`` would be plain text. To a transport with ``can_parse_url`` it leaves the URL whole, as the host name, and
that has to be taken apart before anybody sees it: it has the password in it, and the attributes are the key by which
kombu's pools know a connection. The transport itself is made too late for that. So it is done where the constructor
sets the attributes, for connections of ours alone. Does not belong here: the other brokers of a list.
"""

from __future__ import annotations

import functools
from typing import Any
from urllib.parse import quote

from kombu.connection import Connection
from kombu.transport import get_transport_cls
from kombu.utils.functional import dictfilter
from kombu.utils.url import as_url, parse_url

__all__ = ('connection_uri', 'take_urls_apart')

TLS_SCHEMES = ('amqps', 'gamqps')


def take_urls_apart(transport: type) -> None:
    """From now on a kombu.Connection with *transport*, or one derived from it, has what its URL says.

    It is as kombu does it, the same arguments before others, except that a scheme with TLS turns *ssl* on.
    """
    set_attributes = Connection._init_params

    @functools.wraps(set_attributes)
    def _init_params(client: Any, hostname: Any = None, **params: Any) -> None:
        whole = isinstance(hostname, str) and '://' in hostname and not client.uri_prefix
        if whole and _has(transport, params.get('transport')):
            hostname, params = _take_apart(client, hostname, params)
        set_attributes(client, hostname=hostname, **params)

    patched: Any = Connection  # of whose methods type checkers know the signatures
    patched._init_params = _init_params


def _has(transport: type, name: Any) -> bool:
    found = get_transport_cls(name)
    return isinstance(found, type) and issubclass(found, transport)


def _take_apart(client: Any, url: str, params: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    said = parse_url(url)
    scheme, hostname = said.pop('transport'), said.pop('hostname')
    said = dictfilter(said)
    # For the next broker of a list, whose scheme may be another: without ssl=True.
    client._initial_params.update(said, hostname=hostname, transport=params['transport'])
    params = {**params, **said}
    if scheme in TLS_SCHEMES and not params.get('ssl'):
        params['ssl'] = True
    return hostname, params


def connection_uri(client: Any, include_password: bool, mask: str) -> str:
    """The URI of *client*, without its password unless that is to be included.

    A transport that was named by its class stands there as the scheme that ``register`` has for it, which says to a
    reader what is in use; with the password as AMQP's own, for a program that connects by it: flower knows no other.
    """
    scheme, password = client.transport_cls, mask
    if not isinstance(scheme, str) or ':' in scheme or '.' in scheme:
        scheme = ('' if include_password else 'g') + ('amqps' if client.ssl else 'amqp')
    fields = client.info()
    if include_password:
        password = fields['password']() if callable(fields['password']) else fields['password']
    return str(
        as_url(
            scheme,
            client.hostname or 'localhost',
            fields['port'],
            fields['userid'],
            password,
            quote(fields['virtual_host']),
            sanitize=not include_password,
            mask=mask,
        )
    )
