"""Several AMQP URIs: a list of them, or one text with semicolons, as kombu and Celery write it -> Settings of each.

Pure functions. No error quotes a URI, which may hold a password. Does not belong here: what one URI means (``uri``,
``connection_settings``), and in which order they are used (``host_order``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .connection_settings import Settings, check_names, from_uri
from .secret_hiding import discreet

__all__ = ('settings_of', 'split')

# A semicolon may be part of a password or of a virtual host. One that is followed by a scheme cannot: there the
# slashes would be escaped.
_SEPARATOR = re.compile(r'\s*;\s*(?=amqps?://)')


def split(value: Any) -> list[str]:
    """The URIs in a str, with semicolons between them, or in a list. Raises TypeError and ValueError, naming *url*."""
    if isinstance(value, str):
        return _SEPARATOR.split(value)
    if isinstance(value, (bytes, bytearray, Mapping)) or not isinstance(value, Iterable):
        raise TypeError(f'url: an AMQP URI or a list of them is wanted, not {type(value).__name__}')
    urls = []
    for number, one in enumerate(value, 1):
        if not isinstance(one, str):
            raise TypeError(f'url: item {number} of the list is no str with an AMQP URI, but {type(one).__name__}')
        urls += _SEPARATOR.split(one)
    if not urls:
        raise ValueError('url: the list has no AMQP URI')
    return urls


@discreet
def settings_of(
    value: Any, arguments: Mapping[str, Any], whose: str, others: Iterable[str] = (), *, doubles: bool = False
) -> tuple[Settings, ...]:
    """The Settings of each URI in *value*, as ``split`` takes it; for the others see ``connection_settings.from_uri``.

    doubles: leave out those that are the same as one before, instead of raising ValueError. Where there are several
    an error of one says which.
    """
    urls = split(value)
    if len(urls) == 1:
        return (from_uri(urls[0], arguments, whose, others),)
    check_names(whose, arguments, others)
    if 'host' in arguments:
        raise ValueError('host: several AMQP URIs have a host each, and leave no place for this argument')
    Settings(**arguments)  # an error in these is not one of the first URI
    found: list[Settings] = []
    alike: dict[Any, list[Settings]] = {}  # with the same host: a list may be long, and to compare takes its time
    for number, url in enumerate(urls, 1):
        try:
            one = from_uri(url, arguments, whose, others)
        except (TypeError, ValueError) as exc:
            wrong = TypeError if isinstance(exc, TypeError) else ValueError
            raise wrong(f'url: item {number} of {len(urls)}: {exc}') from None
        same_host = alike.setdefault(one.address, [])
        if one not in same_host:
            same_host.append(one)
            found.append(one)
        elif not doubles:
            raise ValueError(f'url: items {found.index(one) + 1} and {number} are the same')
    return tuple(found)
