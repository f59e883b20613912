"""Connection: one AMQP connection that any number of greenlets may use at the same time.

Layer 4. The methods that programs call: connect, close, drain, channel, drain_events. How it is opened is in
``connecting``, how it is closed in ``shutdown``; what arrives is sorted in ``dispatch``, which holds the objects
with the state of a connection (``event_queue`` and others). Does not belong here: sockets, frames.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from .. import exceptions, green, sasl
from ..about import __version__
from ..channel.channel import Channel as ChannelType
from ..io import abandoned
from ..recovery.engine import RecoveryEngine
from ..recovery.outage import RecoveryReport
from ..recovery.recovering_channel import recovering_class
from ..state import connection_settings, lifecycle
from ..state.argument_checks import optional_timeout, whole
from ..state.channel_ids import ChannelIds
from ..state.durations import in_seconds
from ..state.lifecycle import Reason
from ..state.negotiation import CHANNEL_LIMIT
from ..state.receive_budget import ReceiveBudget
from ..state.recovery_settings import Recovery
from ..state.secret_hiding import discreet
from ..telemetry import stats
from ..transport import TLSOptions, check_ssl_options
from ..wire import encode_method
from ..wire.spec import Connection as Spec
from . import connecting, shutdown
from .draining import DrainEvents
from .update_secret import SecretUpdates

__all__ = ('Connection',)

CHANNEL_ID = whole(0, CHANNEL_LIMIT, none=None)

T = TypeVar('T')


class Connection(DrainEvents, SecretUpdates):
    """A connection to a broker; made closed, opened by ``connect()`` or ``with``.

    The arguments of py-amqp may be given by position, in its order; *name* and those
    that py-amqp does not have by keyword only. In brackets the default; docs/api.rst has
    all of them in tables, with units.

    Where:

    * host ('localhost:5672'): 'name', 'name:port', '[::1]:port'; 5672 where no port is
      named, 5671 with ssl. An IPv6 address without brackets is split at its last colon
      where an address and a port come of that.
    * virtual_host ('/')
    * ssl (False): False or None for none, True for TLS that verifies the broker's
      certificate and host name, an ssl.SSLContext, or a dict of options (an empty one is
      like True), see ``transport.tls_context.make_context``. 1 and 0 are True and False.
    * socket_settings (None): a dict of TCP options by number.

    Who:

    * userid, password ('guest'): None for none; a callable password is asked at each connect,
      before the socket is opened, and may take its time.
    * refresh_secret (False): for a callable password: True to ask it again when 80 % of the
      token's life are over (``exp`` of a JWT) and give the broker the new one by
      update_secret; or a number of seconds, to do so that often. What fails is logged.
    * login_method (None): PLAIN, AMQPLAIN, EXTERNAL, GSSAPI, several of them in a tuple
      (best first), or any name together with login_response (None; bytes).
    * authentication (): a sasl.SASL or several, instead of those.
    * locale ('en_US')
    * name (None: host, process and program), client_properties (None): shown by the
      broker's management.

    Time limits, in seconds:

    * connect_timeout (None: 10): in total for connecting and the handshake, with several hosts
      for all of them.
    * rpc_timeout, confirm_timeout (30): what a reply, a confirm may take.
    * read_timeout (None): without a byte from the broker, while a call waits for its reply,
      its confirm or room for one more publish, or a consumer waits for its next message,
      after which the connection is lost; None or 0 for no such limit. A queue may be empty
      for long: with consumers choose more than the heartbeat.
    * write_timeout (None): without the broker taking a byte of what is queued after which
      the connection is lost; None or 0 for no such limit.

    Signs of life:

    * heartbeat (None): seconds, at most 65535; None takes the broker's, 0 or False is off.
      After ``install_as_amqp()`` None is off in a process that is not patched.
    * heartbeat_thread (False): have a thread of the operating system send heartbeats while
      something keeps the hub from it (code that computes or calls C, but lets other
      threads run), and log what that was.

    Recovery:

    * recover (False): True, or a Recovery with settings, to have the connection opened again after each loss, with the
      channels, consumers and topology that it had. Not in a program that has called ``install_as_amqp()``, and not
      under kombu: they recover themselves.

    Limits agreed on with the broker, the smaller one counts:

    * channel_max (None: 2047): highest channel number, at most 65535; 0 for no limit of ours. With recover at least
      2, of which the highest is the connection's own.
    * frame_max (None: 131072): bytes of a frame, at least 4096; 0 for no limit of ours.

    Publishing:

    * confirm_publish (False): basic_publish waits for its confirm.
    * outstanding_limit (1000): publishes of one channel that may be without their confirm
      before Channel.publish waits, 0 for no limit.
    * blocked_policy ('wait'): what a publish does while the broker takes none: 'wait'
      blocked_timeout seconds (None: rpc_timeout) and then raise Blocked, 'raise' Blocked
      at once, or 'pass': send it, and let the broker leave it unread.

    Receiving:

    * max_inbound_body (536870912): bytes of the largest message accepted.
    * max_undelivered_bytes (33554432), max_undelivered_messages (20000): how much memory
      messages may take that wait here for drain_events, iterators and handlers, and how
      many may wait, before reading stops; 0 for no limit.
    * spool (True): a connection that waits for a reply has to be read on, and what it gets
      too much then goes to an unlinked file in the directory for temporary files (TMPDIR),
      bodies unencrypted; False to keep it in memory.
    * combine_acks (False): True to send acks that follow one another in one turn of the hub,
      with nothing unsettled before them, as one frame.
    * unsettled_warning (30): seconds after which the log says, once for a consumer, that it
      gets nothing more because its prefetch is used up by messages that nobody settles
      (iterators and callbacks; handlers of subscribe settle by themselves); None or 0: never.

    Called back, all None:

    * on_open(connection): when it is open. on_tune_ok(): during the handshake.
    * on_blocked(reason), on_unblocked(): in a greenlet of their own.
    * on_lost(error): once, in a greenlet of its own, when the open connection ends and the
      program has not asked for it, with the exception that says why. Not for ``close()``,
      ``collect()``, a ``connect()`` that fails, or a connection that was garbage-collected.
    * on_recovering(attempt, delay, error), on_recovered(report), on_given_up(error): with recover, in the order of
      events and in one greenlet, on_lost too: an attempt is due in *delay* seconds; the connection is open again, with
      a ``RecoveryReport``; no more attempts are made.
    * metrics(stats): called with ``stats()`` and the connection's name every
      metrics_interval seconds (15) and once at the end, in a greenlet of its own; while a
      call of it lasts there is no other. Its counters are those of all connections of
      that name in the process.

    frame_handler, frame_writer: py-amqp's, without a meaning here.

    A value that cannot be meant is a TypeError (a number as text) or a ValueError (out of
    range) that names the argument. So are names that mean one of these (``port``,
    ``username``, ``vhost``, ``tls`` …) or are almost one; others are ignored, because kombu
    passes its own. ``gamqp.connect`` ignores none.

    It belongs to the thread that connects it; in any other one its methods raise
    WrongThread before anything has changed, except ``run_in_hub``.
    """

    Channel: type[ChannelType] = ChannelType

    #: Whether heartbeat=None is off in a process that is not patched; set by install_as_amqp.
    _heartbeat_needs_patching = False

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

    @discreet
    def __init__(
        self,
        host: str = 'localhost:5672',
        userid: str | None = 'guest',
        password: sasl.Password = 'guest',
        login_method: str | tuple[str, ...] | None = None,
        login_response: bytes | None = None,
        authentication: sasl.SASL | Iterable[sasl.SASL] = (),
        virtual_host: str = '/',
        locale: str = 'en_US',
        client_properties: Mapping[str, Any] | None = None,
        ssl: TLSOptions = False,
        connect_timeout: float | None = None,
        channel_max: int | None = None,
        frame_max: int | None = None,
        heartbeat: float | None = None,
        on_open: Callable[[Connection], object] | None = None,
        on_blocked: Callable[[str], object] | None = None,
        on_unblocked: Callable[[], object] | None = None,
        confirm_publish: bool = False,
        on_tune_ok: Callable[[], object] | None = None,
        read_timeout: float | None = None,
        write_timeout: float | None = None,
        socket_settings: Mapping[int, int | None] | None = None,
        frame_handler: object = None,
        frame_writer: object = None,
        *,
        name: str | None = None,
        rpc_timeout: float = connection_settings.RPC_TIMEOUT,
        confirm_timeout: float = connection_settings.CONFIRM_TIMEOUT,
        refresh_secret: bool | float = False,
        blocked_policy: connection_settings.BlockedPolicy = 'wait',
        blocked_timeout: float | None = None,
        max_inbound_body: int = connection_settings.MAX_INBOUND_BODY,
        max_undelivered_bytes: int = connection_settings.MAX_UNDELIVERED_BYTES,
        max_undelivered_messages: int = connection_settings.MAX_UNDELIVERED_MESSAGES,
        spool: bool = True,
        combine_acks: bool = False,
        unsettled_warning: float | None = connection_settings.UNSETTLED_WARNING,
        outstanding_limit: int = connection_settings.OUTSTANDING_LIMIT,
        metrics: Callable[[dict[str, Any]], object] | None = None,
        metrics_interval: float = connection_settings.METRICS_INTERVAL,
        heartbeat_thread: bool = False,
        on_lost: Callable[[BaseException], object] | None = None,
        recover: bool | Recovery = False,
        on_recovering: Callable[[int, float, BaseException], object] | None = None,
        on_recovered: Callable[[RecoveryReport], object] | None = None,
        on_given_up: Callable[[BaseException], object] | None = None,
        **others: object,
    ) -> None:
        given = {name: value for name, value in locals().items() if name in connection_settings.names()}
        connection_settings.check_names(type(self).__name__, others, lenient=True)
        checked = connection_settings.Settings(**given)
        if checked.secure:
            check_ssl_options(checked.ssl)
        super().__init__(ReceiveBudget(checked.max_undelivered_messages, checked.max_undelivered_bytes))
        self._configure(checked)
        if checked.recover is not None:
            if self._heartbeat_needs_patching:
                raise ValueError(
                    'recover: not with kombu (gamqp.kombu, install_as_amqp()), which itself opens lost ones again'
                )
            self.Channel = recovering_class(self.Channel, checked.recover.republish == 'all')
            self._recovery = RecoveryEngine(self, checked.recover, connecting)
            self._event_queue.outlives_link = True
            self._topology = self._recovery.topology

        # Told by the broker when we connect.
        self.version_major = self.version_minor = 0
        self.server_properties: dict[str, Any] = {}
        self.mechanisms: list[bytes] = []
        self.locales: list[str] = []
        self.channel_max = self.client_channel_max
        self.frame_max = self.client_frame_max
        self.server_heartbeat: int | None = None
        self.heartbeat: int | None = None
        self._channel_ids = ChannelIds(self.channel_max)

    def __repr__(self) -> str:
        settings = getattr(self, '_settings', None)
        if settings is None:  # its arguments are just being refused
            return f'<{type(self).__name__} not made>'
        where = f'{self.host}{self._hosts.failed_text} vhost {self.virtual_host!r}'
        return f'<{type(self).__name__} {where} {self._life.state}>'

    def __enter__(self) -> Connection:
        self.connect()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        link = getattr(self, '_link', None)
        if link is not None and link.reason is None:
            if self._affinity.is_here():
                abandoned.abandon(link)
            else:
                self._affinity.call_later(functools.partial(abandoned.abandon, link))
            # Last, since it may raise; and without source=self, which would bring this object back to life.
            warnings.warn(f'{self!r} was never closed', ResourceWarning, stacklevel=2)

    # -- opening and closing --------------------------------------------------------

    def connect(self, callback: Callable[[], T] | None = None) -> T | None:
        """Connect and log in; does nothing when connected, and waits while it recovers. Switches greenlets.

        A callable password is asked first; then all addresses of the host are tried within connect_timeout, with
        several URLs those of one host after the other. callback: called when done, its result is returned. Raises
        OSError (no such host, refused, TimeoutError), AccessRefused (credentials), NotAllowed (virtual host) and other
        ConnectionErrors. After an error nothing is left open.
        """
        if self._life.state not in (lifecycle.NEW, lifecycle.CLOSED):
            self._affinity.check()
        if not self.is_open:
            if self._life.state in (lifecycle.OPENING, lifecycle.CLOSING):
                raise exceptions.RecoverableConnectionError(f'another greenlet has this connection {self._life.state}')
            if self._life.state == lifecycle.RECOVERING:
                self.wait_open(self.connect_timeout)
            else:
                connecting.run(self)
        return callback() if callback is not None else None

    def close(
        self,
        reply_code: int = 0,
        reply_text: str = '',
        method_sig: tuple[int, int] = (0, 0),
        argsig: object = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """Close the connection, with the consent of the broker. Closing twice does nothing.

        Everything handed over before is sent first. timeout: seconds to wait for the broker's consent, None for 10,
        or rpc_timeout if that is less, and for 3 while the broker takes no messages: then it answers nothing. Whatever
        happens, the socket and the greenlets are gone afterwards, and every greenlet that waited for something gets
        RecoverableConnectionError. Raises TypeError or ValueError for a bad argument, and has closed nothing then.
        Switches greenlets.
        """
        args = (reply_code, reply_text, *method_sig)
        encode_method(0, Spec.Close, args)  # refuse bad arguments before anything changes
        shutdown.close(self, args, optional_timeout('timeout', timeout))

    def drain(self, timeout: float | None = None) -> bool:
        """End gracefully: take no more messages, finish those that were begun, then close. Switches greenlets.

        Cancels all consumers; what no handler, loop or callback has begun goes back
        to its queue, what came with no_ack is still handed out: to callbacks in this
        greenlet, unless another one is in drain_events to do it. Waits for running
        handlers, for loops over ``Channel.consume`` to ask for their next message and
        for callbacks inside drain_events, sends their acks, waits for outstanding
        confirms, and closes. Called in one of these, it waits for the others that do not.
        Heartbeats go on until the end.

        timeout: total seconds, with the close, which gets 0.5 at least; None for as long as
        handlers take (the broker's answers have timeouts of their own, which are 3 s while it
        takes no messages); a callback is not interrupted by it. Returns whether everything
        was finished; the connection is closed in any case. Raises why the connection ended,
        if it was lost before; one that recovers waits for running handlers then, and returns
        False. What a callback raises comes out, as from drain_events: after that, and when it
        is interrupted, the connection is left open, without consumers; call it again to go on.
        """
        deadline = green.Deadline(timeout)
        if self._life.state != lifecycle.RECOVERING:
            self._check_open()
        return shutdown.drain(self, deadline)

    def stats(self) -> dict[str, float]:
        """Counters and gauges as a new dict, see ``gamqp.telemetry.stats``. In any thread; does not switch."""
        return stats.collect(self)

    def collect(self) -> None:
        """Close the socket at once and forget everything, without a word to the broker. Does not switch."""
        if self._life.state != lifecycle.CLOSED:
            self._affinity.check()
        if self._recovery is not None:
            self._recovery.stop()
        self._event_queue.forget_loss()
        self._end(
            Reason(exceptions.RecoverableConnectionError('the connection was closed by this program'), clean=True)
        )

    # -- use ------------------------------------------------------------------------

    def channel(
        self, channel_id: int | None = None, callback: Callable[[ChannelType], object] | None = None
    ) -> ChannelType:
        """Open a channel, or return the one with this number if it is open. Switches greenlets.

        channel_id: 1 to the connection's channel_max, None or 0 for a free one. callback: called with the channel when
        it is open. Raises ResourceError when all numbers are in use, TimeoutError, or why the connection ended.
        """
        channel_id = CHANNEL_ID('channel_id', channel_id)
        self._await_open()
        known: ChannelType | None = self.channels.get(channel_id or 0)
        if known is not None and known._was_opened:
            return known
        channel: ChannelType = self.Channel(self, channel_id, on_open=callback)
        channel.open()
        return channel

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the operating system has taken everything sent so far. Switches greenlets.

        timeout: seconds, None for as long as the connection lives. Raises TimeoutError, and why the connection ended.
        """
        self._check_open()
        link = self._link
        if not self._flow_control.wait_until_sent(link, timeout):
            raise TimeoutError(f'flush: {link.writer.queued} bytes are still queued after {in_seconds(timeout)}')
