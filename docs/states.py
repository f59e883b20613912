"""The states of a connection as a picture, above their table: the directive ``states`` of these pages.

    .. states::

With graphviz on the machine it draws them; without it there is the table alone, which says the same.
"""

from __future__ import annotations

from typing import Any

# From, to, and what leads there.
MOVES = (
    ('new', 'opening', 'connect()'),
    ('new', 'closed', 'collect()'),
    ('opening', 'open', 'let in'),
    ('opening', 'closed', 'not let in'),
    ('open', 'recovering', 'lost'),
    ('open', 'closing', 'close()'),
    ('open', 'closed', 'collect()'),
    ('recovering', 'open', 'all restored'),
    ('recovering', 'closed', 'close(), given up'),
    ('closing', 'closed', 'close-ok, or none in time'),
    ('closed', 'opening', 'connect()'),
)


def dot() -> str:
    """The picture's source for graphviz."""
    lines = ['digraph states {', 'rankdir=LR; node [shape=box, style=rounded, fontname="sans-serif", fontsize=11];']
    lines += ['edge [fontname="sans-serif", fontsize=10]; open [penwidth=2];']
    lines += [f'{before} -> {after} [label="{event}"];' for before, after, event in MOVES]
    return '\n'.join([*lines, '}'])


def setup(app: Any) -> dict[str, Any]:
    """For Sphinx, which calls this because conf.py names the module."""
    import pictures  # which lies beside this file: conf.py has put that folder into the path

    return pictures.add(app, 'states', 'the states of a connection', dot)
