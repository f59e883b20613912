"""RPCClient: ask over a queue and wait for the answer, any number of greenlets on one channel.

Layer 5. Replies come by the broker's direct reply-to, which needs no queue. One consumer
takes the replies of all calls; the reader finds the caller by the correlation_id and wakes it.
Does not belong here: greenlets, queues of replies, a wait between two changes of what is pending.
https://www.rabbitmq.com/docs/direct-reply-to
"""

from __future__ import annotations

import contextlib
import functools
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import exceptions, green
from ..basic_message import Body, Message, PublishProperties
from ..channel.basic_publish import taken_apart
from ..channel.channel import Channel
from ..connection.connection import Connection
from ..consuming.inbox import Inbox
from ..green.yielding import in_turns
from ..state.argument_checks import optional_timeout
from ..state.durations import in_seconds
from ..state.lifecycle import Reason
from ..state.name_arguments import name
from ..state.uncopyable import Uncopyable

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ('ERROR', 'ERROR_TYPE', 'RPCClient')

REPLY_TO = 'amq.rabbitmq.reply-to'

#: Headers of a reply that says that the handler failed: the error's text and the name of its class.
ERROR, ERROR_TYPE = 'x-rpc-error', 'x-rpc-error-type'

# Milliseconds; RabbitMQ closes the channel for a longer one.
LONGEST_EXPIRATION = 2**32 - 1


class RPCClient(Uncopyable):
    """Calls what ``RPCServer``, or any server that replies to reply_to with the correlation_id, does.

    channel: a Channel that may be used for other things too, but by no second
    RPCClient at the same time; or a Connection, and then the client opens a channel
    of its own, which switches greenlets, and closes it. timeout: seconds that a
    call may take unless it says otherwise, None for the connection's rpc_timeout.

    Counters: calls (requests sent), replies (that reached their caller), late
    (replies to calls that were over), unknown (replies to no call of this client),
    returned (requests that no queue took), timeouts. When the broker closes the
    channel the pending calls raise why, and the next call begins anew.
    """

    def __init__(self, channel: Channel | Connection, timeout: float | None = None) -> None:
        self.timeout = optional_timeout('timeout', timeout)
        self._owns = isinstance(channel, Connection)
        self.channel = channel.channel() if isinstance(channel, Connection) else channel
        self.calls = self.replies = self.late = self.unknown = self.returned = self.timeouts = 0
        self._made = 0
        # Random: a returned message is a request of this client if its correlation_id begins with this.
        self._prefix = f'{secrets.token_hex(6)}.'
        self._inbox: _ReplyRouter | None = None  # None before the first call, and after the channel was closed
        self._closed = False

    def __repr__(self) -> str:
        state = 'closed' if self._closed else f'{self.pending} pending'
        return f'<{type(self).__name__} {state}, {self.calls} calls on channel {self.channel._number}>'

    def __enter__(self) -> RPCClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def pending(self) -> int:
        """Calls that wait for their reply now."""
        inbox = self._living()
        return 0 if inbox is None else len(inbox.pending)

    def call(
        self,
        message: Message | Body,
        routing_key: str,
        exchange: str = '',
        timeout: float | None = None,
        **properties: Unpack[PublishProperties],
    ) -> Message:
        """Send a request and wait for its reply, a Message. Switches greenlets.

        message, properties: as ``Channel.publish``; reply_to and correlation_id are
        set here. timeout: total seconds, None for the client's. The request expires
        in its queue when the call does, unless there is an ``expiration`` (a str of
        milliseconds; None for none).

        Raises RPCError when the handler failed; Returned, at once, when no queue
        takes the request; TimeoutError (it may have been handled all the same);
        Blocked and EncodeError, when nothing was sent; and why the channel or
        connection ended. A reply that comes later is dropped. While a call waits,
        the connection is read on even if its limits of undelivered messages are reached.
        """
        routing_key, exchange = name('routing_key', routing_key), name('exchange', exchange)
        body, given = taken_apart(message, properties)
        connection = self.channel._connection
        connection._affinity.check()
        deadline = green.Deadline(_first(timeout, self.timeout, connection.rpc_timeout))
        self._made += 1
        number = f'{self._prefix}{self._made}'
        given = {'expiration': _expiration(deadline), **given}
        given['reply_to'], given['correlation_id'] = REPLY_TO, number
        slot = green.Slot(connection._green)
        try:
            if not deadline.passed:
                first = functools.partial(self._enter, number, slot)
                self.channel._hand_over(body, given, exchange, routing_key, True, False, deadline, first=first)
                slot.batch = connection._link.batch
                connection._wait_for(slot, deadline.left())
            if not slot.done:
                raise TimeoutError(
                    f'rpc to {exchange!r}, {routing_key!r}: no reply within {in_seconds(deadline.seconds)}'
                )
        except TimeoutError:
            self.timeouts += 1
            raise
        finally:
            if self._inbox is not None:
                self._inbox.pending.pop(number, None)
                self._inbox.settled_idle()
        return _checked(slot.result())

    def close(self) -> None:
        """End; pending calls raise RecoverableConnectionError. Twice does no harm.

        Waits for the broker's consent, at most rpc_timeout (TimeoutError). Switches greenlets.
        """
        self.channel._connection._affinity.check()
        if self._closed:
            return
        self._closed = True
        inbox = self._living()
        if inbox is not None:
            in_turns(inbox.connection._green, inbox.fail_pending(_closed().make_error))
        if self._owns:
            self.channel.close()
        elif inbox is not None:
            # Not if the channel ended meanwhile, and the consumer with it.
            with contextlib.suppress(exceptions.AMQPError):
                self.channel.basic_cancel(inbox.tag)

    def _enter(self, number: str, slot: Any) -> None:
        """Right before a request is sent: start the consumer if there is none, and note the caller. Does not switch."""
        if self._closed:
            raise _closed().make_error()
        if self._living() is None:
            channel = self.channel
            if channel._return_taker is not None:
                raise RuntimeError(f'{channel!r} has another RPCClient: a channel has one consumer of replies')
            inbox = _ReplyRouter(self, channel, channel._connection, channel._consumers.fresh_tag(channel.channel_id))
            # Without waiting for consume-ok: the broker handles basic.consume before the request that is sent
            # after it, and a caller killed in that wait could not know whether the consumer has started.
            channel._begin_unawaited(inbox, REPLY_TO)
            channel._return_taker = self._inbox = inbox
        assert self._inbox is not None
        self._inbox.pending[number] = slot
        self.calls += 1

    def _living(self) -> _ReplyRouter | None:
        """The consumer of replies; None if it was not started yet, or has ended."""
        inbox = self._inbox
        return None if inbox is None or inbox.over else inbox

    def _is_ours(self, number: Any) -> bool:
        return isinstance(number, str) and number.startswith(self._prefix)


class _ReplyRouter(Inbox):
    """The client's consumer: gives each reply to its caller. Lives from the first call to the end of the channel."""

    __slots__ = ('client', 'pending')

    if TYPE_CHECKING:
        channel: Channel
        connection: Connection

    brings_work = False
    keeps = False

    def __init__(self, client: RPCClient, channel: Any, connection: Any, tag: str) -> None:
        super().__init__(channel, connection, tag, no_ack=True)
        self.client = client
        self.pending: dict[str, Any] = {}  # correlation id -> the slot in which its caller waits

    @property
    def busy(self) -> bool:
        return bool(self.pending)

    def works_apart_from(self, some: Any) -> bool:
        return bool(self.pending)

    # -- from the reader ------------------------------------------------------------

    def put(self, message: Any) -> None:
        """Give a reply to its caller. No message is kept here, so none counts against the budget."""
        self.delivered += 1
        number = _correlation_id(message)
        slot = self.pending.pop(number, None)
        if slot is not None:
            self.client.replies += 1
            slot.succeed(message)
        elif self.client._is_ours(number):
            self.client.late += 1
        else:
            self.client.unknown += 1

    def put_run(self, run: list[Any], weight: int) -> None:
        for message in run:
            self.put(message)

    def take_return(self, message: Any, reason: Reason) -> bool:
        """A message came back on the channel. Returns whether it is a request of this client."""
        number = _correlation_id(message)
        if not self.client._is_ours(number):
            return False
        self.client.returned += 1
        slot = self.pending.pop(number, None)
        if slot is not None:
            slot.fail(reason.make_error)
        return True

    def complete_end(self, same_tags: bool = True) -> Iterator[None]:
        left = self.fail_pending((self.reason or _closed()).make_error)
        super().complete_end(same_tags)
        # The next call starts another consumer.
        if self.channel._return_taker is self:
            self.channel._return_taker = None
        if self.client._inbox is self:
            self.client._inbox = None
        return left

    @property
    def has_hearer(self) -> bool:
        # A channel of the client's own has no other users who could want to know of an error.
        return bool(self.pending) or self.client._owns

    def arrived(self, count: int = 1) -> None:
        """Not called: ``put`` keeps no message here."""

    def ended(self) -> None:
        """Nothing waits here for another message."""

    def settled_idle(self) -> None:
        unfinished_handlers = self.connection._unfinished_handlers
        if unfinished_handlers.draining:
            unfinished_handlers.retire(self)

    def fail_pending(self, make_error: Any) -> Iterator[None]:
        """Remove all pending calls. Returns steps; each gives one caller the error."""
        slots, self.pending = self.pending, {}
        return _fail_each(slots, make_error)


def _fail_each(slots: dict[str, Any], make_error: Any) -> Iterator[None]:
    for slot in slots.values():
        slot.fail(make_error)
        yield


def _closed() -> Reason:
    return Reason(exceptions.RecoverableConnectionError('the RPC client was closed, or its consumer cancelled'))


def _correlation_id(message: Any) -> Any:
    try:
        return message.properties.get('correlation_id')
    except exceptions.FrameSyntaxError:
        return None  # malformed properties of a message must not end the connection


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _expiration(deadline: green.Deadline) -> str | None:
    left = deadline.left()
    return None if left is None else str(max(1, int(min(left * 1000, LONGEST_EXPIRATION))))


def _checked(reply: Message) -> Message:
    """The reply; raises RPCError if its headers say that the handler has failed."""
    headers = reply.headers
    if ERROR in headers:
        raise exceptions.RPCError(str(headers[ERROR]), str(headers.get(ERROR_TYPE) or ''), reply)
    return reply
