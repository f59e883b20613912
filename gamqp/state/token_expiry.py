"""When an access token expires, read from the token itself.

Pure functions. The signature is not verified: the broker does that. Does not belong here: renewing (``connection``).
"""

from __future__ import annotations

import base64
import json
import math

__all__ = ('end_of',)


def end_of(token: str) -> float | None:
    """The ``exp`` of a JWT, in seconds since 1970; None for a text that is no JWT, or one without an end."""
    try:
        # A JWT is header.claims.signature, each in base64url without padding. Python wants the padding.
        claims = token.split('.')[1]
        end = json.loads(base64.urlsafe_b64decode(claims + '=' * (-len(claims) % 4)))['exp']
        # Python's JSON knows NaN and Infinity, and float() accepts a bool or a text: none of these is a time. A number
        # too large for float raises OverflowError, and deep nesting RecursionError: the text comes from another
        # program.
        return float(end) if not isinstance(end, (bool, str)) and math.isfinite(end) else None
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError):
        return None
