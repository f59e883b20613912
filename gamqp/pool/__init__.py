"""A pool of channels on several connections, each lent to one user at a time.

Layer 5. Here: who has which channel and who waits for one (``leases``), how connections and channels are opened and
what happens when that fails (``opening_connections``), and what is done with a channel that is returned
(``connections``, ``ended_leases``). Does not belong here: how a connection works; the pool uses it as a program does.
Public: Pool, and the Lease that ``Pool.channel()`` returns.
"""

from __future__ import annotations

from .pool import Lease, Pool

__all__ = ('Lease', 'Pool')
