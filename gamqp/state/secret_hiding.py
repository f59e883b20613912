"""Secrets stay out of tracebacks: crash reporters store the local variables of every frame.

Pure functions, no I/O. What takes a password and may raise is decorated with
``discreet``; what then waits for the broker deletes the names that hold one, first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ('discreet',)

Given = ParamSpec('Given')
Result = TypeVar('Result')


def discreet(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """The same function, whose TypeErrors and ValueErrors have no traceback of what it called and was called with.

    They are about an argument and name it. Other errors keep their traceback.
    """

    @functools.wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except (TypeError, ValueError) as error:
            refused = error.with_traceback(None)
            refused.__context__ = None
        finally:
            del args, kwargs
        raise refused

    return call
