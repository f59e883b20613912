"""gamqp under the name ``amqp``: for programs and libraries that import py-amqp.

Layer 5. ``amqp`` and ``amqp.…`` become further names of gamqp's own modules, so a class is the same
object by both names. One default changes to py-amqp's, in a process that neither gevent nor eventlet
has patched: no heartbeats unless the program asks for them.
Does not belong here: other changes to the behaviour of anything.
"""

from __future__ import annotations

import importlib
import sys
import warnings

from .. import green
from ..connection.connection import Connection

__all__ = ('install_as_amqp',)

_PACKAGE = 'gamqp'

# py-amqp's modules that users import. Not these, which are py-amqp's internals: abstract_channel, method_framing,
# platform.
_MODULES = (
    'basic_message',
    'channel',
    'connection',
    'exceptions',
    'protocol',
    'sasl',
    'serialization',
    'spec',
    'transport',
    'utils',
)

NOT_PATCHED = (
    'install_as_amqp() in a process that neither gevent nor eventlet has patched. gamqp is for programs of greenlets: '
    'patch first where that was meant. Else it works with these differences from py-amqp: a connection may be used in '
    'the thread that opened it only (WrongThread in others), so no pool of connections may be shared by threads; '
    'its reader runs only inside calls of gamqp; and heartbeats are off unless heartbeat= is given'
)


def install_as_amqp() -> None:
    """Make ``import amqp`` mean gamqp, for this process; doing it again does nothing.

    Call it before anything imports amqp, which kombu does as soon as it is
    imported, and after gevent or eventlet has patched. In a process that is not
    patched when it connects, heartbeats are off by default, as py-amqp's: nobody
    would send them while the program computes or waits natively. A process that is
    not patched yet gets one RuntimeWarning. Raises RuntimeError, and changes nothing,
    when py-amqp is imported already: those who have it would go on with its classes. The
    celery command imports it before it imports your application; see ``gamqp.kombu`` for that.
    """
    package = sys.modules[_PACKAGE]
    there = sys.modules.get('amqp', package)
    others = [name for name in sys.modules if name.startswith('amqp.') and not _is_ours(name)]
    if there is not package or others:
        place = getattr(there if there is not package else sys.modules[others[0]], '__file__', None) or 'no file'
        raise RuntimeError(
            f'install_as_amqp() came too late: amqp is imported already ({place}). '
            'Call it first in the program, before kombu, celery or anything else that imports amqp. Two ways do '
            "without: for kombu and Celery the transport, broker_transport = 'gamqp.kombu:Transport', and for the "
            'celery command with programs that import amqp themselves, `python -m gamqp celery …`.'
        )
    if not (Connection._heartbeat_needs_patching or green.is_patched()):
        warnings.warn(NOT_PATCHED, RuntimeWarning, stacklevel=2)
    Connection._heartbeat_needs_patching = True
    for name in _MODULES:
        importlib.import_module(f'{_PACKAGE}.{name}')
    # Every loaded module gets the second name. Otherwise Python would load it again when it is imported by that.
    for name, module in list(sys.modules.items()):
        if name == _PACKAGE or name.startswith(f'{_PACKAGE}.'):
            sys.modules['amqp' + name[len(_PACKAGE) :]] = module


def _is_ours(name: str) -> bool:
    return sys.modules[name] is sys.modules.get(_PACKAGE + name[len('amqp') :])
