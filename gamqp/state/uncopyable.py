"""Objects that exist once: connections, channels, iterators, pools.

State, no I/O. Such an object stands for a socket, or for a consumer at the broker. If there were a copy, the end of
the copy would close the connection of the original. So copying gives the object itself.
Does not belong here: values, which can be copied.
"""

from __future__ import annotations

from typing import Any

__all__ = ('Uncopyable',)


class Uncopyable:
    """Base class of such objects. ``copy`` and ``deepcopy`` give the object itself, pickle raises TypeError."""

    __slots__ = ()

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(f'a {type(self).__name__} cannot be pickled: each process needs one of its own')
