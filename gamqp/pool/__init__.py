"""A pool of channels on several connections, each lent to one user at a time.

Layer 5. Here: who has which channel and who waits for one, how connections are opened and what happens when that
fails, and what becomes of a channel that comes back. Does not belong here: how a connection works;
the pool uses it as a program would. Public: Pool, and the Lease that its ``channel()`` gives.
"""

from __future__ import annotations

from .pool import Lease, Pool

__all__ = ('Lease', 'Pool')
