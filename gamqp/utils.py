"""py-amqp's odds and ends that programs import.

Layer 5, a re-export with a few lines of our own.
"""

from __future__ import annotations

import logging
from typing import Any

from .compat.promises import promise

__all__ = ('bytes_to_str', 'get_logger', 'promise', 'str_to_bytes')


def get_logger(logger: Any) -> Any:
    """The logger of that name, or a logger as it is; one without handlers gets one that says nothing."""
    logger = logging.getLogger(logger) if isinstance(logger, str) else logger
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger


def str_to_bytes(s: Any) -> Any:
    """A str as UTF-8; anything else as it is."""
    return s.encode('utf-8', 'surrogatepass') if isinstance(s, str) else s


def bytes_to_str(s: Any) -> Any:
    """Bytes as UTF-8 text; anything else as it is. Raises UnicodeDecodeError."""
    return s.decode('utf-8', 'surrogatepass') if isinstance(s, bytes) else s
