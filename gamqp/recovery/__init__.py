"""A connection that opens itself again after a loss, with the channels, consumers and topology that it had.

Layer 4, below ``gamqp.connection``, whose Connection makes a RecoveryEngine when it is made with ``recover``; one that
is made without pays a comparison at its end. What is known of exchanges, queues, bindings and consumers is in
``state``. Public: ``gamqp.Recovery`` (of ``state.recovery_settings``) and what is imported here.
Does not belong here: how a socket is opened (``connection.connecting``).
"""

from __future__ import annotations

from .outage import LostCounts, Outage, RecoveryReport

__all__ = ('LostCounts', 'Outage', 'RecoveryReport')
