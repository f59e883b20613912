"""Helper functions that programs import from py-amqp's module of this name.

Layer 5. gamqp itself does not use them. Does not belong here: helpers of gamqp.
"""

from __future__ import annotations

import logging
from typing import TypeVar

from .compat.promises import promise

__all__ = ('bytes_to_str', 'get_logger', 'promise', 'str_to_bytes')

T = TypeVar('T')


def get_logger(logger: str | logging.Logger) -> logging.Logger:
    """The logger with that name, or the given logger; if it has no handler it gets a NullHandler."""
    logger = logging.getLogger(logger) if isinstance(logger, str) else logger
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger


def str_to_bytes(s: str | T) -> bytes | T:
    """A str as UTF-8; anything else as it is."""
    return s.encode('utf-8', 'surrogatepass') if isinstance(s, str) else s


def bytes_to_str(s: bytes | T) -> str | T:
    """Bytes as UTF-8 text; anything else as it is. Raises UnicodeDecodeError."""
    return s.decode('utf-8', 'surrogatepass') if isinstance(s, bytes) else s
