"""What gamqp does when the process forks, and in which order: the only registration with the interpreter.

Layer 2, in ``green`` because every other module that has something to do at a fork may import ``green``.
A module enters its steps by name with ``at_fork``; the tables below have the order, whichever module is
imported first. Does not belong here: what a step does.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

__all__ = ('ForkSteps', 'at_fork')

Step = Callable[[], object]

#: Before the fork, in the process that forks.
BEFORE = (
    # Send what calls have handed over, since the parent may block until its child has ended. Then stop
    # the sending thread: a lock that it holds during the fork would stay locked in the child.
    'links',
)

#: After the fork, in the process that forked.
IN_PARENT = (
    # Let the sending thread run again.
    'links',
)

#: After the fork, in the child.
IN_CHILD = (
    # Close the child's copies of the parent's sockets. First, so that no later step can send on one of
    # them, and so that the broker notices the parent's end although the child lives on.
    'transports',
    # End every link: greenlets that wait for a reply, and later calls, get an error.
    'links',
    # End what is being opened again, which has no link. After the links, since this ends the connection for good.
    'recoveries',
    # Set the counters to zero. After the links: their end counts lost publishes, which are the parent's.
    'counters',
    # Begin every pool anew. After the links: a pool notices that its connections have ended.
    'pools',
    # Forget what was exported of the parent's connections.
    'prometheus',
    # Forget the open spans of the parent's publishes. After the links, whose end settles publishes.
    'tracers',
    # Give every eventlet wake-up a pipe of its own, since parent and child share the old one.
    'wakeups',
)


class ForkSteps:
    """The steps of all modules. Nothing here switches greenlets."""

    def __init__(self) -> None:
        self._before: dict[str, Step] = {}
        self._in_parent: dict[str, Step] = {}
        self._in_child: dict[str, Step] = {}

    def enter(
        self, name: str, before: Step | None = None, in_parent: Step | None = None, in_child: Step | None = None
    ) -> None:
        """Have these called at each fork, at the places that the tables give to *name*.

        A name that is entered again replaces its steps, so nothing is done twice when a module is loaded
        again. Raises ValueError for a name that a table does not have. The steps must not switch greenlets.
        """
        for steps, order, step in (
            (self._before, BEFORE, before),
            (self._in_parent, IN_PARENT, in_parent),
            (self._in_child, IN_CHILD, in_child),
        ):
            if step is not None:
                if name not in order:
                    raise ValueError(f'at_fork: no place is named {name!r}, only {", ".join(order)}')
                steps[name] = step

    def run_before(self) -> None:
        _run(BEFORE, self._before)

    def run_in_parent(self) -> None:
        _run(IN_PARENT, self._in_parent)

    def run_in_child(self) -> None:
        _run(IN_CHILD, self._in_child)


def _run(order: tuple[str, ...], steps: dict[str, Step]) -> None:
    """All steps run, also after one that raises. The interpreter reports the error and goes on with the fork."""
    with contextlib.ExitStack() as stack:
        for name in reversed(order):  # an ExitStack calls the last one first
            if name in steps:
                stack.callback(steps[name])


_steps = ForkSteps()
at_fork = _steps.enter
os.register_at_fork(before=_steps.run_before, after_in_parent=_steps.run_in_parent, after_in_child=_steps.run_in_child)
