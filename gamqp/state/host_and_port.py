"""Host and port in one text: 'name', 'name:port', '[::1]:port'.

Pure functions. Does not belong here: looking up addresses.
"""

from __future__ import annotations

import ipaddress
import re

__all__ = ('AMQPS_PORT', 'AMQP_PORT', 'to_host_port')

# The registered ports of AMQP: without TLS, and with it.
AMQP_PORT = 5672
AMQPS_PORT = 5671

LAST_PORT = 65535

# No name and no address has one of these. C libraries would end a text at a NUL.
_NOT_IN_A_HOST = re.compile(r'[\x00-\x20\x7f-\x9f]')
_PORT = re.compile(r'[0-9]{1,5}')


def to_host_port(host: str, default: int = AMQP_PORT) -> tuple[str, int]:
    """'name', 'name:port', '::1', '[::1]:port' or '::1:port' -> (host, port).

    An IPv6 address without brackets is split at its last colon, if an address and a port number
    result, because kombu joins them without brackets; py-amqp does the same. An address in
    brackets is never ambiguous. Raises TypeError for anything but a str, and
    ValueError for a bad port, brackets that do not close, a URL, spaces and control characters.
    """
    if not isinstance(host, str):
        raise TypeError(f'host: a str is wanted, not {type(host).__name__}; several hosts: gamqp.connect([url, url])')
    if '/' in host or '@' in host:  # not quoted: it may hold a password
        raise ValueError('host: a name or an address is wanted here, not a URL, which is for gamqp.connect')
    if ';' in host or ',' in host:
        raise ValueError('host: one is wanted; several are for gamqp.connect, as URLs')
    if _NOT_IN_A_HOST.search(host):
        raise ValueError(f'host: {host!r} holds spaces or control characters')
    # From here on errors may quote the text, which cannot be a URL with a password any more.
    name, port = _split(host)
    if not name:
        raise ValueError(f"host: {host!r} names no host; for this machine write 'localhost'")
    # 'name:' has an empty port, as a URL may have.
    if not port:
        return name, default
    # Matched first: int() also takes signs, spaces and digits of other scripts.
    if not _PORT.fullmatch(port) or not 0 < int(port) <= LAST_PORT:
        raise ValueError(f'host: {host!r} does not end in a port number between 1 and {LAST_PORT}')
    return name, int(port)


def _split(host: str) -> tuple[str, str]:
    if host.startswith('['):
        name, bracket, rest = host[1:].partition(']')
        if not bracket or rest[:1] not in ('', ':'):
            raise ValueError(f'host: {host!r} is no address in brackets, with or without a colon and a port behind it')
        return name, rest[1:]
    if host.count(':') <= 1:
        name, _, port = host.partition(':')
        return name, port
    name, _, port = host.rpartition(':')
    # '::1' ends in a digit as well. What is left of it, ':', is no address, so it stays whole.
    if port.isdigit() and _is_address(name):
        return name, port
    return host, ''


def _is_address(name: str) -> bool:
    try:
        # It accepts a zone, as in 'fe80::1%eth0'.
        ipaddress.IPv6Address(name)
    except ValueError:
        return False
    return True
