"""Tables, columns and a live line in colours, for a terminal. Drawn by rich, where that is installed.

Layer 5. Nothing needs it: whoever gets no ``Pictures`` prints plain text. Does not belong here: where it is
shown (``output``).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ('Cell', 'Pictures')

# Columns that no table needs.
_WIDEST = 1000


class Cell(NamedTuple):
    """A text in a column. width: columns of the terminal; 0 in the last cell of a row: all that is left."""

    text: str
    width: int = 0
    style: str = ''


class Pictures:
    """Makes texts with escape sequences. width: of the terminal; None: as it is at each call.

    Raises ImportError where rich is not installed. Control characters are shown as what they are, not obeyed.
    """

    def __init__(self, width: int | None = None) -> None:
        console = importlib.import_module('rich.console').Console
        self._text = importlib.import_module('rich.text').Text
        self._table = importlib.import_module('rich.table').Table
        self._console = console(force_terminal=True, width=width, highlight=False)

    def row(self, *cells: Cell) -> str:
        """Cells side by side, without the last line feed. The last one is wrapped within its own column."""
        grid = self._table.grid(padding=(0, 1, 0, 0))
        for cell in cells:
            grid.add_column(width=cell.width or None, no_wrap=bool(cell.width), overflow='fold')
        grid.add_row(*(self._text(printable(cell.text), cell.style) for cell in cells))
        return self._drawn(grid)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        """A table, without the last line feed: the first column has names, the others numbers.

        It is as wide as it needs, also where the terminal is not: no digit is left out.
        """
        table = self._table(header_style='bold')
        for number, heading in enumerate(headings):
            table.add_column(heading, justify='right' if number else 'left', style='' if number else 'cyan')
        for row in rows:
            table.add_row(*row)
        room = self._console.options.update(width=_WIDEST)
        table.width = self._console.measure(table, options=room).maximum
        return self._drawn(table)

    def line(self, text: str) -> str:
        """One line, with its numbers in colour."""
        line = self._text(text)
        line.highlight_regex(r'(?<![\w.])\d[\d,.]*', 'bold cyan')
        with self._console.capture() as captured:
            self._console.print(line, end='', soft_wrap=True)
        return str(captured.get())

    def _drawn(self, what: Any) -> str:
        with self._console.capture() as captured:
            self._console.print(what, crop=False)
        return str(captured.get()).removesuffix('\n')


def printable(text: str) -> str:
    """The text without characters that a terminal would obey; line feeds stay."""
    return ''.join(one if one.isprintable() or one == '\n' else repr(one)[1:-1] for one in text)
