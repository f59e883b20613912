"""``python -m gamqp celery …``: the command of Celery, with gamqp in place of amqp.

Layer 5; needs Celery. For programs that import amqp themselves; others have ``broker_transport``, see ``gamqp.kombu``.
The order is what this is about: the process is patched first, as the command does by its option -P, then
gamqp is installed under py-amqp's name, and only then Celery imports kombu. Does not belong here: what Celery does.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

from ..compat.drop_in import install_as_amqp

__all__ = ('run',)

HELP = """\
usage: gamqp celery [ARGUMENTS OF celery]

The command of Celery, with gamqp in place of amqp: for applications that import amqp themselves. Others say
broker_transport = 'gamqp.kombu:Transport', and use the command celery.

Example:

    gamqp celery -A my_app worker -P gevent -c 200
"""

NEEDS_CELERY = 'python -m gamqp celery needs Celery: pip install celery'
# What starts other processes, by `python -m celery`, in which gamqp would not be installed.
STARTS_OTHERS = {'multi', '--detach', '-D'}


def run(arguments: list[str]) -> int:
    """Run the command with these arguments, those behind ``celery``. Returns its exit status, or leaves by SystemExit.

    A pool that is neither gevent nor eventlet (-P) works with the differences that ``install_as_amqp`` warns of.
    """
    if arguments in (['--help'], ['-h']):
        print(HELP)
        return 0 if importlib.util.find_spec('celery') is None else _celery(['--help'], in_place=False)
    for word in arguments:
        if word in STARTS_OTHERS:
            sys.exit(
                f'python -m gamqp celery: {word} starts another process by `python -m celery`, without gamqp. Leave '
                "that to systemd or the like, or set broker_transport = 'gamqp.kombu:Transport' and use celery itself."
            )
    _patch(_pool(arguments))
    install_as_amqp()
    return _celery(arguments, in_place=True)


def _celery(arguments: list[str], in_place: bool) -> int:
    sys.argv[1:] = arguments  # where Celery looks for them
    try:
        command = importlib.import_module('celery.__main__')
    except ModuleNotFoundError as exc:
        if exc.name != 'celery':
            raise
        sys.exit(NEEDS_CELERY)
    if in_place:
        # With what Celery needs of a connection, see there.
        importlib.import_module('gamqp.kombu').register(replace_amqp=True)
    command.main()
    return 0


def _pool(arguments: list[str]) -> str:
    """The pool of the option -P or --pool, '' without it."""
    for place, word in enumerate(arguments):
        if word in ('-P', '--pool'):
            return arguments[place + 1] if place + 1 < len(arguments) else ''
        if word.startswith('--pool='):
            return word.partition('=')[2]
    return ''


def _patch(pool: str) -> None:
    if pool == 'gevent':
        importlib.import_module('gevent.monkey').patch_all()
    elif pool == 'eventlet':
        importlib.import_module('eventlet').monkey_patch()
