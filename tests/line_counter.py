"""What a call costs, counted and not timed: executed lines of gamqp. Job: that alone; standard library only."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

__all__ = ('executed_lines',)


def executed_lines(call: Callable[..., Any], *args: Any) -> int:
    """How many lines of gamqp's Python code run in *call(*args)*, function heads and returns included."""
    count = 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal count
        if 'gamqp' not in frame.f_code.co_filename:
            return None
        count += 1
        return trace

    sys.settrace(trace)
    try:
        call(*args)
    finally:
        sys.settrace(None)
    return count
