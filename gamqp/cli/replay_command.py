"""``gamqp replay FOLDER``: publishes what ``tap --save`` or ``consume --save`` has recorded, at the pace of then.

Layer 5. Does not belong here: the files (``message_folder``).
"""

from __future__ import annotations

import argparse
import time

from .. import green
from . import broker_urls
from .envelopes import Envelope
from .exit_codes import NOTHING, UsageError
from .message_folder import read_folder
from .output import Output
from .parser import Parser
from .publishing import Pace, Publisher
from .running import Stop
from .running import run as run_command

__all__ = ('run',)

EXAMPLE = """\
gamqp replay ./recorded --speed 10
gamqp replay ./recorded --exchange '' --key jobs.test --speed max"""


def run(arguments: list[str]) -> int:
    """Run the command. Returns the exit code."""
    does = 'Publish the messages of a folder: to where they went then, in the intervals in which they came.'
    parser = Parser('replay', does, EXAMPLE)
    parser.add_argument('folder', metavar='FOLDER')
    parser.add_argument('--speed', default='1', metavar='N', help='so many times as fast; max: no pauses (default: 1)')
    parser.add_argument('-e', '--exchange', help='to this exchange instead')
    parser.add_argument('-k', '--key', help='with this routing key instead')
    parser.add_argument('--mandatory', action='store_true', help='exit code 2 where no queue takes a message')
    return run_command(parser, replay, arguments)


def replay(options: argparse.Namespace, output: Output, stop: Stop) -> int:
    """Publish them."""
    speed = _speed(options.speed)
    connection = broker_urls.connect(options)
    publisher = Publisher(connection.channel(), output, True, options.mandatory, Pace(None))
    clock = _Intervals(speed)
    try:
        for envelope in read_folder(options.folder):
            clock.wait_for(envelope)
            publisher.publish(envelope.sent_to(options.exchange, options.key))
        publisher.finish()
    finally:
        connection.close()
        publisher.look_at_known()
        output.note(publisher.summary())
    return publisher.exit_code if publisher.published else NOTHING


def _speed(text: str) -> float:
    try:
        speed = 0.0 if text == 'max' else float(text)
    except ValueError:
        speed = -1.0
    if not (text == 'max' or 0 < speed <= 1e6):
        raise UsageError(f'--speed: a number above 0, or max, is wanted, not {text!r}')
    return speed


class _Intervals:
    """Waits as long before each message as passed before it then. speed: 0 for no waits."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._then: float | None = None
        self._now = 0.0

    def wait_for(self, envelope: Envelope) -> None:
        """Wait until it is time for this message. Switches."""
        if not self._speed or envelope.received_at is None:
            return
        if self._then is None:
            self._then, self._now = envelope.received_at, time.monotonic()
            return
        due = self._now + (envelope.received_at - self._then) / self._speed
        left = due - time.monotonic()
        if left > 0:
            green.backend().sleep(left)
