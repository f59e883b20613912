"""Policies: settings that an administrator gives to all queues and exchanges whose names match a pattern.

Layer 5, pure. Of several that match, the one of the highest priority holds, alone. Does not belong here: what the
settings do, see ``queue``, ``exchange``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import text_of

__all__ = ('Policies', 'Policy', 'argument_or', 'least')

_KINDS = ('all', 'queues', 'classic_queues', 'quorum_queues', 'streams', 'exchanges')
_KEYS = frozenset(
    (
        *('message-ttl', 'expires', 'max-length', 'max-length-bytes', 'overflow', 'delivery-limit', 'max-age'),
        *('dead-letter-exchange', 'dead-letter-routing-key', 'alternate-exchange'),
        *('delayed-retry-type', 'delayed-retry-min', 'delayed-retry-max'),
    )
)


@dataclass(frozen=True)
class Policy:
    """One policy. apply_to: 'all', 'queues', 'classic_queues', 'quorum_queues', 'streams' or 'exchanges'."""

    name: str
    pattern: re.Pattern[str]
    definition: Mapping[str, Any]
    apply_to: str = 'all'
    priority: int = 0

    def __post_init__(self) -> None:
        if self.apply_to not in _KINDS:
            raise ValueError(f'apply_to: one of {", ".join(_KINDS)} is expected, not {self.apply_to!r}')
        for key in self.definition:
            if key not in _KEYS:
                raise ValueError(f'definition: {key!r} is none of {", ".join(sorted(_KEYS))}')

    def matches(self, kind: str, name: str | bytes) -> bool:
        """Whether it is for an object. kind: 'classic', 'quorum', 'stream' or 'exchange'."""
        if self.apply_to == 'queues':
            fits = kind != 'exchange'
        else:
            fits = self.apply_to == 'all' or self.apply_to in (f'{kind}_queues', f'{kind}s')
        return fits and self.pattern.search(text_of(name)) is not None


class Policies:
    """The policies of one virtual host."""

    def __init__(self) -> None:
        self._policies: dict[str, Policy] = {}

    def set(self, policy: Policy) -> None:
        """Add a policy, or replace the one of its name."""
        self._policies[policy.name] = policy

    def clear(self, name: str) -> bool:
        """Take a policy away; False if there is none of this name."""
        return self._policies.pop(name, None) is not None

    def definition_for(self, kind: str, name: str | bytes) -> Mapping[str, Any]:
        """The settings for an object."""
        matching = [one for one in self._policies.values() if one.matches(kind, name)]
        return max(matching, key=lambda one: one.priority).definition if matching else {}


def least(arguments: Mapping[Any, Any], policy: Mapping[str, Any], key: str) -> Any:
    """A number that both may give: the lower one holds; None if neither does."""
    given = [value for value in (arguments.get(f'x-{key}'), policy.get(key)) if value is not None]
    return min(given, default=None)


def argument_or(arguments: Mapping[Any, Any], policy: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """A setting where the argument of the declaration has the last word."""
    value = arguments.get(f'x-{key}')
    return policy.get(key, default) if value is None else value
