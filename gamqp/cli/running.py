"""Runs a command: patches the process, hears signals, and makes an exit code of how it ends.

Layer 5. The command runs in a greenlet of its own. SIGINT, SIGTERM or SIGHUP end it where it waits, unless it has
said what to do instead; its ``finally`` blocks close the connection, and so give back what it holds. A second
signal ends the process at once, and the broker then requeues what was not settled.
Does not belong here: what a command does.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import traceback
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

from .. import exceptions, green
from . import exit_codes
from .exit_codes import FAILED, INTERRUPTED, NOTHING, OK, USAGE
from .output import Output, OutputClosed
from .parser import Parser
from .redaction import redacted

__all__ = ('Command', 'Stop', 'run')

# A command: its options, where it prints, and what a signal does. Returns the exit code.
Command = Callable[[argparse.Namespace, Output, 'Stop'], int]


class Stop:
    """What the first signal does: it ends the command's greenlet, or calls ``instead``.

    instead: called in the hub, and must not switch. arrived: whether there was a signal. closed: whether whoever read
    stdout has gone, which ends the command in the same way.
    at_once: called at the second signal, right before the process ends.
    """

    def __init__(self) -> None:
        self.arrived = self.closed = False
        self.instead: Callable[[], object] | None = None
        self.at_once: Callable[[], object] | None = None
        self._greenlet: Any = None

    def hear(self, greenlet: Any) -> None:
        """From now on signals end this greenlet."""
        self._greenlet = greenlet
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.arrived:
            if self.at_once is not None:
                self.at_once()
            os._exit(INTERRUPTED)
        self.arrived = True
        green.backend().run_soon(self._act)

    def on_closed(self) -> None:
        """Nobody reads stdout any more."""
        if not (self.arrived or self.closed):
            self.closed = True
            self._act()

    def _act(self) -> None:
        if self.instead is not None:
            self.instead()
        else:
            green.backend().kill(self._greenlet)


class _WarningHandler(logging.Handler):
    """Puts what gamqp logs on stderr."""

    def __init__(self, output: Output) -> None:
        super().__init__(logging.ERROR if output.quiet else logging.WARNING)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        self._output.error(f'gamqp: {record.getMessage()}')


def run(parser: Parser, command: Command, arguments: list[str]) -> int:
    """Run a command with its arguments, in a process of its own. Returns the exit code."""
    try:
        options = parser.parse_args(arguments)
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else FAILED
    # ssl is left out: gamqp does not need it to be patched, and has imported it, which makes patching it unsafe.
    importlib.import_module('gevent.monkey').patch_all(ssl=False)
    green.use('gevent')
    stop = Stop()
    output = Output(options.quiet, stop.on_closed)
    if not options.debug:
        warnings.simplefilter('ignore')
    logging.getLogger(__name__.partition('.')[0]).addHandler(_WarningHandler(output))  # what all our loggers say
    backend, codes = green.backend(), list[int]()
    done = green.Event(backend)

    def body() -> None:
        try:
            codes.append(_outcome(parser.prog, command, options, output, stop))
        finally:
            done.set()

    stop.hear(backend.spawn(body))
    done.wait()
    if stop.arrived:
        return INTERRUPTED
    return OK if stop.closed else codes[0] if codes else FAILED


def _outcome(prog: str, command: Command, options: argparse.Namespace, output: Output, stop: Stop) -> int:
    try:
        return command(options, output, stop)
    except OutputClosed:
        return OK
    except Exception as exc:
        if options.debug:
            output.error(redacted(traceback.format_exc()))
        code, text = _meaning(exc)
        output.error(f'{prog}: {text}')
        return code


def _meaning(error: Exception) -> tuple[int, str]:
    """Exit code and text for an error."""
    if isinstance(error, exit_codes.UsageError):
        return USAGE, str(error)
    if isinstance(error, (exit_codes.NothingThere, exceptions.NotFound, exceptions.Returned)):
        return NOTHING, str(error)
    if isinstance(
        error, (exit_codes.CommandFailed, exceptions.AMQPError, exceptions.MessageNacked, exceptions.RPCError, OSError)
    ):
        return FAILED, str(error) or type(error).__name__
    return FAILED, f'{type(error).__name__}: {error} (--debug shows where)'
