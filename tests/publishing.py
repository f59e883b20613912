"""A publish as ``Confirms`` sees it, for tests without a channel."""

from __future__ import annotations

from typing import Any

from gamqp.state.confirm_matching import Confirms

__all__ = ('publish', 'publish_mandatory')


def publish(confirms: Confirms, waiter: Any = None) -> int:
    """Number a publish and enter it, as a channel does around sending it. Returns the tag."""
    confirms.published += 1
    confirms.enter(confirms.published, waiter)
    return confirms.published


def publish_mandatory(confirms: Confirms, waiter: Any, exchange: str, key: str, body: bytes, sent: Any) -> int:
    """The same for a mandatory message. sent: its frames."""
    confirms.published += 1
    confirms.enter_mandatory(confirms.published, waiter, exchange, key, len(body), sent)
    return confirms.published
