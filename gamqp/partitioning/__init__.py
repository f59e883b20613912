"""Partitions: messages in order for each key, handled by many processes at a time.

Layer 5. An exchange spreads keys over a number of queues, and each queue feeds one consumer at a time. Does not
belong here: who consumes which queue, which the broker decides by the priorities that ``priorities`` computes.
"""

from __future__ import annotations

from .consumers import PartitionConsumers
from .partitions import Partitions, partitions

__all__ = ('PartitionConsumers', 'Partitions', 'partitions')
