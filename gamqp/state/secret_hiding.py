"""Secrets stay out of tracebacks: crash reporters store the local variables of every frame.

Pure functions. A function that takes a password and may raise is decorated with
``discreet``. A function that waits for the broker deletes its variables with a password before it waits.
Does not belong here: what a secret is used for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ('discreet',)

Given = ParamSpec('Given')
Result = TypeVar('Result')


def discreet(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """The same function; its TypeErrors and ValueErrors have no traceback of its frames, which hold the arguments.

    Such an error names the argument that is wrong. Other errors keep their traceback.
    """

    @functools.wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except (TypeError, ValueError) as error:
            # Under another name, because Python deletes ``error`` at the end of this block.
            refused = error.with_traceback(None)
            # The context is an error that was being handled in the check. Its traceback may have the same frames.
            refused.__context__ = None
        finally:
            # This frame is in the traceback of every error that passes it. It must not hold the arguments then.
            del args, kwargs
        # Raised after ``finally``, when this frame has no arguments any more.
        raise refused

    return call
