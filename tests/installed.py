"""Whether a package that some tests need is there. Job: that alone; standard library only."""

from __future__ import annotations

import importlib.util
import sys

__all__ = ('is_installed',)


def is_installed(package: str) -> bool:
    """Whether a package, or a module of one, can be imported.

    kombu and Celery put other modules in their own places, about which find_spec raises once they are imported.
    """
    parent = package.rpartition('.')[0]
    if package in sys.modules:
        return True
    return (not parent or is_installed(parent)) and importlib.util.find_spec(package) is not None
