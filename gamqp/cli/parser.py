"""The argument parser of all commands: common options, numbers and durations, errors of usage.

Layer 5. Does not belong here: what a command does with its options.
"""

from __future__ import annotations

import argparse
import math
import re
from typing import NoReturn

from .exit_codes import USAGE
from .redaction import redacted

__all__ = ('Parser', 'amount', 'count', 'seconds', 'size')

_URLS = """\
The broker is the one of --url, or of the environment variable AMQP_URL, which may hold several URLs with spaces
between them: the first that answers is used. Without either it is amqp://localhost. In a list of processes
others can read the arguments of a command: a URL with a password is better kept in AMQP_URL."""

_CODES = 'Exit codes: 0 done, 1 failed, 2 nothing there, 64 wrong usage, 130 interrupted.'


class Parser(argparse.ArgumentParser):
    """The parser of one command. Wrong usage is exit code 64; no URL is quoted in an error."""

    def __init__(self, name: str, does: str, example: str, *, connects: bool = True) -> None:
        """name: of the command. does: what it does. example: shown by --help. connects: whether it takes --url."""
        super().__init__(
            prog=f'gamqp {name}',
            description=does,
            epilog='\n\n'.join([f'Example:\n\n{_indented(example)}', *([_URLS] if connects else []), _CODES]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.set_defaults(program=name)
        common = self._common = self.add_argument_group('of all commands')
        if connects:
            common.add_argument(
                '--url', action='append', metavar='URL', help='the broker; several: the first that answers'
            )
            common.add_argument(
                '--timeout',
                type=seconds,
                metavar='SECONDS',
                help='for connecting (default: 10), for a reply and a confirm (30)',
            )
        common.add_argument('-q', '--quiet', action='store_true', help='no progress and no summary on stderr')
        common.add_argument('--debug', action='store_true', help='a traceback where there is an error')

    def format_help(self) -> str:
        """The help, with what all commands have behind what this one has."""
        groups = self._action_groups
        groups.sort(key=lambda group: group is self._common)
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Print the error, and exit. All the options would push it out of sight."""
        self.exit(USAGE, f'{self.prog}: {redacted(message)} ({self.prog} --help shows options and an example)\n')


def count(text: str) -> int:
    """A whole number from 1."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text)):
        raise argparse.ArgumentTypeError(f'a whole number above 0 is wanted, not {text!r}')
    return int(text)


def amount(text: str) -> int:
    """A whole number from 0."""
    return 0 if text == '0' else count(text)


_UNITS = {'': 1.0, 'ms': 0.001, 's': 1.0, 'm': 60.0, 'h': 3600.0, 'd': 86400.0}


def seconds(text: str) -> float:
    """A duration: 1.5, 200ms, 30s, 5m, 2h, 1d; above 0."""
    number, unit = _split(text)
    if number is None or unit not in _UNITS or not 0 < number * _UNITS[unit] < math.inf:
        raise argparse.ArgumentTypeError(f'a duration above 0 is wanted (1.5, 200ms, 5m, 2h), not {text!r}')
    return number * _UNITS[unit]


_SIZES = {'': 1, 'b': 1, 'k': 1024, 'kb': 1024, 'kib': 1024, 'm': 1024**2, 'mb': 1024**2, 'mib': 1024**2}


def size(text: str) -> int:
    """A number of bytes: 1000, 4k, 1m."""
    number, unit = _split(text)
    if number is None or unit.lower() not in _SIZES or number * _SIZES[unit.lower()] > 2**29:
        raise argparse.ArgumentTypeError(f'a number of bytes is wanted (1000, 4k, 1m; at most 512m), not {text!r}')
    return int(number * _SIZES[unit.lower()])


def _split(text: str) -> tuple[float | None, str]:
    match = re.fullmatch(r'(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]*)', text, re.ASCII)
    return (float(match[1]), match[2]) if match else (None, '')


def _indented(text: str) -> str:
    return '\n'.join(f'    {line}' for line in text.strip().splitlines())
