"""Replaces the module ``cython`` in modules that are not compiled.

Layer 0. Those modules need only ``cython.compiled``, whether they are compiled. To import the real package for that
takes 37 ms, and it may not be installed. Does not belong here: anything else.
"""

from __future__ import annotations

__all__ = ('cython',)


class cython:
    """Stand-in for the module ``cython``: these sources are not compiled."""

    compiled = False
