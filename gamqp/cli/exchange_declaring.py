"""Declares an exchange that may be internal, which the method of py-amqp's name has no argument for.

Layer 5. Does not belong here: commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..channel.channel import Channel
from ..wire.spec import Exchange

__all__ = ('declare_exchange',)


def declare_exchange(
    channel: Channel,
    name: str,
    kind: str,
    durable: bool = True,
    auto_delete: bool = False,
    internal: bool = False,
    arguments: Mapping[str, Any] | None = None,
    passive: bool = False,
) -> None:
    """Create an exchange unless it exists; internal: only other exchanges publish to it. Switches."""
    if not internal:
        channel.exchange_declare(name, kind, passive, durable, auto_delete, arguments=dict(arguments or {}))
        return
    # Noted by no registry: a connection that comes back does not declare it again by itself.
    args = (0, name, kind, passive, durable, auto_delete, internal, False, dict(arguments or {}))
    channel._request(Exchange.Declare, args, False)
