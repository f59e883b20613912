"""What this package asks of the connections that it measures and traces, and of their channels.

Layer 3. Narrow Protocols, for annotations alone: ``gamqp.connection`` lies above this package. None of these methods
switches greenlets. Does not belong here: code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from ..state.counters import Counters
from ..state.receive_budget import ReceiveBudget

if TYPE_CHECKING:
    from ..consuming.overflow import Overflow
    from ..io.link import Link
    from ..transport import TCPTransport
    from .tracing import Tracing

__all__ = ('MeasuredConnection', 'NamedConnection', 'TraceableConnection', 'TracedConnection')


class MeasuredBackpressure(Protocol):
    """What is undelivered, in memory and on disk."""

    @property
    def budget(self) -> ReceiveBudget: ...

    @property
    def overflow(self) -> Overflow | None: ...


class Blockage(Protocol):
    """Since when the broker takes no messages."""

    def blocked_for(self, now: float) -> float: ...


class MeasuredChannel(Protocol):
    """A Channel."""

    @property
    def consumer_count(self) -> int: ...

    @property
    def unconfirmed(self) -> int: ...

    @property
    def unsettled(self) -> int: ...

    def _oldest_unsettled(self) -> tuple[int, str, float] | None: ...


class NamedConnection(Protocol):
    """A Connection, whose name the broker's management shows."""

    @property
    def client_properties(self) -> Mapping[str, Any]: ...

    @property
    def name(self) -> str | None: ...


class MeasuredConnection(NamedConnection, Protocol):
    """A Connection, whose numbers are asked for."""

    # An object that tells of the outage that the connection recovers from; None while there is none.
    @property
    def recovery(self) -> object | None: ...

    @property
    def channels(self) -> Mapping[int, MeasuredChannel]: ...

    @property
    def metrics(self) -> Callable[[dict[str, Any]], object] | None: ...

    @property
    def _backpressure(self) -> MeasuredBackpressure: ...

    @property
    def _counts(self) -> Counters: ...

    @property
    def _flow_control(self) -> Blockage: ...

    @property
    def _green(self) -> ModuleType: ...

    @property
    def _link(self) -> Link | None: ...


class TracedConnection(Protocol):
    """A Connection, whose publishes and handlers are traced."""

    @property
    def transport(self) -> TCPTransport | None: ...

    @property
    def _green(self) -> ModuleType: ...


class TraceableConnection(Protocol):
    """A Connection, or the class Connection, which may get a tracer."""

    _tracing: Tracing | None
