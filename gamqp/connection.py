"""Connection: one AMQP connection that any number of greenlets may use at the same time.

Layer 3. This file is the public face: arguments, connect, close, channels,
drain_events. What the reader hands over is sorted in ``inbound``; the opening
conversation is in ``handshake``; everything that dies with the socket is in
``io.link``. What must not enter: sockets, frames.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from . import draining, exceptions, green, handshake, sasl, stats
from .about import __version__
from .basic_message import Message
from .channel import Channel
from .inbound import OpenChannels
from .io import goodbye
from .io.link import Link
from .liveness import Liveness
from .pacing import BLOCKED_POLICIES
from .state import lifecycle, negotiate, uri
from .state.budget import Budget
from .state.ids import ChannelIds
from .state.lifecycle import Reason
from .transport import Transport, check_options, is_secure, to_host_port
from .wire import Decoder, encode_method
from .wire.spec import Connection as Spec

__all__ = ('Connection', 'connect')

# Seconds. The broker itself gives up on a handshake after 10.
CONNECT_TIMEOUT = 10.0
RPC_TIMEOUT = 30.0
CONFIRM_TIMEOUT = 30.0
# A peer that does not answer a close is not worth waiting for longer.
CLOSE_TIMEOUT = 10.0

FRAME_MAX = 131072  # RabbitMQ's own default, and its advice is to leave it
CHANNEL_MAX = 2047  # likewise
MAX_INBOUND_BODY = 512 * 1024 * 1024  # no RabbitMQ can be told to send more

# Undelivered messages above which we stop reading: bytes of memory, because that is
# what runs out, and a count, because each message takes time to handle, too.
MAX_UNDELIVERED_BYTES = 32 * 1024 * 1024
MAX_UNDELIVERED_MESSAGES = 20_000


# Publishes of one channel that may be without their confirm: enough to keep a broker on a
# fast network busy, few enough to be kept in memory, and to be looked at when one is lost.
OUTSTANDING_LIMIT = 1000


METRICS_INTERVAL = 15.0  # seconds, what collectors of metrics usually ask for


class Connection(Liveness):
    """A connection to a broker; made closed, opened by ``connect()`` or ``with``.

    The arguments of py-amqp, by position in its order:

    host: 'name', 'name:port', '[::1]:port'; 5672 where no port is named, 5671 with
    ssl. userid, password: None for none; a callable password is asked at each
    connect. login_method: PLAIN, AMQPLAIN, EXTERNAL, GSSAPI, several of them in a
    tuple (best first), or any name together with login_response (bytes).
    authentication: a sasl.SASL or several, instead of those. virtual_host. ssl:
    None or False for none, True for TLS that verifies the broker's certificate and
    host name, an ssl.SSLContext, or a dict of options (an empty one is like True), see
    ``transport.context.make_context``.
    locale. client_properties: shown by the broker's management. connect_timeout:
    total seconds for connecting and the handshake, None for 10. channel_max,
    frame_max: limits, the smaller of ours and the broker's counts, None for 2047
    and 131072. heartbeat: seconds; None takes the broker's, 0 is off. on_open:
    called with the connection when it is open. on_blocked(reason), on_unblocked():
    called in a greenlet of their own. confirm_publish: basic_publish waits for
    its confirm. on_tune_ok: called without arguments during the handshake.
    read_timeout: seconds without a byte from the broker, while a call waits for
    its reply or confirm, after which the connection is lost; None for no such limit.
    write_timeout: seconds without the broker taking a byte of what is queued
    after which the connection is lost, None for no such limit. socket_settings:
    TCP options by number.

    And by keyword only: name: shown by the broker's management. rpc_timeout,
    confirm_timeout: seconds a reply, a confirm may take (30). blocked_policy: what
    a publish does while the broker takes none: 'wait' blocked_timeout seconds
    (None: rpc_timeout) and then raise Blocked, 'raise' Blocked at once, or 'pass':
    send it, and let the broker leave it unread. max_inbound_body:
    largest message accepted, in bytes. max_undelivered_bytes,
    max_undelivered_messages: how much memory messages may take that wait here for
    drain_events, iterators and handlers, and how many may wait, before reading stops.
    spool: a connection that waits for a reply has to be read on, and what it gets too
    much then goes to an unlinked file in the directory for temporary files (TMPDIR),
    bodies unencrypted; False to keep it in memory. outstanding_limit: publishes of
    one channel that may be without their confirm before Channel.publish waits, 0 for
    no limit. metrics: called with ``stats()`` every metrics_interval seconds (15) and
    once at the end, in a greenlet of its own; while a call of it lasts there is no other.
    heartbeat_thread: have a thread of the operating system send heartbeats while
    something keeps the hub from it (code that computes or calls C, but lets other
    threads run), and tell in the log what that was. Other keywords are ignored,
    because kombu passes its own.

    It belongs to the thread that connects it; in any other one its methods raise
    WrongThread before anything has changed, except ``run_in_hub``.
    """

    Channel: type[Channel] = Channel

    connection_errors: tuple[type[BaseException], ...] = (exceptions.ConnectionError, OSError)
    channel_errors: tuple[type[BaseException], ...] = (exceptions.ChannelError,)
    recoverable_connection_errors: tuple[type[BaseException], ...] = (
        exceptions.RecoverableConnectionError,
        exceptions.MessageNacked,
        OSError,
    )
    recoverable_channel_errors: tuple[type[BaseException], ...] = (exceptions.RecoverableChannelError,)

    library_properties: ClassVar[dict[str, Any]] = {'product': 'gamqp', 'product_version': __version__}
    negotiate_capabilities: ClassVar[dict[str, bool]] = {
        'authentication_failure_close': True,
        'basic.nack': True,
        'connection.blocked': True,
        'consumer_cancel_notify': True,
        'exchange_exchange_bindings': True,
        'publisher_confirms': True,
    }

    def __init__(
        self,
        host: str = 'localhost:5672',
        userid: str | None = 'guest',
        password: sasl.Password = 'guest',
        login_method: str | tuple[str, ...] | None = None,
        login_response: bytes | None = None,
        authentication: Any = (),
        virtual_host: str = '/',
        locale: str = 'en_US',
        client_properties: Mapping[str, Any] | None = None,
        ssl: Any = False,
        connect_timeout: float | None = None,
        channel_max: int | None = None,
        frame_max: int | None = None,
        heartbeat: float | None = None,
        on_open: Callable[[Any], Any] | None = None,
        on_blocked: Callable[[str], Any] | None = None,
        on_unblocked: Callable[[], Any] | None = None,
        confirm_publish: bool = False,
        on_tune_ok: Callable[[], Any] | None = None,
        read_timeout: float | None = None,
        write_timeout: float | None = None,
        socket_settings: Mapping[int, int | None] | None = None,
        frame_handler: Any = None,
        frame_writer: Any = None,
        *,
        name: str | None = None,
        rpc_timeout: float = RPC_TIMEOUT,
        confirm_timeout: float = CONFIRM_TIMEOUT,
        blocked_policy: str = 'wait',
        blocked_timeout: float | None = None,
        max_inbound_body: int = MAX_INBOUND_BODY,
        max_undelivered_bytes: int = MAX_UNDELIVERED_BYTES,
        max_undelivered_messages: int = MAX_UNDELIVERED_MESSAGES,
        spool: bool = True,
        outstanding_limit: int = OUTSTANDING_LIMIT,
        metrics: Callable[[dict[str, Any]], Any] | None = None,
        metrics_interval: float = METRICS_INTERVAL,
        heartbeat_thread: bool = False,
        **ignored: Any,
    ) -> None:
        if blocked_policy not in BLOCKED_POLICIES:
            raise ValueError(f'blocked_policy: one of {", ".join(BLOCKED_POLICIES)}, not {blocked_policy!r}')
        if metrics is not None and not metrics_interval > 0:
            raise ValueError(f'metrics_interval: more than 0 seconds, not {metrics_interval!r}')
        if heartbeat is not None:
            negotiate.heartbeat(heartbeat, 0)  # refuse now what could not be meant
        to_host_port(host)
        secure = is_secure(ssl)
        if secure:
            check_options(ssl)
        super().__init__(Budget(max_undelivered_messages, max_undelivered_bytes))
        self.host = host
        self.virtual_host = virtual_host
        self.authentication = choose_authentication(
            userid, password, login_method, login_response, authentication, secure
        )
        self.locale = locale
        self.client_properties = dict(client_properties or {})
        self.ssl = ssl
        self.connect_timeout = connect_timeout
        self.client_channel_max = CHANNEL_MAX if channel_max is None else channel_max
        self.client_frame_max = FRAME_MAX if frame_max is None else frame_max
        self.client_heartbeat = heartbeat
        self.on_open = on_open
        self.on_blocked = on_blocked
        self.on_unblocked = on_unblocked
        self.on_tune_ok = on_tune_ok
        self.confirm_publish = confirm_publish
        self.read_timeout = read_timeout
        self.write_timeout = write_timeout
        self.socket_settings = socket_settings
        self.name = name
        self.rpc_timeout = rpc_timeout
        self.confirm_timeout = confirm_timeout
        self.blocked_policy = blocked_policy
        self.blocked_timeout = blocked_timeout
        self.max_inbound_body = max_inbound_body
        self.spool = spool
        self.outstanding_limit = outstanding_limit
        self.metrics = metrics
        self.metrics_interval = metrics_interval
        self.heartbeat_thread = heartbeat_thread

        # Told by the broker when we connect.
        self.version_major = self.version_minor = 0
        self.server_properties: dict[str, Any] = {}
        self.mechanisms: list[bytes] = []
        self.locales: list[str] = []
        self.channel_max = self.client_channel_max
        self.frame_max = self.client_frame_max
        self.server_heartbeat: int | None = None
        self.heartbeat: int | None = None
        self.channel_ids = ChannelIds(self.channel_max)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.host} vhost {self.virtual_host!r} {self._life.state}>'

    def __enter__(self) -> Connection:
        self.connect()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        link = getattr(self, 'link', None)
        if link is not None and link.reason is None:
            if self.in_own_thread():
                goodbye.abandon(link)
            else:
                self.leave_word(functools.partial(goodbye.abandon, link))
            # Last, since it may raise; and without source=self, which would bring this object back to life.
            warnings.warn(f'{self!r} was never closed', ResourceWarning, stacklevel=2)

    # -- opening and closing --------------------------------------------------------

    def connect(self, callback: Callable[[], Any] | None = None) -> Any:
        """Connect and log in; does nothing when connected. Switches greenlets.

        All addresses of the host are tried within connect_timeout. callback: called
        when done, its result is returned. Raises OSError (no such host, refused,
        TimeoutError), AccessRefused (credentials), NotAllowed (virtual host) and
        other ConnectionErrors. After an error nothing is left open.
        """
        if self._life.state not in (lifecycle.NEW, lifecycle.CLOSED):
            self.check_thread()
        if not self.connected:
            if self._life.state in (lifecycle.OPENING, lifecycle.CLOSING):
                raise exceptions.RecoverableConnectionError(f'another greenlet has this connection {self._life.state}')
            self._open()
            if self.on_open is not None:
                self.on_open(self)
        return callback() if callback is not None else None

    def _open(self) -> None:
        deadline = green.Deadline(self.connect_timeout or CONNECT_TIMEOUT)
        attempt = self.begin(green.backend())
        transport = self._make_transport()
        try:
            transport.connect(deadline)
            self.check_opening(attempt)
            decoder = Decoder(Message, FRAME_MAX, self.max_inbound_body, OpenChannels(self))
            self.link = Link(self.green, transport, decoder, self, self.counts, self.write_timeout)
            self.link.start_reading()
            handshake.run(self, deadline)
            self.check_opening(attempt)
            self._life.move('opened')
            self.counts.opened += 1
            stats.tell_observers(self)
            if self.metrics is not None:
                self._pump = stats.Pump(self, self.metrics_interval)
        except BaseException as exc:
            transport.close()
            self.give_up(attempt, exc)
            raise

    def _make_transport(self) -> Any:
        return Transport(
            self.host,
            self.connect_timeout,
            self.ssl,
            self.heartbeat_thread,
            read_timeout=self.read_timeout,
            write_timeout=self.write_timeout,
            socket_settings=self.socket_settings,
            backend=self.green,
        )

    def close(
        self, reply_code: int = 0, reply_text: str = '', method_sig: tuple[int, int] = (0, 0), argsig: Any = None
    ) -> None:
        """Say goodbye to the broker and close the socket. Closing twice does nothing.

        Everything handed over before is sent first. Waits for the broker's consent
        at most 10 s, or rpc_timeout if that is less; whatever happens, the socket
        and the greenlets are gone afterwards, and every greenlet that waited for
        something gets RecoverableConnectionError. Switches greenlets.
        """
        state = self._life.state
        if state in (lifecycle.NEW, lifecycle.CLOSED):
            return
        self.check_thread()
        if state == lifecycle.CLOSING:
            return
        reason = Reason(exceptions.RecoverableConnectionError('the connection was closed by this program'), clean=True)
        if state == lifecycle.OPENING:
            self.end(reason)
        if state != lifecycle.OPEN:
            return
        args = (reply_code, reply_text, *method_sig)
        encode_method(0, Spec.Close, args)  # refuse bad arguments before anything changes
        self._life.move('close')
        try:
            self._call(Spec.Close, args, timeout=min(CLOSE_TIMEOUT, self.rpc_timeout))
        except (TimeoutError, exceptions.AMQPError):
            pass  # the peer is gone, or silent: that is closed too
        finally:
            self.end(reason)

    def drain(self, timeout: float | None = None) -> bool:
        """End gracefully: take no more messages, finish those that were begun, then close. Switches greenlets.

        Cancels all consumers; what no handler, loop or callback has begun goes back
        to its queue, what came with no_ack is still handed out: to callbacks in this
        greenlet, unless another one is in drain_events to do it. Waits for running
        handlers, for loops over ``Channel.consume`` to ask for their next message and
        for callbacks inside drain_events, sends their acks, waits for outstanding
        confirms, and closes. Called in one of these, it waits for the others that do not.
        Heartbeats go on until the end.

        timeout: total seconds for all but the close, None for as long as handlers
        take (the broker's answers have timeouts of their own); a callback is not
        interrupted by it. Returns whether everything was finished; the connection is
        closed in any case. Raises why the connection ended, if it was lost before. What
        a callback raises comes out, as from drain_events: after that, and when it is
        interrupted, the connection is left open, without consumers; call it again to go on.
        """
        self.check_open()
        finished = draining.drain(self, green.Deadline(timeout))
        self.close()
        return finished

    def stats(self) -> dict[str, Any]:
        """Counters and gauges of this connection as a new dict, see ``gamqp.stats``. In any thread; does not switch."""
        return stats.collect(self)

    def collect(self) -> None:
        """Close the socket at once and forget everything, without a word to the broker. Does not switch."""
        if self._life.state != lifecycle.CLOSED:
            self.check_thread()
        self.end(Reason(exceptions.RecoverableConnectionError('the connection was closed by this program'), clean=True))

    @property
    def connected(self) -> bool:
        return self._life.state == lifecycle.OPEN

    @property
    def is_closing(self) -> bool:
        return self._life.state == lifecycle.CLOSING

    @property
    def sock(self) -> Any:
        """The operating system's socket, or None. Reading or writing it corrupts the connection."""
        return None if self.transport is None else self.transport.sock

    @property
    def transport(self) -> Any:
        return None if self.link is None else self.link.transport

    @property
    def server_capabilities(self) -> dict[str, Any]:
        capabilities = self.server_properties.get('capabilities')
        return capabilities if isinstance(capabilities, dict) else {}

    # -- use ------------------------------------------------------------------------

    def channel(self, channel_id: int | None = None, callback: Callable[[Any], Any] | None = None) -> Any:
        """Open a channel, or return the one with this number if it is open. Switches greenlets.

        callback: called with the channel when it is open. Raises ResourceError when
        all channel_max numbers are in use, TimeoutError, or why the connection ended.
        """
        self.check_open()
        known = self.channels.get(channel_id or 0)
        if known is not None and known.was_opened:
            return known
        channel = self.Channel(self, channel_id, on_open=callback)
        channel.open()
        return channel

    def drain_events(self, timeout: float | None = None) -> None:
        """Wait for one event and run its callback here: a delivery, a return, a confirm, a cancel.

        timeout: total seconds, None for ever, 0 for only what is there already.
        Any call is legal inside a callback. Several greenlets may drain at the
        same time; each event goes to one of them. Raises socket.timeout
        (TimeoutError) when nothing came, a ChannelError that belongs to no other
        caller, ConsumerCancelled, and why the connection ended. Switches greenlets.
        """
        self.check_thread()
        if self.long_without_breath():
            self._breathe_as_drainer()
        if self.run_event():
            return
        deadline = green.Deadline(timeout)
        while True:
            late = deadline.passed
            self.wait_for_event(deadline.left())
            if self.run_event():
                return
            if late:  # others may come first time and again
                raise TimeoutError('timed out')

    def update_secret(self, new_secret: str | bytes, reason: str = '') -> None:
        """Give the broker a new secret for this connection, e.g. a renewed OAuth 2 token. Switches greenlets.

        new_secret: what would be the password now. reason: for the broker's log.
        It counts for this connection only: for the next ones give a callable as
        *password*. Raises NotAllowed when the broker refuses, and has then closed
        the connection, ValueError for a str that is not to be encoded as UTF-8.
        https://www.rabbitmq.com/docs/oauth2
        """
        try:
            secret = new_secret.encode() if isinstance(new_secret, str) else new_secret
        except UnicodeEncodeError:  # which holds the secret
            raise ValueError('update_secret: the new secret cannot be encoded as UTF-8') from None
        self._call(Spec.UpdateSecret, (secret, reason))

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the operating system has taken everything sent so far. Switches greenlets.

        timeout: seconds, None for as long as the connection lives. Raises
        TimeoutError, and why the connection ended.
        """
        self.check_open()
        if not self.link.writer.wait_until_empty(timeout):
            raise TimeoutError(f'flush: {self.link.writer.queued} bytes are still queued after {timeout} s')
        self.check_open()

    def set_limits(self, channel_max: int, frame_max: int) -> None:
        """What tune has settled. For the handshake."""
        self.channel_max = channel_max
        self.frame_max = frame_max
        self.channel_ids = ChannelIds(channel_max)
        self.link.decoder.frame_max = frame_max


def connect(url: str = 'amqp://guest:guest@localhost:5672', **arguments: Any) -> Connection:
    """An open Connection to an AMQP URI. Switches greenlets.

    arguments: those of Connection; they go before the URI's. Raises ValueError
    for a URI that cannot be understood, and what ``Connection.connect`` raises.
    """
    parsed = uri.parse(url)
    if 'ssl' in parsed and not is_secure(arguments.get('ssl', True)):
        raise ValueError('amqps:// and an ssl argument that turns TLS off contradict each other')
    connection = Connection(**{**parsed, **arguments})
    connection.connect()
    return connection


def choose_authentication(
    userid: str | None, password: sasl.Password, method: Any, response: bytes | None, given: Any, secure: bool = False
) -> tuple[Any, ...]:
    """The mechanisms to offer, best first."""
    if given:
        return (given,) if isinstance(given, sasl.SASL) else tuple(given)
    if method is None:
        usual = (sasl.GSSAPI(userid, fail_soft=True), sasl.PLAIN(userid, password), sasl.AMQPLAIN(userid, password))
        # EXTERNAL last, and only with TLS: over plain TCP a broker may offer it and then refuse.
        return (*usual, sasl.EXTERNAL()) if secure else usual
    if isinstance(method, (tuple, list)):
        return tuple(_mechanism(userid, password, one, response) for one in method)
    return (_mechanism(userid, password, method, response),)


def _mechanism(userid: str | None, password: sasl.Password, method: Any, response: bytes | None) -> sasl.SASL:
    if method == 'EXTERNAL':
        return sasl.EXTERNAL()
    if method == 'GSSAPI':
        return sasl.GSSAPI(userid)
    if response is not None:
        return sasl.RAW(method.encode() if isinstance(method, str) else method, response)
    if method in ('PLAIN', 'AMQPLAIN'):
        if userid is None or password is None:
            raise ValueError(f'login_method {method} needs userid and password')
        return sasl.PLAIN(userid, password) if method == 'PLAIN' else sasl.AMQPLAIN(userid, password)
    raise ValueError(f'unknown login_method {method!r} without a login_response')
