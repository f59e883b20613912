"""What ``import cython`` would give to sources that run uncompiled.

The compiled modules of this package ask one thing of Cython at run time, whether they are
compiled. Importing the real package for that costs 37 ms where Cython happens to be
installed. Nothing else belongs here.
"""

from __future__ import annotations

__all__ = ('cython',)


class cython:
    """Stand-in for the module ``cython``: these sources are not compiled."""

    compiled = False
