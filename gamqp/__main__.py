"""``python -m gamqp COMMAND …`` and the script ``gamqp``: what gamqp offers on the command line.

Layer 5. Does not belong here: what a command does, see ``gamqp.cli``.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys

from . import __version__

__all__ = ('main', 'script')

# command -> its module, which has ``run(arguments)``, and what it does
COMMANDS = {
    'check': ('check_command', 'whether a broker can be used, step by step, and what to do where not'),
    'publish': ('publish_command', 'publish messages from a text, from files or from stdin'),
    'consume': ('consume_command', 'print, save or handle the messages of a queue, by a command for each'),
    'move': ('move_command', 'move messages to another queue, or dead letters back, and lose none'),
    'tap': ('tap_command', 'watch what an exchange routes, without disturbing'),
    'replay': ('replay_command', 'publish what was saved, at the pace of then'),
    'rpc': ('rpc_command', 'send a request, and print its reply'),
    'perf': ('perf_command', 'measure how much a broker takes and delivers, and how long that takes'),
    'declare': ('declare_command', 'make a queue or an exchange'),
    'delete': ('delete_command', 'delete a queue or an exchange'),
    'bind': ('bind_command', 'bind a queue or an exchange to an exchange, or remove a binding'),
    'purge': ('purge_command', 'drop the messages of queues'),
    'topology': ('topology_command', 'declare the exchanges, queues and bindings of a file, or show what differs'),
    'broker': ('broker_command', 'a broker for tests on a port, or beside one command; needs no RabbitMQ'),
    'celery': ('celery_command', 'the command of Celery, with gamqp in place of amqp'),
}

EXAMPLE = (
    'Example:',
    '',
    '    export AMQP_URL=amqp://user:password@host:5672/vhost',
    '    gamqp check',
    '    gamqp publish jobs --body \'{"id": 1}\'',
    '    gamqp consume jobs --limit 1',
    '',
    'gamqp COMMAND --help says more, with examples. gamqp is the same as python -m gamqp.',
)

WRONG_USAGE = 64
INTERRUPTED = 130


def main(arguments: list[str]) -> int:
    """Run a command with its arguments. Returns the exit status: 64 where there is no such command."""
    if arguments and arguments[0] in COMMANDS:
        status: int = importlib.import_module(f'gamqp.cli.{COMMANDS[arguments[0]][0]}').run(arguments[1:])
        return status
    if arguments in (['--version'], ['-V']):
        print(f'gamqp {__version__}')
        return 0
    if arguments[:1] == ['help'] and len(arguments) > 1:
        return main([arguments[1], '--help'])
    if arguments in (['--help'], ['-h'], ['help']):
        print(_usage())
        return 0
    if arguments and not arguments[0].startswith('-'):
        close = difflib.get_close_matches(arguments[0], COMMANDS, 1)
        hint = f'did you mean {close[0]}?' if close else f'there are {", ".join(COMMANDS)}'
        print(f'gamqp: there is no command {arguments[0]!r}; {hint}', file=sys.stderr)
    else:
        print(_usage(), file=sys.stderr)
    return WRONG_USAGE


def script() -> int:
    """The entry point of the script ``gamqp``."""
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:  # before a command has begun to hear signals
        return INTERRUPTED
    except BrokenPipeError:  # `--help | head -1`
        # The interpreter would complain when it flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _usage() -> str:
    lines = ['usage: python -m gamqp COMMAND …', '']
    lines += [f'  {name:10}{what}' for name, (_, what) in COMMANDS.items()]
    return '\n'.join([*lines, '', *EXAMPLE])


if __name__ == '__main__':
    sys.exit(script())
