"""Checks the ``ssl`` argument and makes an SSLContext of it.

Layer 2. The chain and the name of the server's certificate are verified unless an explicit option says
otherwise. An option that would have no effect is an error, because the user believes that it protects.
Does not belong here: sockets.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping
from typing import Any

__all__ = ('check_ssl_options', 'make_context', 'may_have_certificate')

# The keys of py-amqp's ``ssl`` dictionary, and ``password`` and ``check_hostname``.
# do_handshake_on_connect and suppress_ragged_eofs are options of ssl's own sockets, which are not used
# here; they have no effect.
OPTIONS = frozenset(
    (
        'ca_certs',
        'cert_reqs',
        'certfile',
        'check_hostname',
        'ciphers',
        'context',
        'do_handshake_on_connect',
        'keyfile',
        'password',
        'server_hostname',
        'server_side',
        'ssl_version',
        'suppress_ragged_eofs',
        'tls_maximum_version',
        'tls_minimum_version',
    )
)

# The keys that have an effect although there is a ready ``context``.
BESIDE_CONTEXT = frozenset(
    ('context', 'do_handshake_on_connect', 'server_hostname', 'server_side', 'suppress_ragged_eofs')
)

# The keys of a ``context`` that is itself a dictionary.
ARGUMENTS = frozenset(('cadata', 'cafile', 'capath', 'check_hostname', 'purpose'))

# The keys that name files, and the environment variables that OpenSSL reads.
FILES = frozenset(('ca_certs', 'cafile', 'capath', 'certfile', 'keyfile'))
ENVIRONMENT = ('SSL_CERT_FILE', 'SSL_CERT_DIR', 'SSLKEYLOGFILE')

# When gevent or eventlet patch they replace ssl.SSLContext by a subclass. This is the common base class, so
# that contexts made before and after the patch are both accepted.
_ANY_CONTEXT = ssl.SSLContext.__mro__[-2]


#: What the *ssl* argument of a Connection may be, see ``make_context``.
TLSOptions = bool | ssl.SSLContext | Mapping[str, Any] | None


def check_ssl_options(options: Any) -> None:
    """Raise TypeError or ValueError for options that ``make_context`` does not accept."""
    if options is True or isinstance(options, _ANY_CONTEXT):
        return
    if not isinstance(options, Mapping):
        raise TypeError(f'ssl must be True, an ssl.SSLContext or a dict, not {type(options).__name__}')
    given = {name for name, value in options.items() if value is not None}
    _refuse(sorted(set(options) - OPTIONS), 'unknown', OPTIONS)
    if options.get('server_side'):
        raise ValueError('ssl: server_side is for servers')
    if 'context' in given:
        _refuse(sorted(given - BESIDE_CONTEXT), 'useless beside context are the', BESIDE_CONTEXT)
        _check_context(options['context'])
    if 'certfile' not in given and given & {'keyfile', 'password'}:
        raise ValueError('ssl: a keyfile or password needs the certfile it belongs to')
    if options.get('cert_reqs') == ssl.CERT_NONE and options.get('check_hostname'):
        raise ValueError('ssl: check_hostname is not possible with cert_reqs=CERT_NONE')
    if options.get('server_hostname') == '' and _verifies_name(options):
        raise ValueError("ssl: server_hostname='' sends no name (SNI), so it needs check_hostname=False")


def _check_context(context: Any) -> None:
    if isinstance(context, Mapping):
        _refuse(sorted(set(context) - ARGUMENTS), 'context: unknown', ARGUMENTS)
    elif not isinstance(context, _ANY_CONTEXT):
        raise TypeError(f'ssl: context must be an ssl.SSLContext or a dict, not {type(context).__name__}')


def _refuse(names: list[str], what: str, known: frozenset[str]) -> None:
    if names:
        raise ValueError(f'ssl: {what} options {", ".join(map(repr, names))}; possible are {", ".join(sorted(known))}')


def _verifies_name(options: Mapping[str, Any]) -> bool:
    context = options.get('context')
    if context is None:
        return options.get('cert_reqs') != ssl.CERT_NONE and options.get('check_hostname') is not False
    if isinstance(context, Mapping):
        return context.get('check_hostname') is not False
    return bool(context.check_hostname)


def may_have_certificate(options: Any) -> bool:
    """Whether these options may hold a client certificate. True for a ready SSLContext, which cannot be asked."""
    given: Mapping[str, Any] = options if isinstance(options, Mapping) else {}
    ready = isinstance(options, _ANY_CONTEXT) or isinstance(given.get('context'), _ANY_CONTEXT)
    return ready or given.get('certfile') is not None


def make_context(options: Any, host: str) -> tuple[ssl.SSLContext, str | None]:
    """The context, and the name that the certificate must have and that is sent as SNI; None for neither.

    options: True: the system's authorities, certificate and name verified. A ready
    ssl.SSLContext: used as it is. A dict with py-amqp's keys: keyfile, certfile
    (and its password, a str or a callable), ca_certs (a file or folder of
    authorities instead of the system's), cert_reqs and check_hostname
    (ssl.CERT_NONE or False turn verification off; nothing else does), ciphers,
    server_hostname (instead of *host*; None is *host*, '' is no name at all),
    ssl_version, tls_minimum_version, tls_maximum_version; or context: an SSLContext,
    or a dict of arguments for ssl.create_default_context, and check_hostname.
    The same options give the same context until one of their files changes; then the
    next connection gets a new one. Raises OSError
    for files that cannot be read and ssl.SSLError for what OpenSSL refuses.
    """
    given: Mapping[str, Any] = options if isinstance(options, Mapping) else {}
    context: Any = options if isinstance(options, _ANY_CONTEXT) else given.get('context')
    name = given.get('server_hostname')
    if name is None:
        # Names in certificates have no dot at the end, and addresses in them have no zone (%eth0).
        name = host.partition('%')[0].rstrip('.')
    if context is None or isinstance(context, Mapping):
        context = _made_once(given, _is_written_as_address(name))
    return context, name or None


def _is_written_as_address(name: str) -> bool:
    """Whether the system would read this as an IP address: also '127.1', '0x7f000001' and '127.0.0.1.'."""
    try:
        socket.inet_aton(name.rstrip('.'))
    except (OSError, UnicodeError):
        return ':' in name
    return True


# The contexts made last, by options and the state of their files. Kept because reading the CA files takes milliseconds.
_made: dict[Any, ssl.SSLContext] = {}
MOST_CONTEXTS = 32


def _made_once(given: Mapping[str, Any], for_address: bool) -> ssl.SSLContext:
    arguments = given.get('context')
    try:
        key = (_frozen(given), _frozen(arguments or {}), for_address, tuple(map(os.environ.get, ENVIRONMENT)))
    except TypeError:  # an option that is not hashable; OpenSSL will raise for it
        return _from_options(given, for_address)
    context = _made.pop(key, None)
    if context is None:
        context = _from_options(given, for_address)
        if len(_made) >= MOST_CONTEXTS:
            _made.pop(next(iter(_made)), None)
    _made[key] = context  # at the end: the first one is dropped when there are too many
    return context


def _from_options(given: Mapping[str, Any], for_address: bool) -> ssl.SSLContext:
    arguments = given.get('context')
    context = _from_keys(given) if arguments is None else _from_arguments(dict(arguments))
    if for_address:
        # OpenSSL takes some spellings of an address for a host name, and would compare it with the common name.
        context.hostname_checks_common_name = False
    return context


def _frozen(options: Mapping[str, Any]) -> frozenset[Any]:
    """A hashable form of the options, for comparison. Of a password only the hash is kept."""
    items: set[Any] = set()
    for name, value in options.items():
        if name in FILES:
            items.add((name, value and os.fspath(value), _state(value)))
        elif name in ('password', 'cadata'):
            items.add((name, type(value), hash(bytes(value) if isinstance(value, bytearray) else value)))
        elif name not in ('context', 'server_hostname'):
            items.add((name, value))
    return frozenset(items)


def _state(path: Any) -> Any:
    """A value that changes when the file changes."""
    try:
        status = os.stat(path)
    except (OSError, TypeError, ValueError):
        return None  # loading the file will raise the error
    return status.st_ino, status.st_mtime_ns, status.st_size


def _from_arguments(arguments: dict[str, Any]) -> ssl.SSLContext:
    check_hostname = arguments.pop('check_hostname', None)
    for name in ('cafile', 'capath'):
        _look_at(arguments.get(name))
    context = ssl.create_default_context(**arguments)
    if check_hostname is not None:
        context.check_hostname = check_hostname
    return context


def _from_keys(given: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.SSLContext(given.get('ssl_version') or ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # verify_mode cannot be set to CERT_NONE while check_hostname is True
    verify = given.get('cert_reqs')
    context.verify_mode = ssl.CERT_REQUIRED if verify is None else verify
    if context.verify_mode != ssl.CERT_NONE:
        context.check_hostname = given.get('check_hostname') is not False
        _trust(context, given.get('ca_certs'))
    if given.get('tls_minimum_version') is not None:
        context.minimum_version = given['tls_minimum_version']
    if given.get('tls_maximum_version') is not None:
        context.maximum_version = given['tls_maximum_version']
    if given.get('ciphers') is not None:
        context.set_ciphers(given['ciphers'])
    if given.get('certfile') is not None:
        _load_certificate(context, given['certfile'], given.get('keyfile'), given.get('password'))
    return context


def _trust(context: ssl.SSLContext, ca_certs: Any) -> None:
    """Trust the authorities in *ca_certs*, a file or a folder, and only those; None: the system's."""
    if ca_certs is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return
    _look_at(ca_certs)
    try:
        if os.path.isdir(ca_certs):
            context.load_verify_locations(capath=ca_certs)
        else:
            context.load_verify_locations(cafile=ca_certs)
    except ssl.SSLError as exc:
        raise ssl.SSLError(exc.errno, f'ca_certs {os.fspath(ca_certs)!r} cannot be used: {exc}') from exc


def _load_certificate(context: ssl.SSLContext, certfile: Any, keyfile: Any, password: Any) -> None:
    _look_at(certfile)
    _look_at(keyfile)
    try:
        context.load_cert_chain(certfile, keyfile, _no_password if password is None else password)
    except ssl.SSLError as exc:
        key = certfile if keyfile is None else keyfile
        text = f'certificate {os.fspath(certfile)!r} with the key in {os.fspath(key)!r} cannot be used: {exc}'
        raise ssl.SSLError(exc.errno, f'{text} (a wrong password of the key looks like that, too)') from exc


def _no_password() -> str:
    # Without this function OpenSSL would ask for the password at the terminal, and block the process.
    raise ValueError('ssl: the key is encrypted, and no password is given')


def _look_at(path: Any) -> None:
    """Raise OSError, with the name of the file, if it cannot be read. OpenSSL's own error does not name it."""
    if path is not None and not os.path.isdir(path):
        with open(path, 'rb'):
            pass
