"""Scenes: short conversations, each about one thing that a client meets. See ``conversations``.

Names that begin with '~' belong to the scene alone. A scene leaves nothing durable behind. Does not belong here:
expectations; a scene is compared with what RabbitMQ answers.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from conversations import Talker

__all__ = ('SCENES', 'queue', 'scene')

SCENES: dict[str, Callable[[Talker], None]] = {}
Scene = Callable[[Talker], None]


def scene(fn: Scene) -> Scene:
    SCENES[fn.__name__.replace('_', ' ')] = fn
    return fn


def queue(talk: Talker, name: str = '~q', ch: int = 1, **how: Any) -> None:
    """A queue that goes with the connection, unless it is said otherwise."""
    talk.ask('queue.declare', ch, queue=name, **(how if 'durable' in how else {'exclusive': True, **how}))


def all_scenes() -> dict[str, Callable[[Talker], None]]:
    """All scenes by name: those of each module ``scenes_*``."""
    for name in ('connections', 'consuming', 'declaring', 'exchanges', 'publishing', 'quorum'):
        import_module(f'scenes_{name}')
    return SCENES
