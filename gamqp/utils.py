"""py-amqp's odds and ends that programs import.

Layer 3, a re-export with two one-liners.
"""

from __future__ import annotations

from typing import Any

from .promises import promise

__all__ = ('bytes_to_str', 'promise', 'str_to_bytes')


def str_to_bytes(s: Any) -> Any:
    """A str as UTF-8; anything else as it is."""
    return s.encode('utf-8', 'surrogatepass') if isinstance(s, str) else s


def bytes_to_str(s: Any) -> Any:
    """Bytes as UTF-8 text; anything else as it is. Raises UnicodeDecodeError."""
    return s.decode('utf-8', 'surrogatepass') if isinstance(s, bytes) else s
