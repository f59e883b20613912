"""One connection of a client: what its bytes ask for, and the bytes that answer.

Layer 5, pure: the I/O thread passes in what it has received and takes what is to be sent. Does not belong here:
sockets, channels' methods.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ... import exceptions
from ...wire import HEARTBEAT, METHODS, Content, Decoder, encode_method, spec
from . import channel_methods, handshake
from .channel import ServerChannel
from .clock import Timer
from .errors import Refusal, closing_text, text_of
from .handshake import Phase
from .publishing import publish
from .queue import Queue

if TYPE_CHECKING:
    from .server import Node, Server
    from .users import User
    from .virtual_host import VirtualHost

__all__ = ('Session',)

_CONGESTED = 1024 * 1024  # bytes that wait to be sent; consumers get no more messages then
_CLOSE_TIMEOUT = 10.0  # seconds that a client has for its connection.close-ok
_PUBLISH = spec.Basic.Publish


class Session:
    """A connection as the broker sees it. name: as RabbitMQ names it, from the addresses of both ends."""

    user: User
    vhost: VirtualHost | None = None

    def __init__(self, server: Server, node: Node, name: str, certificate_user: str | None = None) -> None:
        self.server = server
        self.node = node
        self.name = name
        #: Who the client is by its certificate; None without TLS or certificate.
        self.certificate_user = certificate_user
        #: The descriptor of its socket, for the I/O thread; None: it is closed. tls: whether it is encrypted.
        self.fd: int | None = None
        self.tls = False
        self.phase = Phase.HEADER
        self.decoder = Decoder(Content, 0)
        self.client_properties: dict[Any, Any] = {}
        self.channel_max = self.frame_max = self.heartbeat = 0
        self.channels: dict[int, ServerChannel] = {}
        self.confirming: set[ServerChannel] = set()
        self.exclusive_queues: list[Queue] = []
        self.plans: dict[Any, Any] = {}
        self._first = b''
        self._events: deque[Any] = deque()
        #: What is to be sent, in order, and how many bytes that is.
        self.out: list[bytes] = []
        self.out_size = 0
        self.sent_bytes = self.received_bytes = 0
        self.congested = False
        #: connection.blocked was sent: nothing is read until it is taken back.
        self.blocked = False
        #: Set by faults: neither read nor written. held: methods wait.
        self.stalled = self.held = False
        #: The socket is to be closed: once everything is sent, or at once and perhaps with a reset.
        self.ending = self.cut = self.reset = False
        #: So many bytes may still be sent before the connection is cut.
        self.cut_after: int | None = None
        self.last_heard = self.last_sent = server.real_clock.now()
        self._timers: list[Timer] = []
        self.close_reason: tuple[int, str] | None = None

    def __repr__(self) -> str:
        return f'<Session {self.name} {self.phase.name.lower()}, {len(self.channels)} channels>'

    def takes(self, capability: str) -> bool:
        """Whether the client says that it has a capability."""
        capabilities = self.client_properties.get('capabilities')
        return isinstance(capabilities, dict) and capabilities.get(capability) is True

    # What comes in.

    @property
    def reads(self) -> bool:
        """Whether the socket is to be read."""
        return not (self.blocked or self.stalled or self.ending or self.cut)

    def receive(self, data: bytes) -> None:
        """Bytes of the client have arrived."""
        self.received_bytes += len(data)
        self.last_heard = self.server.real_clock.now()
        if self.phase is Phase.HEADER:
            data = self._first + data
            if len(data) < 8 and b'AMQP\x00\x00\x09\x01'.startswith(data[:8]):
                self._first = data
                return
            handshake.header(self, data[:8])
            data = data[8:]
        self._events.extend(self.decoder.feed(data))
        self.pump()

    def pump(self) -> None:
        """Handle what has arrived, as far as nothing holds it up."""
        events, deferred = self._events, self.server.deferred
        while events and not self.held and not self.blocked and self.phase is not Phase.ENDED:
            self._handle(events.popleft())
            if deferred:
                self.server.run_later()
        if not events and self.decoder.error is not None:
            self._broken(self.decoder.error)
        self.flush_confirms()

    def _handle(self, event: Any) -> None:
        if type(event) is tuple:
            number, sig, args = event
        else:
            number, sig, args = event._channel_id, event._method, ()
        if self.phase is Phase.CLOSING:
            if sig == spec.Connection.CloseOk:
                self.end_after_sending()
            elif sig == spec.Connection.Close:
                self.reply(spec.Connection.CloseOk)
            return
        channel = self.channels.get(number)
        if channel is not None and channel.held:
            channel.waiting.append(event)
            return
        if self.server.faults.armed and self._faulty(event, number, sig, args, channel):
            return
        self._carry_out(event, number, sig, args, channel)

    def _faulty(
        self, event: Any, number: int, sig: spec.Sig, args: tuple[Any, ...], channel: ServerChannel | None
    ) -> bool:
        """Carry out what a test has ordered for this method. False if there is nothing."""
        method = METHODS[sig]
        if method.content:
            try:
                arguments = event.delivery_info
            except exceptions.FrameSyntaxError:
                return False  # whoever handles it says what is wrong
        else:
            arguments = dict(zip((name for name, _ in method.args), args, strict=False))
        order = self.server.faults.take(method.name, arguments)
        if order is None:
            return False
        if order.refusal is not None:
            self._refused(order.refusal, sig, channel)
        elif order.seconds is not None:
            self._hold(event, channel, order.seconds)
        elif order.muted:
            self._carry_out_mutely(event, number, sig, args, channel)
        if order.cut:
            self.end_at_once(order.reset)
        return True

    def _carry_out_mutely(
        self, event: Any, number: int, sig: spec.Sig, args: tuple[Any, ...], channel: ServerChannel | None
    ) -> None:
        if channel is not None:
            channel.muted = True
        try:
            self._carry_out(event, number, sig, args, channel)
        finally:
            if channel is not None:
                channel.muted = False

    def _carry_out(
        self, event: Any, number: int, sig: spec.Sig, args: tuple[Any, ...], channel: ServerChannel | None
    ) -> None:
        try:
            if channel is None:
                if self.phase is not Phase.RUNNING or number == 0:
                    self._of_connection(sig, args)
                else:
                    self._of_no_channel(number, sig)
            elif channel.closing:
                channel_methods.handle_closing(channel, sig)
            elif sig != _PUBLISH:
                channel_methods.handle(channel, sig, args)
            elif self.server.blocked_reason is None:
                publish(channel, event)
            else:
                self._publish_blocked(channel, event, self.server.blocked_reason)
        except Refusal as refusal:
            self._refused(refusal, sig, channel)
        except exceptions.FrameSyntaxError as exc:
            self._refused(Refusal(502, exc.reply_text or ''), sig, None)

    def _publish_blocked(self, channel: ServerChannel, event: Any, reason: str) -> None:
        if self.blocked:
            publish(channel, event)
        else:
            # The message that finds out is not handled before the alarm is over.
            self._events.appendleft(event)
            self.block(reason)

    def _of_no_channel(self, number: int, sig: spec.Sig) -> None:
        if sig != spec.Channel.Open:
            if sig == spec.Channel.CloseOk:
                return
            raise Refusal(504, "expected 'channel.open'")
        if self.channel_max and len(self.channels) >= self.channel_max:
            raise Refusal(
                530,
                f'number of channels opened ({len(self.channels)}) has reached the negotiated channel_max '
                f'({self.channel_max})',
            )
        channel = self.channels[number] = ServerChannel(self, number)
        channel.reply(spec.Channel.OpenOk, b'')

    def _of_connection(self, sig: spec.Sig, args: tuple[Any, ...]) -> None:
        if sig == spec.Connection.Close:
            self.close_reason = (args[0], text_of(args[1]))
            self.shut()
            self.phase = Phase.CLOSING
            self.reply(spec.Connection.CloseOk)
            # It is the client who closes the socket.
            self._timers.append(self.server.real_clock.call_later(self.heartbeat or _CLOSE_TIMEOUT, self.end_at_once))
        elif self.phase is not Phase.RUNNING:
            handshake.handle(self, sig, args)
        elif sig == spec.Connection.UpdateSecret:
            self.reply(spec.Connection.UpdateSecretOk)
        elif sig != spec.Connection.CloseOk:
            raise Refusal(503, 'unexpected method on channel 0')

    def _refused(self, refusal: Refusal, sig: spec.Sig, channel: ServerChannel | None) -> None:
        if channel is None or refusal.closes_connection:
            self.close(refusal, refusal.sig or sig)
        elif not channel.closing:
            channel.close(refusal, refusal.sig or sig)

    def _broken(self, error: exceptions.AMQPError) -> None:
        """The client has broken the protocol."""
        if self.phase in (Phase.CLOSING, Phase.ENDED) or self.ending:
            self.end_after_sending()
            return
        code = error.reply_code or 501
        self.close(Refusal(code, error.reply_text or ''), error.method_sig or (0, 0))

    # Delays.

    def _hold(self, event: Any, channel: ServerChannel | None, seconds: float) -> None:
        """Handle *event* in some seconds; what comes after it on its channel waits, too."""
        holder: Any = channel if channel is not None else self
        holder.held = True

        def go_on() -> None:
            holder.held = False
            if self.phase is not Phase.ENDED:
                number, sig, args = event if type(event) is tuple else (event._channel_id, event._method, ())
                self._carry_out(event, number, sig, args, channel)
                if channel is not None:
                    self._events.extendleft(reversed(channel.waiting))
                    channel.waiting.clear()
                    channel.resume()
                self.pump()

        self._timers.append(self.server.real_clock.call_later(seconds, go_on))

    # What goes out.

    def send(self, data: bytes) -> None:
        """Have these bytes sent."""
        self.out.append(data)
        self.out_size += len(data)
        if self.out_size > _CONGESTED:
            self.congested = True
        self.server.outgoing.add(self)

    def reply(self, sig: spec.Sig, *args: Any) -> None:
        """Send a method on channel 0."""
        self.send(encode_method(0, sig, args))

    def sent(self, size: int) -> None:
        """So many bytes have gone."""
        self.out_size -= size
        self.sent_bytes += size
        self.last_sent = self.server.real_clock.now()
        if self.congested and self.out_size < _CONGESTED // 4:
            self.congested = False
            for channel in list(self.channels.values()):
                channel.resume()

    def flush_confirms(self) -> None:
        """Send the confirms that are decided, unless a test holds them back."""
        if self.server.holds_confirms:
            return
        for channel in self.confirming:
            if channel.confirms is not None and not channel.closing:
                frames = channel.confirms.take_frames(channel.id)
                if frames:
                    self.send(frames)
        self.confirming.clear()

    def block(self, reason: str) -> None:
        """connection.blocked: from now on nothing is read."""
        if not self.blocked and self.phase is Phase.RUNNING:
            self.flush_confirms()
            self.blocked = True
            if self.takes('connection.blocked'):
                self.reply(spec.Connection.Blocked, reason)

    def unblock(self) -> None:
        """connection.unblocked"""
        if self.blocked:
            self.blocked = False
            if self.takes('connection.blocked'):
                self.reply(spec.Connection.Unblocked)
            self.pump()

    # Heartbeats.

    def watch_heartbeats(self) -> None:
        """Send heartbeats when nothing else is sent, and end the connection when the client is silent."""
        if self.heartbeat:
            self._timers.append(self.server.real_clock.call_later(self.heartbeat / 2, self._beat))

    def _beat(self) -> None:
        now = self.server.real_clock.now()
        if self.phase is Phase.ENDED:
            return
        if now - self.last_heard > self.heartbeat * 2 and not self.blocked:
            self.close_reason = (0, f'missed heartbeats from client, timeout: {self.heartbeat}s')
            self.end_at_once()
            return
        if now - self.last_sent >= self.heartbeat / 2 and not self.stalled:
            self.send(HEARTBEAT)
        self._timers[:] = [one for one in self._timers if not one.cancelled]
        self.watch_heartbeats()

    # The end.

    def close(self, refusal: Refusal, sig: spec.Sig) -> None:
        """Close the connection because of an error."""
        if self.phase in (Phase.CLOSING, Phase.ENDED):
            return
        self.flush_confirms()
        self.close_reason = (refusal.code, refusal.reply_text)
        self.shut()
        self.phase = Phase.CLOSING
        self._events.clear()
        self.held = self.blocked = False
        self.reply(spec.Connection.Close, refusal.code, closing_text(refusal), *sig)
        self._timers.append(self.server.real_clock.call_later(_CLOSE_TIMEOUT, self.end_at_once))

    def shut(self) -> None:
        """End all channels, delete the exclusive queues. Idempotent."""
        channels, self.channels = list(self.channels.values()), {}
        for channel in channels:
            channel.shut()
            channel.closing = True
        queues, self.exclusive_queues = self.exclusive_queues, []
        for queue in queues:
            queue.host.delete_queue(queue)

    def end_after_sending(self) -> None:
        """Close the socket once everything is sent."""
        self.ending = True
        self.server.outgoing.add(self)

    def end_at_once(self, reset: bool = False) -> None:
        """Close the socket now. reset: with a TCP reset."""
        self.cut, self.reset = True, reset
        self.server.outgoing.add(self)

    def ended(self) -> None:
        """The socket is closed. Idempotent."""
        if self.phase is not Phase.ENDED:
            self.phase = Phase.ENDED
            for timer in self._timers:
                timer.cancel()
            self.shut()
            self.out.clear()
            self.out_size = 0
            self.server.closed(self)
            self.server.run_later()
