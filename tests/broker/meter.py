"""Counts what is done between two turns of the hub."""

from __future__ import annotations

from typing import Any

import greenlets

from gamqp import green

__all__ = ('MOST', 'Meter')

MOST = 1000


class Meter:
    """most: of what was noted between two turns of the hub. turns: how many there were. watched: for whoever notes."""

    def __init__(self) -> None:
        self.step = self.most = self.sum = self.turns = 0
        self.watched: set[Any] = set()
        self.running = True
        self._begun = green.Slot(greenlets.backend)
        self.turn()

    def turn(self) -> None:
        self.step = 0
        self.turns += 1
        if self.running:
            greenlets.backend.call_later(0, self.turn)

    def wait_for_first(self) -> None:
        """Until something was noted, and no more than a turn or two."""
        assert self._begun.wait(greenlets.PATIENCE)

    def note(self) -> None:
        self.step += 1
        self.sum += 1
        self.most = max(self.most, self.step)
        if self.sum == 1:
            self._begun.succeed()
