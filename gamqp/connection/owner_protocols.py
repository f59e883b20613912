"""What the objects that a Connection holds ask of it.

Layer 4. Narrow Protocols, for annotations alone: each of these objects can be made and tested without a Connection.
None of these methods switches greenlets. Does not belong here: code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ..consuming.owner_protocols import Affinity, CallbackEvents, ConsumerConnection

if TYPE_CHECKING:
    from ..io.link import Link
    from ..state.connection_settings import BlockedPolicy

__all__ = ('DrainedOwner', 'OpenOwner', 'PublishingOwner', 'ReadingOwner')


class OpenOwner(Protocol):
    """Can tell why it is not open."""

    # With the link on which a call began: raises why that one ended, also when another one is open by now.
    def _check_open(self, link: Link | None = None) -> None: ...


class DrainedOwner(OpenOwner, Protocol):
    """Its events are handed out in its own thread."""

    @property
    def _affinity(self) -> Affinity: ...

    # ``_check_open``, for greenlets in drain_events, which wait on while the connection is opened again.
    def _check_drainable(self) -> None: ...


class PublishingOwner(OpenOwner, Protocol):
    """Its publishes may have to wait."""

    # Read at each publish that may have to wait: a program may change these while the connection is open.
    @property
    def blocked_policy(self) -> BlockedPolicy: ...

    @property
    def blocked_timeout(self) -> float | None: ...

    # Called in greenlets of their own, never by the reader.
    @property
    def on_blocked(self) -> Callable[[str], object] | None: ...

    @property
    def on_unblocked(self) -> Callable[[], object] | None: ...

    @property
    def rpc_timeout(self) -> float: ...

    # The reader calls it, so it only hands the text to a greenlet that writes the log.
    def _report(self, text: str, *args: object) -> None: ...


class ShownEvents(CallbackEvents, Protocol):
    """Events that an event loop of the program may poll for."""

    # Sets a descriptor, if there is one; the program's loop notices when it polls next.
    def show(self) -> None: ...


class ReadingOwner(ConsumerConnection, Protocol):
    """Its reader may have to stop."""

    @property
    def spool(self) -> bool: ...

    @property
    def _event_queue(self) -> ShownEvents: ...
