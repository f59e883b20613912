"""The version of gamqp.

Layer 0, so that every module may import it. Does not belong here: anything else.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ('VERSION', '__version__', 'version_info', 'version_info_t')


class version_info_t(NamedTuple):
    """The version in parts, as in py-amqp: major, minor, micro, releaselevel, serial (which is empty)."""

    major: int
    minor: int
    micro: int
    releaselevel: str
    serial: str


__version__ = '0.1.0.dev0'
VERSION = version_info = version_info_t(0, 1, 0, '.dev0', '')
