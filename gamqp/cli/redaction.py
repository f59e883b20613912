"""No password in any output: what looks like the URL of a broker is cut out of every text for people.

Layer 5. Pure. Does not belong here: messages of the broker that a command prints as they are.
"""

from __future__ import annotations

import re

__all__ = ('redacted',)

# To the next space: a password with unescaped characters may hold anything that would end a well-formed URL. What has
# nothing, or only a quote, behind it is what a text explains.
_URL = re.compile(r"\b(amqps?|https?)://(?!['\"](?:\s|$))\S+", re.I)


def redacted(text: str) -> str:
    """The text with '…' for the rest of each URL: even a part of one may be a password."""
    return _URL.sub(r'\1://…', text)
