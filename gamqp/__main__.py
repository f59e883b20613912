"""``python -m gamqp COMMAND …``: what gamqp offers on the command line.

Layer 5. Does not belong here: what a command does, see ``gamqp.cli``.
"""

from __future__ import annotations

import importlib
import sys

from . import __version__

__all__ = ('main',)

# command -> its module, which has ``run(arguments)``, and what it does
COMMANDS = {
    'celery': ('celery_command', 'the command of Celery, with gamqp in place of amqp'),
}


def main(arguments: list[str]) -> int:
    """Run a command with its arguments. Returns the exit status: 2 where there is no such command."""
    if arguments and arguments[0] in COMMANDS:
        status: int = importlib.import_module(f'gamqp.cli.{COMMANDS[arguments[0]][0]}').run(arguments[1:])
        return status
    if arguments in (['--version'], ['-V']):
        print(f'gamqp {__version__}')
        return 0
    wanted = arguments in (['--help'], ['-h'])
    print(_usage(), file=sys.stdout if wanted else sys.stderr)
    return 0 if wanted else 2


def _usage() -> str:
    lines = ['usage: python -m gamqp COMMAND …', '']
    lines += [f'  {name:10}{what}' for name, (_, what) in COMMANDS.items()]
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
