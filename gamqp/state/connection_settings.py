"""Settings: all arguments of a Connection, checked.

State, no I/O. One frozen object per connection, built from arguments or from an
AMQP URI and arguments. Each field has its check beside its default. The check raises, with the
argument's name, for a value that makes no sense, and turns several spellings (None for a
default, 0 for no limit) into one value. A new argument of Connection is a field here, a
parameter of ``Connection.__init__``, a line in its docstring and an entry in
``connection.typed_keywords``; tests compare the four.
Does not belong here: what a dict for the ``ssl`` argument may hold (``transport.tls_context``).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Any, Literal

from .. import sasl
from . import uri
from .argument_checks import Check, callable_or_none, flag, nearest, one_of, seconds, shown, text, whole
from .host_and_port import AMQP_PORT, AMQPS_PORT, to_host_port
from .negotiation import CHANNEL_LIMIT, FRAME_MIN
from .recovery_settings import Recovery, recovery_or_none
from .secret_hiding import discreet

__all__ = ('BlockedPolicy', 'Settings', 'check_names', 'from_uri')

# Seconds. The broker itself gives up on a handshake after 10.
CONNECT_TIMEOUT = 10.0
RPC_TIMEOUT = 30.0
CONFIRM_TIMEOUT = 30.0
UNSETTLED_WARNING = 30.0
METRICS_INTERVAL = 15.0  # the usual interval of collectors of metrics

FRAME_MAX = 131072  # RabbitMQ's own default, and its advice is to leave it
CHANNEL_MAX = 2047  # likewise
MAX_INBOUND_BODY = 512 * 1024 * 1024  # the highest limit that RabbitMQ can be configured with

# Undelivered messages at which the reader stops. Bytes, because memory may run out; and a number of messages,
# because the program needs time for each.
MAX_UNDELIVERED_BYTES = 32 * 1024 * 1024
MAX_UNDELIVERED_MESSAGES = 20_000

# Publishes of one channel that may be without their confirm: enough to keep a broker on a fast network busy, and
# few enough to keep in memory.
OUTSTANDING_LIMIT = 1000

# What a publish does while the broker takes no messages.
BlockedPolicy = Literal['wait', 'raise', 'pass']
BLOCKED_POLICIES: tuple[BlockedPolicy, ...] = ('wait', 'raise', 'pass')

HEARTBEAT_LIMIT = 65535  # seconds: 16 bits on the wire
SHORT_TEXT = 255  # bytes of a short string on the wire


def _by(check: Check) -> dict[str, Check]:
    """The metadata of a field with this check."""
    return {'check': check}


# -- checks of fields that are not numbers ----------------------------------------------


def _host(name: str, value: Any) -> Any:
    # Only checked here. The text is taken apart when a socket is opened.
    to_host_port(value)
    return value


def _text_or_none(name: str, value: Any) -> Any:
    return None if value is None else text(name, value)


def _password(name: str, value: Any) -> Any:
    # A callable is not called here. It is asked for a password each time that the connection is opened.
    return value if value is None or callable(value) else text(name, value, secret=True)


def _short_text(name: str, value: Any) -> Any:
    # Only the length matters here. Without surrogatepass a lone surrogate would raise an error that does not name the
    # argument.
    raw = text(name, value).encode('utf-8', 'surrogatepass')
    if len(raw) > SHORT_TEXT:
        raise ValueError(f'{name}: at most {SHORT_TEXT} bytes are wanted, not {len(raw)}')
    return value


def _methods(name: str, value: Any) -> Any:
    for one in value if isinstance(value, (tuple, list)) else (value,):
        if not isinstance(one, (str, bytes, type(None))):
            raise TypeError(f'{name}: the name of a mechanism or a tuple of names is wanted, not {shown(value)}')
    return value


def _response(name: str, value: Any) -> Any:
    if not isinstance(value, (bytes, type(None))):  # it holds a secret
        raise TypeError(f'{name}: bytes are wanted, not {type(value).__name__}')
    return value


def _mechanisms(name: str, value: Any) -> Any:
    if isinstance(value, sasl.SASL):
        return (value,)
    # A str can be iterated over as well, and would become a tuple of letters.
    if value is None or (isinstance(value, Iterable) and not isinstance(value, (str, bytes))):
        return tuple(value or ())
    raise TypeError(f'{name}: a sasl.SASL or several are wanted, not {type(value).__name__}')


def _properties(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, (Mapping, type(None))):
        raise TypeError(f'{name}: a dict is wanted, not {shown(value)}')
    # A copy: the program may change its dict later, and Settings stay as they were checked.
    return dict(value or {})


def _ssl(name: str, value: Any) -> Any:
    """False, True, or a value that the TLS transport checks. 1 and 0 as in py-amqp, text as in kombu's URLs."""
    if value is None or value is False or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    if isinstance(value, str) and value.lower() in ('1', 'true'):
        return True
    return value


def _socket_settings(name: str, value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f'{name}: a dict of TCP options is wanted, not {shown(value)}')
    # The number of a TCP option -> its value, which setsockopt takes as an int. None leaves out a default of ours.
    option = whole(0)
    return {option(name, key): option(name, one) if one is not None else None for key, one in value.items()}


def _heartbeat(name: str, value: Any) -> Any:
    if value is None or value is False:
        # None takes the interval of the broker, False turns heartbeats off. True is refused below, as it is no number
        # of seconds.
        return None if value is None else 0
    return seconds(zero=True, most=HEARTBEAT_LIMIT)(name, value)


def _refresh(name: str, value: Any) -> Any:
    # Asked first: True renews by the end of each token, and is not 1 second.
    if value is None or isinstance(value, bool):
        return bool(value)
    return seconds()(name, value)


# Seconds without a byte. None and 0 (py-amqp's way to say it) are no limit.
_silence = seconds(none=None, zero_is=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of a Connection, by name. Raises TypeError and ValueError, see ``argument_checks``."""

    # Where
    host: str = field(default='localhost:5672', metadata=_by(_host))
    virtual_host: str = field(default='/', metadata=_by(_short_text))
    ssl: Any = field(default=False, repr=False, metadata=_by(_ssl))  # it may hold the password of a key
    socket_settings: Mapping[int, int | None] | None = field(default=None, metadata=_by(_socket_settings))

    # Who
    userid: str | None = field(default='guest', metadata=_by(_text_or_none))
    # repr=False for what may be a secret: the repr of Settings may get into a log.
    password: sasl.Password = field(default='guest', repr=False, metadata=_by(_password))
    login_method: str | tuple[str, ...] | None = field(default=None, metadata=_by(_methods))
    login_response: bytes | None = field(default=None, repr=False, metadata=_by(_response))
    refresh_secret: bool | float = field(default=False, metadata=_by(_refresh))
    authentication: tuple[Any, ...] = field(default=(), metadata=_by(_mechanisms))
    locale: str = field(default='en_US', metadata=_by(_short_text))
    name: str | None = field(default=None, metadata=_by(_text_or_none))
    client_properties: dict[str, Any] = field(default_factory=dict, metadata=_by(_properties))

    # Time limits
    connect_timeout: float = field(default=CONNECT_TIMEOUT, metadata=_by(seconds(none=CONNECT_TIMEOUT)))
    rpc_timeout: float = field(default=RPC_TIMEOUT, metadata=_by(seconds()))
    confirm_timeout: float = field(default=CONFIRM_TIMEOUT, metadata=_by(seconds()))
    read_timeout: float | None = field(default=None, metadata=_by(_silence))
    write_timeout: float | None = field(default=None, metadata=_by(_silence))

    # Signs of life
    heartbeat: float | None = field(default=None, metadata=_by(_heartbeat))
    heartbeat_thread: bool = field(default=False, metadata=_by(flag))

    # Recovery
    recover: Recovery | None = field(default=None, metadata=_by(recovery_or_none))

    # Agreed on with the broker
    channel_max: int = field(
        default=CHANNEL_MAX, metadata=_by(whole(1, CHANNEL_LIMIT, none=CHANNEL_MAX, zero='no limit'))
    )
    frame_max: int = field(
        default=FRAME_MAX, metadata=_by(whole(FRAME_MIN, 2**32 - 1, none=FRAME_MAX, zero='no limit'))
    )

    # Publishing
    confirm_publish: bool = field(default=False, metadata=_by(flag))
    outstanding_limit: int = field(default=OUTSTANDING_LIMIT, metadata=_by(whole(0)))
    blocked_policy: BlockedPolicy = field(default='wait', metadata=_by(one_of(*BLOCKED_POLICIES)))
    blocked_timeout: float | None = field(default=None, metadata=_by(seconds(zero=True, none=None)))

    # Receiving
    max_inbound_body: int = field(default=MAX_INBOUND_BODY, metadata=_by(whole(1)))
    max_undelivered_bytes: int = field(default=MAX_UNDELIVERED_BYTES, metadata=_by(whole(0)))
    max_undelivered_messages: int = field(default=MAX_UNDELIVERED_MESSAGES, metadata=_by(whole(0)))
    spool: bool = field(default=True, metadata=_by(flag))
    combine_acks: bool = field(default=False, metadata=_by(flag))
    unsettled_warning: float | None = field(default=UNSETTLED_WARNING, metadata=_by(_silence))

    # Called back
    on_open: Callable[[Any], Any] | None = field(default=None, metadata=_by(callable_or_none))
    on_tune_ok: Callable[[], Any] | None = field(default=None, metadata=_by(callable_or_none))
    on_blocked: Callable[[str], Any] | None = field(default=None, metadata=_by(callable_or_none))
    on_unblocked: Callable[[], Any] | None = field(default=None, metadata=_by(callable_or_none))
    on_lost: Callable[[BaseException], Any] | None = field(default=None, metadata=_by(callable_or_none))
    on_recovering: Callable[[int, float, BaseException], Any] | None = field(
        default=None, metadata=_by(callable_or_none)
    )
    on_recovered: Callable[[Any], Any] | None = field(default=None, metadata=_by(callable_or_none))
    on_given_up: Callable[[BaseException], Any] | None = field(default=None, metadata=_by(callable_or_none))
    metrics: Callable[[dict[str, Any]], Any] | None = field(default=None, metadata=_by(callable_or_none))
    metrics_interval: float = field(default=METRICS_INTERVAL, metadata=_by(seconds()))

    # Of py-amqp, without a meaning here
    frame_handler: Any = None
    frame_writer: Any = None

    def __post_init__(self) -> None:
        # In the order of the fields, so of several wrong values the same one is always named.
        for one in dataclasses.fields(self):
            check = one.metadata.get('check')
            if check is not None:
                # The only place that writes to a frozen object. Afterwards each field has its checked value.
                object.__setattr__(self, one.name, check(one.name, getattr(self, one.name)))
        if self.recover is not None and self.channel_max == 1:
            raise ValueError('channel_max: at least 2 with recover, which takes one channel for itself')

    @property
    def secure(self) -> bool:
        """Whether the connection uses TLS."""
        return self.ssl is not False

    @functools.cached_property
    def address(self) -> tuple[str, int]:
        """Host name and port."""
        return to_host_port(self.host, AMQPS_PORT if self.secure else AMQP_PORT)

    @functools.cached_property
    def mechanisms(self) -> tuple[sasl.SASL, ...]:
        """The ways to log in, best first. Raises ValueError where there is none, or none that refresh_secret needs."""
        # The order is that of preference: the first that the broker offers is used.
        found = self.authentication or sasl.choose(
            self.userid, self.password, self.login_method, self.login_response, self.secure
        )
        # Here and not above: only now it is known which mechanisms there are.
        if self.refresh_secret and not sasl.callable_passwords(found):
            raise ValueError('refresh_secret: a callable password is wanted, which can be asked for the next one')
        return found

    def arguments(self) -> dict[str, Any]:
        """All settings as arguments of a Connection."""
        # Not dataclasses.asdict, which copies values deeply: an SSLContext cannot be copied.
        return {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}


@functools.cache
def names() -> frozenset[str]:
    """The names of all arguments of a Connection."""
    return frozenset(one.name for one in dataclasses.fields(Settings))


@discreet
def from_uri(url: Any, arguments: Mapping[str, Any], whose: str = 'connect', others: Iterable[str] = ()) -> Settings:
    """Settings from an AMQP URI and arguments; where both name a setting the argument counts.

    whose: the call that got the arguments, for errors. others: further names that this call takes. Raises
    ValueError and TypeError, also for an unknown name.
    """
    # Names are checked first. Settings would refuse an unknown one without a word of what was meant.
    check_names(whose, arguments, others)
    parsed = uri.parse(url)
    if 'ssl' in parsed and _ssl('ssl', arguments.get('ssl', True)) is False:
        raise ValueError('amqps:// and an ssl argument that turns TLS off contradict each other')
    return Settings(**{**parsed, **arguments})


def check_names(whose: str, arguments: Iterable[str], others: Iterable[str] = (), lenient: bool = False) -> None:
    """Raise TypeError for unknown names of arguments, with the name that was probably meant.

    lenient: only for names that are similar to one of a Connection's arguments. kombu passes
    all of its users' transport_options, also those for its other transports.
    """
    known = {*names(), *others}
    for name in arguments:
        if name in known or (lenient and name in KOMBU_OPTIONS):
            continue
        meant = nearest(name, known, SYNONYMS, LENIENT_CUTOFF if lenient else 0.6)
        if meant is not None:
            raise TypeError(f'{whose}: there is no argument {name!r}; did you mean {meant}?')
        if not lenient:
            raise TypeError(f'{whose}: there is no argument {name!r}; there are {", ".join(sorted(known))}')


# How similar to one of our names (0 to 1) an unknown name must be to count as misspelt; others are ignored.
LENIENT_CUTOFF = 0.85

_HOST = "host='name:port'"
_TLS = 'ssl=True, an ssl.SSLContext or a dict of options'

# Names that other clients and AMQP URIs have -> what to write here.
SYNONYMS: dict[str, str] = {
    **dict.fromkeys(('port', 'hostname', 'server', 'address', 'broker'), _HOST),
    **dict.fromkeys(('hosts', 'nodes', 'urls', 'uris', 'addresses', 'servers', 'brokers'), 'gamqp.connect([url, url])'),
    **dict.fromkeys(('url', 'uri', 'broker_url', 'amqp_url'), 'gamqp.connect(url)'),
    **dict.fromkeys(('user', 'username', 'user_id', 'user_name', 'login', 'login_user'), 'userid'),
    **dict.fromkeys(('passwd', 'pass', 'pwd', 'passcode', 'secret', 'token', 'access_token'), 'password'),
    'credentials': 'userid and password, or authentication',
    **dict.fromkeys(('auth', 'auth_mechanism', 'mechanism', 'mechanisms', 'sasl_mechanism'), 'login_method'),
    **dict.fromkeys(('vhost', 'virtualhost', 'virtual_hosts', 'v_host'), 'virtual_host'),
    **dict.fromkeys(('tls', 'use_ssl', 'use_tls', 'ssl_options', 'ssl_context', 'ssl_params', 'sslopts'), _TLS),
    **dict.fromkeys(('secure', 'tls_options', 'tls_context', 'enable_ssl', 'enable_tls', 'broker_use_ssl'), _TLS),
    **{
        key: f"ssl={{'{key}': …}}"
        for key in ('ca_certs', 'certfile', 'keyfile', 'cert_reqs', 'server_hostname', 'check_hostname')
    },
    'cacertfile': "ssl={'ca_certs': …}",
    'cafile': "ssl={'ca_certs': …}",
    'verify': "ssl={'cert_reqs': …}",
    'server_name_indication': "ssl={'server_hostname': …}",
    **dict.fromkeys(('heartbeats', 'heartbeat_interval', 'heartbeat_timeout', 'requested_heartbeat'), 'heartbeat'),
    **dict.fromkeys(('timeout', 'connection_timeout'), 'connect_timeout, in seconds'),
    **dict.fromkeys(('blocked_connection_timeout', 'blocked_wait'), 'blocked_timeout'),
    **dict.fromkeys(('publisher_confirms', 'confirms', 'confirm_delivery', 'confirm_publishes'), 'confirm_publish'),
    **dict.fromkeys(('connection_name', 'client_name', 'client_provided_name'), 'name'),
    **dict.fromkeys(('tcp_options', 'socket_options', 'sock_opts'), 'socket_settings'),
    **dict.fromkeys(('max_channels', 'channels_max', 'max_channel'), 'channel_max'),
    **dict.fromkeys(('max_frame', 'max_frame_size', 'frame_size'), 'frame_max'),
    **dict.fromkeys(('properties', 'client_props'), 'client_properties'),
}

# Names that kombu itself passes, and options of its other transports that happen to be similar to ours.
KOMBU_OPTIONS = frozenset(
    ('insist', 'socket_timeout', 'socket_connect_timeout', 'socket_keepalive', 'secure', 'sasl_mechanism')
)
