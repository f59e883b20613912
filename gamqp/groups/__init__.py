"""Groups: several recovering connections to the nodes of a cluster as one.

Layer 5. For programs with more consumers, or more messages, than one connection or one node should carry. Does not
belong here: how one connection is opened again (``gamqp.recovery``), and pools for short tasks (``gamqp.pool``).
"""

from __future__ import annotations

from .group import Group
from .group_consumer import GroupConsumer

__all__ = ('Group', 'GroupConsumer')
