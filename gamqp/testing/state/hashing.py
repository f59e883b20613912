"""Which of several destinations a hash chooses: for the exchanges x-consistent-hash and x-modulus-hash.

Layer 5, pure. RabbitMQ uses a hash of Erlang's, so which key goes to which queue differs; that equal keys go to one
queue, and that weights are kept, does not. Does not belong here: exchanges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

__all__ = ('by_modulus', 'by_weight')

_T = TypeVar('_T')


def by_weight(key: bytes, choices: Sequence[tuple[_T, int]]) -> _T | None:
    """One of *choices*, each with its weight. Few keys move when a choice is added or taken away."""
    best: _T | None = None
    best_score = 0.0
    for choice, weight in choices:
        for share in range(weight):
            score = _number(key + repr((choice, share)).encode())
            if best is None or score > best_score:
                best, best_score = choice, score
    return best


def by_modulus(key: bytes, choices: Sequence[_T]) -> _T | None:
    """One of *choices*."""
    return choices[int(_number(key)) % len(choices)] if choices else None


def _number(key: bytes) -> float:
    return int.from_bytes(hashlib.blake2b(key, digest_size=6).digest(), 'big')
