"""What tells one error of a handler from another, and its text in one line of the log.

Layer 3. Does not belong here: how often a handler has failed (``state.handler_failures``), and what is done then.
"""

from __future__ import annotations

from typing import Any

__all__ = ('identity_of', 'in_one_line', 'kind_of')

# Characters of an error's text in a log line.
LONGEST_TEXT = 200


def identity_of(message: Any) -> Any:
    """A value that is equal for deliveries of the same message, and very likely differs for other messages."""
    try:
        info = message.delivery_info
        return info['exchange'], info['routing_key'], message._size, hash(message.body)
    except Exception:
        return None  # the received properties cannot be decoded


def kind_of(error: BaseException) -> Any:
    """A value that is equal for failures of the same kind, of which only the first is logged with its traceback."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return type(error), None if place is None else (place.tb_frame.f_code.co_filename, place.tb_lineno)


def in_one_line(error: BaseException) -> str:
    """Class and text of an error, shortened."""
    try:
        text = ' '.join(str(error).split())[:LONGEST_TEXT]
    except Exception:
        text = 'an error that cannot be printed'
    return f'{type(error).__name__}: {text}' if text else type(error).__name__
