"""Whether a connection of kombu is to be gamqp's or py-amqp's.

Layer 5. One configuration is shared by workers of greenlets and by programs without them: web applications
with threads, prefork workers, scripts. These are better off with py-amqp, which may be used by several threads.
It is decided at each connection and not at import: the command of Celery imports much before it patches, and
gunicorn's workers patch after the application was loaded. Does not belong here: how a connection is opened.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from .. import green

__all__ = ('OPTION', 'means_gamqp', 'say_what_follows')

logger = logging.getLogger('gamqp.kombu')

#: The key of ``transport_options`` by which gamqp is insisted on, by the value 'always'.
OPTION = 'gamqp'
ALWAYS = 'always'

LEFT_TO_PY_AMQP = (
    "neither gevent nor eventlet has patched this process, so its connections are py-amqp's, by kombu's own "
    "transport; transport_options={'gamqp': 'always'} makes them gamqp's all the same"
)
NOT_PATCHED = (
    "transport_options={'gamqp': 'always'} in a process that neither gevent nor eventlet has patched: a connection "
    'may be used in the thread that opened it only (WrongThread in others), so no pool of connections may be shared '
    'by threads; its reader runs only inside calls of gamqp; and heartbeats are off unless heartbeat= is given'
)

_said: set[str] = set()


def means_gamqp(options: Mapping[str, Any] | None) -> bool:
    """Whether a connection opened now, with these ``transport_options``, is gamqp's. Does not switch.

    Raises ValueError where the option has another value than 'always'.
    """
    insists = (options or {}).get(OPTION)
    if insists not in (None, ALWAYS):
        raise ValueError(f'transport_options: {OPTION!r} is {ALWAYS!r} or left out, not {insists!r}')
    return insists is not None or green.is_patched() or _is_amqp()


def say_what_follows(options: Mapping[str, Any] | None) -> None:
    """Log, once each, what a process without greenlets has to know about its connections."""
    if green.is_patched() or _is_amqp():
        return
    level, text = (logging.WARNING, NOT_PATCHED) if means_gamqp(options) else (logging.INFO, LEFT_TO_PY_AMQP)
    if text not in _said:
        _said.add(text)
        logger.log(level, text)


def _is_amqp() -> bool:
    """Whether gamqp is installed under py-amqp's name, so that there is no other."""
    return sys.modules.get('amqp') is sys.modules['gamqp']
