"""Lines of the log that are written where a log handler that waits holds nothing up.

Layer 3. A log handler is the program's, and may wait: so it is the greenlet of the connection's warnings that writes,
in order with those. Does not belong here: what is said, and by which logger.
"""

from __future__ import annotations

import logging
from typing import Any

from .log_fields import log_fields

__all__ = ('say',)


def say(
    connection: Any,
    logger: logging.Logger,
    level: int,
    text: str,
    *args: object,
    error: BaseException | None = None,
) -> None:
    """Have it written. Does not switch. args: strings and numbers, since it is later. error: has its traceback, too."""
    connection._log.write(connection._green.spawn, logger, level, text, args, log_fields(connection), error)
