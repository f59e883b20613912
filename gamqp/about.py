"""The version, in one place that everything may import."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ('VERSION', '__version__', 'version_info', 'version_info_t')


class version_info_t(NamedTuple):
    """The version in parts, as py-amqp tells it."""

    major: int
    minor: int
    micro: int
    releaselevel: str
    serial: str


__version__ = '0.1.0.dev0'
VERSION = version_info = version_info_t(0, 1, 0, '.dev0', '')
