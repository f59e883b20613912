"""Program: choose a greenlet library as the first arguments say, for the other programs.

``begin(library, when)``: library is 'gevent' or 'eventlet'; when is 'early' (patched before gamqp is
imported), 'late' (the caller calls ``patch`` after connecting), 'not', or 'auto' (nothing at all).
"""

from __future__ import annotations

import warnings


def begin(library: str, when: str) -> None:
    # eventlet says at import that it is in maintenance, gevent that late patching may be too late.
    warnings.simplefilter('ignore')
    if when == 'early':
        patch(library)
    elif when != 'auto':
        from gamqp import green

        green.use(library)


def patch(library: str) -> None:
    if library == 'gevent':
        import gevent.monkey

        gevent.monkey.patch_all()
    else:
        import eventlet

        eventlet.monkey_patch()
