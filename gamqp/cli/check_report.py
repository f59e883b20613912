"""The steps of ``check``: what was found at each, and what to do about it.

Layer 5. Does not belong here: how it is found out.
"""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any, Literal

from .output import Output
from .redaction import redacted

__all__ = ('Report', 'Result', 'Stopped')

Result = Literal['ok', 'warning', 'failed', 'skipped']

_GREEN, _YELLOW, _RED, _GREY = 32, 33, 31, 90
_SHOWN: dict[Result, tuple[str, int]] = {
    'ok': ('ok', _GREEN),
    'warning': ('warning', _YELLOW),
    'failed': ('FAILED', _RED),
    'skipped': ('skipped', _GREY),
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
            word, colour = _SHOWN[result]
            self.output.line(f'{self.output.painted(f"{word:8}", colour)}{step:14}{found}')
            if advice:
                self.output.line(f'{"":22}-> {advice}')
        self.begin()

    def fail(self, step: str, found: str, advice: str, **facts: Any) -> Stopped:
        """Report a step that failed; returns what to raise where the rest makes no sense without it. Switches."""
        self.add(step, 'failed', found, advice, **facts)
        return Stopped()
