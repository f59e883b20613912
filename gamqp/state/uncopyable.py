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

    # Empty, so that subclasses can have slots and no dict.
    __slots__ = ()

    def __copy__(self) -> Any:
        # copy.copy and copy.deepcopy look for these two methods first, and do not come to __reduce__.
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self

    def __reduce__(self) -> Any:
        # Also for multiprocessing, which pickles the arguments of a process.
        raise TypeError(f'a {type(self).__name__} cannot be pickled: each process needs one of its own')
