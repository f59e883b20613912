"""Pictures that graphviz draws in the documentation, from text that a program makes. Job: the directives for them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

__all__ = ('add',)


def add(
    app: Any, name: str, title: str, dot: Callable[[], str], instead: Callable[[], str] = lambda: ''
) -> dict[str, Any]:
    """A directive that shows what *dot* gives; *instead* gives what stands there on a machine without graphviz.

    title: for those who do not see the picture. Returns what Sphinx wants of an extension.
    """
    from sphinx.util.docutils import SphinxDirective

    drawn = shutil.which('dot') is not None
    if drawn:
        app.setup_extension('sphinx.ext.graphviz')

    class Picture(SphinxDirective):
        has_content = False

        def run(self) -> list[Any]:
            if not drawn:
                return self.parse_text_to_nodes(instead())
            indented = '\n'.join(f'   {line}' for line in dot().splitlines())
            return self.parse_text_to_nodes(f'.. graphviz::\n   :alt: {title}\n\n{indented}')

    app.add_directive(name, Picture)
    return {'version': '1', 'parallel_read_safe': True}
