"""The steps of ``check``: what was found at each, and what to do about it.

Layer 5. Does not belong here: how it is found out.
"""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any, Literal

from .output import Output
from .pictures import Cell
from .redaction import redacted

__all__ = ('Report', 'Result', 'Stopped')

Result = Literal['ok', 'warning', 'failed', 'skipped']

# The word for a result, and its colour.
_SHOWN: dict[Result, tuple[str, str]] = {
    'ok': ('ok', 'green'),
    'warning': ('warning', 'yellow'),
    'failed': ('FAILED', 'red'),
    'skipped': ('skipped', 'bright_black'),
}


class Stopped(Exception):
    """A step has failed, and was reported; those behind it make no sense."""


@dataclasses.dataclass
class Report:
    """Prints each step as soon as it is known.

    broker: 'name:port', as in the URL. as_json: a line of JSON each. failed: whether one has failed.
    """

    output: Output
    broker: str
    as_json: bool
    failed: bool = False
    _since: float = dataclasses.field(default_factory=time.monotonic)

    def begin(self) -> None:
        """The next step begins now: its time is measured from here."""
        self._since = time.monotonic()

    def add(self, step: str, result: Result, found: str, advice: str = '', **facts: Any) -> None:
        """Report a step. found: what was found. advice: what to do. facts: for programs. Switches."""
        spent = time.monotonic() - self._since
        self.failed = self.failed or result == 'failed'
        found, advice = redacted(found), redacted(advice)
        if self.as_json:
            line = {'broker': self.broker, 'step': step, 'result': result, 'found': found, 'advice': advice}
            self.output.line(json.dumps({**line, 'seconds': round(spent, 4), **facts}, ensure_ascii=False, default=str))
        else:
            self._show(step, result, found, advice)
        self.begin()

    def _show(self, step: str, result: Result, found: str, advice: str) -> None:
        word, colour = _SHOWN[result]
        pictures = self.output.pictures
        if pictures is not None:
            text = f'{found}\n-> {advice}' if advice else found
            self.output.line(pictures.row(Cell(word, 7, colour), Cell(step, 13, 'bold'), Cell(text)))
            return
        self.output.line(f'{self.output.painted(f"{word:8}", colour)}{step:14}{found}')
        if advice:
            self.output.line(f'{"":22}-> {advice}')

    def fail(self, step: str, found: str, advice: str, **facts: Any) -> Stopped:
        """Report a step that failed; returns what to raise where the rest makes no sense without it. Switches."""
        self.add(step, 'failed', found, advice, **facts)
        return Stopped()
