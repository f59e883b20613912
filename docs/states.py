"""The states of a connection as a picture, above their table: the directive ``states`` of these pages.

    .. states::

With graphviz on the machine it draws them; without it there is the table alone, which says the same.
"""

from __future__ import annotations

import shutil
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
    from sphinx.util.docutils import SphinxDirective

    drawn = shutil.which('dot') is not None
    if drawn:
        app.setup_extension('sphinx.ext.graphviz')

    class States(SphinxDirective):
        has_content = False

        def run(self) -> list[Any]:
            if not drawn:
                return []
            indented = '\n'.join(f'   {line}' for line in dot().splitlines())
            return self.parse_text_to_nodes(f'.. graphviz::\n   :alt: the states of a connection\n\n{indented}')

    app.add_directive('states', States)
    return {'version': '1', 'parallel_read_safe': True}
