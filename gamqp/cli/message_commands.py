"""Runs a command of the shell for a message: the body on its stdin, its exit code the verdict.

Layer 5. Each command has a session of its own, so that it and what it starts can be ended together, and Ctrl-C at a
terminal does not reach it. Does not belong here: acks.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from typing import Any

from .. import green
from ..basic_message import Message
from .envelopes import body_of, envelope_of
from .output import ROOM_OF_A_PIPE

__all__ = ('CommandError', 'MessageCommands')

# Seconds between SIGTERM and SIGKILL.
GRACE = 5.0

# Exit codes of a shell that could not run the command at all: the next message would fare no better.
NOT_RUNNABLE = (126, 127)

# Bytes of one variable of the environment, at most. The kernel takes 128 KiB.
LONGEST = 32 * 1024


class CommandError(Exception):
    """The command failed. hopeless: it cannot be run at all."""

    def __init__(self, text: str, hopeless: bool = False) -> None:
        super().__init__(text)
        self.hopeless = hopeless


class MessageCommands:
    """Runs one command for each message; several at a time.

    limit: seconds that it may run, None for no limit. as_json: it gets an envelope instead of the body.
    """

    def __init__(self, command: str, limit: float | None, as_json: bool) -> None:
        self._command, self._limit, self._as_json = command, limit, as_json
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, message: Message) -> None:
        """Run the command with this message, to its end. Switches. Raises CommandError unless it exits with 0."""
        data = json.dumps(envelope_of(message)).encode() + b'\n' if self._as_json else body_of(message)
        process = self._start(data, _environment(message))
        self._running.add(process)
        # Not ``communicate``: gevent's knows no time limit where only stdin is a pipe.
        feeding = green.backend().spawn(_feed, process, data) if process.stdin is not None else None
        try:
            process.wait(self._limit)
        except subprocess.TimeoutExpired:
            self._end(process)
            raise CommandError(f'took more than {self._limit:g} s') from None
        except BaseException:
            self._end(process)
            raise
        finally:
            self._running.discard(process)
            if feeding is not None:
                green.backend().kill(feeding)  # a grandchild may hold the other end of the pipe
        code = process.returncode
        if code in NOT_RUNNABLE:
            raise CommandError(f'cannot be run (exit code {code})', hopeless=True)
        if code < 0:
            raise CommandError(f'ended by {signal.Signals(-code).name}')
        if code:
            raise CommandError(f'exit code {code}')

    def _start(self, data: bytes, variables: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start the command. A small message is in its stdin before, as a whole, whatever becomes of this process."""
        reading: int = subprocess.PIPE
        if len(data) <= ROOM_OF_A_PIPE:
            reading, writing = os.pipe()
            os.write(writing, data)
            os.close(writing)
        try:
            return subprocess.Popen(
                ['/bin/sh', '-c', self._command],
                stdin=reading,
                env={**os.environ, **variables},
                start_new_session=True,
            )
        finally:
            if reading != subprocess.PIPE:
                os.close(reading)

    def terminate_all(self) -> None:
        """Have all that run end. Does not switch, and does not wait for them."""
        for process in self._running:
            _signal(process, signal.SIGTERM)

    def kill_all(self) -> None:
        """End all that run, at once. Does not switch."""
        for process in self._running:
            _signal(process, signal.SIGKILL)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """End a command and what it has started. Switches."""
        _signal(process, signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Also what has outlived its shell.
            _signal(process, signal.SIGKILL)
        process.wait()


def _feed(process: subprocess.Popen[bytes], data: bytes) -> None:
    """Write the message to a command's stdin; it need not read it. Switches."""
    assert process.stdin is not None
    with contextlib.suppress(OSError, ValueError), process.stdin:
        process.stdin.write(data)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)  # its session has its number
    except (ProcessLookupError, PermissionError):
        pass


def _environment(message: Message) -> dict[str, str]:
    """What the command learns of the message besides its body."""
    info: Any = message.delivery_info
    properties = message.properties
    found = {
        'AMQP_EXCHANGE': info['exchange'],
        'AMQP_ROUTING_KEY': info['routing_key'],
        'AMQP_REDELIVERED': '1' if message.redelivered else '0',
        'AMQP_HEADERS': json.dumps(envelope_of(message)['headers'], ensure_ascii=False),
    }
    for name in ('message_id', 'correlation_id', 'reply_to', 'content_type', 'type'):
        found[f'AMQP_{name.upper()}'] = properties.get(name) or ''
    # No variable may hold a NUL, or be too long for the kernel.
    return {key: str(value).replace('\0', '')[:LONGEST] for key, value in found.items()}
