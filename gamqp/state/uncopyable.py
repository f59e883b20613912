"""Objects that exist once: connections, channels, iterators, pools.

State, no I/O. Each stands for something outside of it, a socket or a consumer at the
broker. Two of them for one such thing would not know of each other: the end of a copy
closed the connection of the original. So a copy is the object itself. Does not belong
here: values, which can be copied.
"""

from __future__ import annotations

from typing import Any

__all__ = ('Uncopyable',)


class Uncopyable:
    """Base of what cannot be there twice. ``copy`` and ``deepcopy`` give the object itself, pickle refuses it."""

    __slots__ = ()

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(f'a {type(self).__name__} cannot be pickled: each process needs one of its own')
