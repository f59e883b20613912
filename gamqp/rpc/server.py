"""RPCServer: calls a handler for each request in a queue and sends its result to the caller.

Layer 5. The requests come by a subscription (``Channel.subscribe``); this file adds the replies.
Does not belong here: worker greenlets and acks, which ``gamqp.consuming`` has.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import greenlet

from .. import exceptions
from ..basic_message import Body, Message
from ..channel.basic_publish import taken_apart
from ..channel.channel import Channel
from ..channel.consume_and_subscribe import check_concurrency
from ..connection.connection import Connection
from ..consuming.consumer import Consumer
from ..consuming.subscription import REJECT, REQUEUE, Policy
from ..state.argument_checks import optional_timeout
from ..state.name_arguments import name
from ..state.uncopyable import Uncopyable
from ..telemetry.log_fields import log_fields
from .client import ERROR, ERROR_TYPE

__all__ = ('RPCServer',)

logger = logging.getLogger('gamqp.rpc')

# The most characters of an error's text in a reply: its headers must fit into one frame, at least 4096 bytes.
LONGEST_TEXT = 500

# The error's text in a reply with hide_errors.
HIDDEN = 'the handler failed'


class RPCServer(Uncopyable):
    """Answers the requests in a queue, in worker greenlets. Making one starts it, and switches greenlets.

    channel: a Channel, or a Connection to have a channel of its own. queue: must
    exist. handler: takes the request, a Message; what it returns is the reply: a
    body, a Message, or None for an empty body. concurrency: requests handled at a
    time. prefetch: None for the same number, so that no request waits here while
    another server is idle, or outlives its caller. hide_errors: whether a caller learns
    only that the handler failed, not the class and text of its error. exclusive,
    arguments, consumer_tag: as ``Channel.consume``.

    The reply is sent first and the request acked after it, so a request is never
    lost: when the server or its connection dies between the two, the request is
    handled again, by another server perhaps, and its caller drops the second reply.
    (With a request that was delivered before, both go at once, the ack first.)
    When the handler raises, the error is logged, the reply reports it (the caller gets
    an ``RPCError``), and the request is acked. Without reply_to the handler just runs; a
    request of that kind that fails is rejected (dropped, or dead-lettered). A reply
    that nobody waits for any more is dropped by the broker silently.

    On a connection that recovers it goes on after a loss. The reply of a handler that
    ran across the loss is not sent: its request is in the queue again, and is handled again.

    It ends when its channel does, as a Consumer. consumer: that Consumer, with its
    counters. replied: replies sent; failed: calls of the handler that raised; stale:
    replies that were not sent, since a loss had put their requests back into the queue.
    """

    def __init__(
        self,
        channel: Channel | Connection,
        queue: str,
        handler: Callable[[Message], Message | Body | None],
        concurrency: int = 1,
        prefetch: int | None = None,
        *,
        hide_errors: bool = False,
        exclusive: bool = False,
        arguments: dict[str, Any] | None = None,
        consumer_tag: str = '',
    ) -> None:
        if not callable(handler):
            raise TypeError(f'RPCServer: the handler {handler!r} cannot be called')
        check_concurrency(concurrency, prefetch)
        queue, consumer_tag = name('queue', queue), name('consumer_tag', consumer_tag)
        self._owns = isinstance(channel, Connection)
        self.channel = channel.channel() if isinstance(channel, Connection) else channel
        self.queue = queue
        self.handler = handler
        self.hide_errors = hide_errors
        self.replied = self.failed = self.stale = 0
        self.consumer: Consumer = None  # type: ignore[assignment]  # nobody has this object before it has started
        try:
            self.consumer = self.channel.subscribe(
                queue,
                self._serve,
                concurrency,
                concurrency if prefetch is None else prefetch,
                self._settle_failed,
                exclusive=exclusive,
                arguments=arguments,
                consumer_tag=consumer_tag,
            )
        except BaseException:
            if self._owns and self.channel._was_opened:
                self.channel._begin_close(0, '', (0, 0), wait=False)
            raise

    def __repr__(self) -> str:
        counts = f'{self.replied} replied, {self.failed} failed'
        return f'<{type(self).__name__} on {self.queue!r}, {counts}: {self.consumer!r}>'

    def __enter__(self) -> RPCServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def cancel(self, wait: bool = True, timeout: float | None = None) -> None:
        """Take no more requests; see ``Consumer.cancel``. Handlers that run still reply."""
        self.consumer.cancel(wait, timeout)

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended; see ``Consumer.join``."""
        self.consumer.join(timeout)

    def close(self, timeout: float | None = None) -> None:
        """``cancel``, wait for the running handlers, and close the channel if it is the server's own.

        timeout: seconds for the handlers, None for as long as they take; TimeoutError
        then, and what they work on is handled again elsewhere if the channel is
        closed. Twice does no harm. Switches greenlets.
        """
        optional_timeout('timeout', timeout)  # before anything is closed
        try:
            self.cancel(timeout=timeout)
        finally:
            if self._owns:
                self.channel.close()

    # -- in a worker greenlet ----------------------------------------------------------

    def _serve(self, request: Any) -> None:
        try:
            result = self.handler(request)
        except (greenlet.GreenletExit, KeyboardInterrupt, SystemExit):
            raise  # this process ends; the broker delivers the request to another server
        except BaseException as exc:
            self.failed += 1
            if not request.properties.get('reply_to'):
                raise _Unanswerable from exc
            text = 'rpc server on %s: the handler failed on %r'
            logger.exception(text, self.queue, request, extra=self._fields(request))
            self._reply(request, b'', self._error_properties(exc))
            return
        if request.properties.get('reply_to'):
            self._reply_with(request, result)

    def _reply_with(self, request: Any, result: Any) -> None:
        try:
            body, properties = taken_apart(b'' if result is None else result, {})
            self._reply(request, body, properties)
        except exceptions.EncodeError as exc:
            self.failed += 1
            text = 'rpc server on %s: what the handler returned for %r cannot be sent'
            logger.exception(text, self.queue, request, extra=self._fields(request))
            self._reply(request, b'', self._error_properties(exc))

    def _reply(self, request: Any, body: Any, properties: dict[str, Any]) -> None:
        asked = request.properties
        reply_to = name('reply_to', asked['reply_to'])
        if 'correlation_id' in asked:
            properties = {**properties, 'correlation_id': asked['correlation_id']}
        connection = self.channel._connection
        first = None
        if request.redelivered or connection._recovery is not None:
            first = functools.partial(self._before_reply, request)
        try:
            self._check_current(request)  # before anything that might wait for the end of an outage
            # Not mandatory: RabbitMQ 3 would return every direct reply as unroutable.
            self.channel._hand_over(body, properties, '', reply_to, False, False, None, first=first)
        except (exceptions.AMQPError, TimeoutError):
            if not self._is_stale(request):
                raise
            # The broker has put the request back into its queue: the reply to that one will reach the caller. The
            # address of this one may be gone, and over one that it does not know RabbitMQ 3 closes the connection.
            self.stale += 1
            connection._counts.stale_replies += 1
        else:
            self.replied += 1

    def _before_reply(self, request: Any) -> None:
        """Right before the reply is sent. Does not switch."""
        self._check_current(request)
        # RabbitMQ 3 closes the connection over a direct reply_to of another cluster. Such a request would come back
        # again and again. So a redelivered request is acked before its reply, and does not come a third time.
        if request.redelivered and self.channel._awaits_settlement(request):
            request.ack()

    def _check_current(self, request: Any) -> None:
        if self._is_stale(request):
            raise exceptions.Lost('the request went back to its queue when the connection was lost')

    def _is_stale(self, request: Any) -> bool:
        """Whether a loss, from which the connection recovers, has come since the request was delivered."""
        channel = self.channel
        return channel._connection._recovery is not None and request._incarnation != channel._incarnation

    def _fields(self, request: Any) -> dict[str, Any]:
        return {**log_fields(self.channel._connection, message=request), 'amqp_queue': self.queue}

    def _error_properties(self, error: BaseException) -> dict[str, Any]:
        """The properties of a reply that reports an error."""
        if self.hide_errors:
            return {'application_headers': {ERROR: HIDDEN}}
        name, text = type(error).__name__, _text(error)
        return {'application_headers': {ERROR: text, ERROR_TYPE: name}}

    def _settle_failed(self, request: Message, error: BaseException) -> Policy:
        """What happens to a request whose caller could not be sent the error."""
        if isinstance(error, _Unanswerable):
            text = 'rpc server on %s: the handler failed on %r'
            logger.error(text, self.queue, request, exc_info=error.__cause__, extra=self._fields(request))
            return REJECT
        # If properties of the request, or the reply, cannot be decoded or encoded, another attempt would fail, too.
        unfit = isinstance(error, (exceptions.FrameSyntaxError, exceptions.EncodeError))
        policy = REJECT if unfit else REQUEUE
        text = 'rpc server on %s: cannot reply to %r (%s)'
        logger.error(text, self.queue, request, policy, exc_info=error, extra=self._fields(request))
        return policy


class _Unanswerable(Exception):
    """The handler failed on a request without reply_to."""


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = 'an error that cannot be printed'
    return text.encode(errors='replace').decode()[:LONGEST_TEXT]
