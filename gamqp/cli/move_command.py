"""``gamqp move QUEUE DESTINATION``: messages from one queue to another, to an exchange, or back to where they died.

Layer 5. Each is published as mandatory, and acked only when the broker has confirmed that a queue has it. So none is
lost, whenever this process or the connection ends; those of the last moments may be in both places then.
Does not belong here: where dead letters came from (``dead_letters``).
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable
from typing import Any

from .. import exceptions
from ..basic_message import Message
from ..channel.channel import Channel
from ..channel.receipt import Receipt
from . import broker_urls
from .dead_letters import Destination, origin_of, without_deaths
from .envelopes import body_of
from .exit_codes import NOTHING, OK, CommandFailed, UsageError
from .output import Output, messages
from .parser import Parser, count
from .publishing import Pace
from .running import Stop
from .running import run as run_command
from .stream_detection import is_stream

__all__ = ('run',)

EXAMPLE = """\
gamqp move jobs.dead jobs
gamqp move jobs.dead --back --limit 100
gamqp move old.jobs jobs --to-url amqp://new-broker"""

#: Messages that are published and not confirmed yet, at most: so many may be doubled by a kill -9.
WINDOW = 500

STREAM = (
    'the queue {0!r} is a stream: its messages stay in it, so none can be moved; to copy them: '
    'gamqp consume {0} --offset first --idle-timeout 5 --json | gamqp publish DESTINATION --json'
)

# Headers that would have the broker route a message to more queues than the one it is moved to.
ROUTING_HEADERS = ('CC', 'BCC')

# Headers that its queue has given a message, and that are not true in another one.
OF_THE_QUEUE = ('x-delivery-count', 'x-acquired-count', 'x-stream-offset')


def run(arguments: list[str]) -> int:
    """Run the command. Returns the exit code."""
    parser = Parser('move', 'Move the messages that are in a queue now; none is lost on the way.', EXAMPLE)
    parser.add_argument('source', metavar='QUEUE')
    parser.add_argument('queue', nargs='?', metavar='DESTINATION', help='the queue to move to')
    parser.add_argument('-e', '--exchange', help='to this exchange instead, with the routing key that each message has')
    parser.add_argument('-k', '--key', help='with this routing key, with --exchange')
    parser.add_argument('--back', action='store_true', help='dead letters: each to the queue in which it died')
    parser.add_argument('--strip-deaths', action='store_true', help='without the headers that tell of its deaths')
    parser.add_argument('--to-url', action='append', metavar='URL', help='the destination is at this broker')
    parser.add_argument('--limit', type=count, metavar='N', help='move so many, at most')
    parser.add_argument('--rate', type=count, metavar='N', help='so many messages a second, evenly')
    return run_command(parser, move, arguments)


def move(options: argparse.Namespace, output: Output, stop: Stop) -> int:
    """Move the messages. Returns OK when all that there were have been moved, NOTHING when there were none."""
    where = _where(options)
    source = broker_urls.connect(options)
    try:
        channel = source.channel()
        present = channel.queue_declare(options.source, passive=True).message_count
        if is_stream(source, options.source):
            raise UsageError(STREAM.format(options.source))
        wanted = min(present, options.limit or present)
        if not wanted:
            output.note('0 messages: the queue is empty')
            return NOTHING
        target = source
        if options.to_url:
            target = broker_urls.connect(options, broker_urls.urls(options, options.to_url))
        try:
            mover = Mover(target.channel(), target._settings.userid, where, options, output)
            return mover.run(channel, wanted)
        finally:
            target.close()
    finally:
        source.close()


def _where(options: argparse.Namespace) -> Callable[[Message], Destination]:
    """Where each message goes to. Raises UsageError."""
    if sum(map(bool, (options.queue, options.exchange is not None, options.back))) != 1:
        raise UsageError('say where to: DESTINATION, --exchange or --back')
    if options.key is not None and options.exchange is None:
        raise UsageError('--key is for --exchange')
    if options.back:
        return origin_of
    if options.queue:
        if options.queue == options.source and not options.to_url:
            raise UsageError('the destination is the queue itself')
        return lambda message: Destination('', options.queue)
    return lambda message: Destination(
        options.exchange, str(message.delivery_info['routing_key']) if options.key is None else options.key
    )


class Mover:
    """Publishes what is delivered, and acks what is confirmed, in order."""

    def __init__(
        self,
        channel: Channel,
        user: str | None,
        where: Callable[[Message], Destination],
        options: argparse.Namespace,
        output: Output,
    ) -> None:
        self._channel, self._user, self._where, self._output = channel, user, where, output
        self._strips: bool = options.strip_deaths
        self._source: str = options.source
        self._idle: float = options.timeout or 10.0
        self._pace = Pace(options.rate)
        self._open: deque[tuple[Message, Receipt]] = deque()
        self.moved = 0

    def run(self, channel: Channel, wanted: int) -> int:
        """Move so many messages, or as many as come. Switches. Raises why it cannot go on; the rest is requeued."""
        deliveries = channel.consume(self._source, prefetch=min(wanted, WINDOW), timeout=self._idle)
        try:
            for _ in range(wanted):
                try:
                    message = next(deliveries)
                except TimeoutError:
                    break  # another consumer has got some of them
                self._pace.wait()
                self._publish(message)
                self._settle(wait=len(self._open) >= WINDOW // 2)
            while self._open:
                self._settle(wait=True)
            deliveries.close()
        finally:
            self._settle_known()
            self._output.note(f'{messages(self.moved)} moved')
        return OK if self.moved else NOTHING

    def _publish(self, message: Message) -> None:
        to = self._where(message)
        properties: Any = dict(message.properties)
        # The broker takes only the name of the user who publishes.
        if properties.get('user_id') not in (None, self._user):
            del properties['user_id']
        headers = properties.get('application_headers')
        if headers:
            left_out = (*OF_THE_QUEUE, *(() if to.exchange else ROUTING_HEADERS))
            headers = {key: value for key, value in headers.items() if key not in left_out}
            properties['application_headers'] = without_deaths(headers) if self._strips else headers
        receipt = self._channel.publish(body_of(message), to.exchange, to.routing_key, mandatory=True, **properties)
        self._open.append((message, receipt))

    def _settle(self, wait: bool) -> None:
        """Ack those whose confirms have come. wait: for the oldest, at least. Switches. Raises for one that failed."""
        while self._open and (wait or self._open[0][1].done):
            message, receipt = self._open[0]
            try:
                receipt.wait()
            except exceptions.Returned as exc:
                raise CommandFailed(f'no queue takes a message, so the rest stays: {exc}') from None
            except exceptions.MessageNacked as exc:
                raise CommandFailed(
                    f'the destination is full, or refuses a message, so the rest stays: {exc}'
                ) from None
            self._open.popleft()
            message.ack()
            self.moved += 1
            wait = False
        self._output.progress(f'{messages(self.moved)} moved')

    def _settle_known(self) -> None:
        """What has been confirmed by now is moved, also where something ends this. Does not switch."""
        for message, receipt in self._open:
            if receipt.acked and message.channel is not None and message.channel.is_open:
                message.ack()
                self.moved += 1
        self._open.clear()
