"""``gamqp consume --exec``: a command for each message, several at a time, with a graceful end.

Layer 5. No message is lost: one whose command did not exit with 0 goes back, or is rejected if that was asked for;
what is held when the process dies is requeued by the broker. Does not belong here: the commands (``message_commands``).
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from .. import exceptions, green
from ..basic_message import Message
from ..connection import Connection
from ..consuming.subscription import Policy
from .exit_codes import FAILED, NOTHING, OK, CommandFailed
from .message_commands import CommandError, MessageCommands
from .output import Output, messages
from .running import Stop

__all__ = ('consume_with_command',)


class _Spare(Exception):
    """A message came that is beyond the limit: it goes back as it is."""


class ExecConsumer:
    """Counts what became of the messages, and knows when it is time to end."""

    def __init__(self, options: argparse.Namespace, output: Output) -> None:
        self.commands = MessageCommands(options.exec, options.exec_timeout, options.json)
        self.ending = green.Event(green.backend())
        self.reason: BaseException | None = None
        self.handled = self.failed = self.running = 0
        self.active_at = time.monotonic()
        self._limit: int | None = options.limit
        self._room = green.Gate(green.backend())
        self._on_failure: Policy = options.on_failure
        self._output = output

    def handle(self, message: Message) -> None:
        """The handler of the subscription: returns where the message is to be acked. Switches."""
        self._wait_for_room()
        self.running += 1
        try:
            self.commands.run(message)
            self.handled += 1
        finally:
            self.running -= 1
            self.active_at = time.monotonic()
            self._room.wake()
        self._look_at_limit()
        self._output.progress(self.summary())

    def _wait_for_room(self) -> None:
        """Begin none that could be one too many: those that run may all succeed."""
        while self._limit is not None and self.handled + self.running >= self._limit:
            if self.ending.done or self.handled >= self._limit:
                raise _Spare
            self._room.wait()

    def _look_at_limit(self) -> None:
        if self.handled == self._limit:
            self.end()

    def on_error(self, message: Message, error: BaseException) -> Policy | None:
        """What becomes of a message whose command failed."""
        if isinstance(error, _Spare):
            message.nack()
            return None
        self.failed += 1
        if self.failed <= 10 or not self.failed % 100:
            self._output.error(f'gamqp consume: the command failed: {error}')
        hopeless = isinstance(error, CommandError) and error.hopeless
        if hopeless or not isinstance(error, CommandError) or self._on_failure == 'stop':
            self.reason = CommandFailed(f'stopped, since the command failed: {error}')
            self.end()
            return 'requeue'
        if self._on_failure == 'reject':
            self.handled += 1
            self._look_at_limit()
        return self._on_failure

    def end(self) -> None:
        """Begin the end. Does not switch."""
        self.ending.set()
        self._room.wake_all()

    def summary(self) -> str:
        """One line for people."""
        return f'{messages(self.handled)} handled, {self.failed:,} failed, {self.running:,} running'


def consume_with_command(
    connection: Connection, options: argparse.Namespace, output: Output, stop: Stop, arguments: dict[str, Any]
) -> int:
    """Run the command for each message, until the limit, silence, a failure or a signal. Returns the exit code."""
    work = ExecConsumer(options, output)
    stop.instead = work.end
    stop.at_once = work.commands.kill_all
    arguments['prefetch'] = max(arguments['prefetch'], 1)
    consumer = connection.channel().subscribe(
        options.queue, work.handle, concurrency=options.concurrency, on_error=work.on_error, **arguments
    )
    green.backend().spawn(_watch, consumer, work)
    _wait_for_end(work, options.idle_timeout)
    try:
        consumer.cancel(timeout=options.grace)
    except TimeoutError:
        work.commands.terminate_all()
        _cancelled(consumer, work)
    except exceptions.AMQPError as exc:
        work.reason = work.reason or exc
    finally:
        output.note(work.summary())
    if isinstance(work.reason, Exception):
        raise work.reason
    return FAILED if work.failed else OK if work.handled else NOTHING


def _wait_for_end(work: ExecConsumer, idle: float | None) -> None:
    while not work.ending.done:
        quiet = time.monotonic() - work.active_at
        if idle is not None and not work.running and quiet >= idle:
            return
        work.ending.wait(None if idle is None else max(idle - quiet, 0.01) if not work.running else idle)


def _watch(consumer: Any, work: ExecConsumer) -> None:
    """Learn that the consumer has ended by itself: its queue was deleted, the connection lost."""
    try:
        consumer.join()
    except Exception as exc:
        work.reason = work.reason or exc
    work.end()


def _cancelled(consumer: Any, work: ExecConsumer) -> None:
    """The commands have been asked to end, and are ended where they do not listen."""
    try:
        consumer.cancel(timeout=5.0)
    except TimeoutError:
        work.commands.kill_all()
        consumer.cancel(timeout=5.0)
