"""Names as the program gives them: of exchanges, queues, routing keys and consumers.

State, no I/O. A name is UTF-8 on the wire and a str in memory, because it is compared with names from the
broker. Programs may also pass bytes or None: these are converted here, at the beginning of a call.
Does not belong here: names of arguments (``argument_checks``).
"""

from __future__ import annotations

from typing import Any

from .. import exceptions

__all__ = ('name',)


def name(argument: str, value: Any) -> str:
    """*value* as an exact str: None is '', bytes are UTF-8. EncodeError, which names the argument, for what is no name.

    On hot paths, to save the call: ``if type(x) is not str: x = name('x', x)``.
    """
    if type(value) is str:
        return value
    if value is None:
        return ''
    if isinstance(value, str):
        # Not str(value), which calls a subclass's own __str__: that of an Enum gives the name of the member. An exact
        # str compares and hashes as such, and names are keys of dicts.
        return str.__str__(value)
    # UnicodeDecodeError is a ValueError, too, so it is caught first.
    try:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value).decode()
    except UnicodeDecodeError:
        raise exceptions.EncodeError(f'{argument}: bytes that are not UTF-8') from None
    except ValueError as exc:  # a released memoryview
        raise exceptions.EncodeError(f'{argument}: {exc}') from None
    raise exceptions.EncodeError(f'{argument}: expected str or bytes, got {type(value).__name__}')
