"""Where ``publish`` gets its messages from: a text, files, stdin; each as a whole, by lines, or as envelopes.

Layer 5. Reads as it is asked to, and keeps one message. Does not belong here: publishing.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from typing import Literal

from .envelopes import Envelope, parsed
from .exit_codes import CommandFailed
from .output import Output, is_terminal

__all__ = ('Form', 'from_files', 'from_stdin', 'lines_of')

Form = Literal['whole', 'lines', 'envelopes']

# Bytes of the largest message that RabbitMQ can be configured to take.
LARGEST = 512 * 1024 * 1024

_CHUNK = 64 * 1024


def from_stdin(form: Form, output: Output) -> Iterator[Envelope]:
    """The messages on stdin. Switches. Raises CommandFailed for what is no envelope, or too large."""
    if is_terminal(0):
        output.note('reading from the terminal; Ctrl-D at the beginning of a line is the end')
    return _messages(0, 'stdin', form)


def from_files(paths: list[str], form: Form) -> Iterator[Envelope]:
    """The messages in files, in their order. Raises OSError for one that cannot be read."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield from _messages(descriptor, path, form)
        finally:
            os.close(descriptor)


def _messages(descriptor: int, name: str, form: Form) -> Iterator[Envelope]:
    if form == 'whole':
        yield Envelope(_whole(descriptor, name))
        return
    for number, line in enumerate(lines_of(descriptor, name), 1):
        if form == 'lines':
            yield Envelope(line)
        elif line.strip():
            try:
                envelope = parsed(line)
            except ValueError as exc:
                raise CommandFailed(f'{name}, line {number}: {exc}') from None
            yield envelope


def _chunks(descriptor: int) -> Iterator[bytes]:
    """Bytes as they come, to the end. While there are none only this greenlet waits."""
    while True:
        select.select([descriptor], [], [])
        data = os.read(descriptor, _CHUNK)
        if not data:
            return
        yield data


def _whole(descriptor: int, name: str) -> bytes:
    body = bytearray()
    for data in _chunks(descriptor):
        body += data
        _check_size(body, name)
    return bytes(body)


def lines_of(descriptor: int, name: str) -> Iterator[bytes]:
    """Lines without their line feed; the last may be without one. Switches."""
    rest = bytearray()
    for data in _chunks(descriptor):
        *whole, last = data.split(b'\n')
        if whole:
            rest += whole[0]
            yield bytes(rest)
            yield from whole[1:]
            rest = bytearray()
        rest += last
        _check_size(rest, name)
    if rest:
        yield bytes(rest)


def _check_size(body: bytearray, name: str) -> None:
    if len(body) > LARGEST:
        raise CommandFailed(f'{name}: a message has more than {LARGEST} bytes, which no broker takes')
