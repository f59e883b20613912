"""What this package asks of the channel and the connection of a consumer.

Layer 3. Narrow Protocols, for annotations alone: ``gamqp.channel`` and ``gamqp.connection`` lie above this package.
None of these methods switches greenlets, where nothing else is said. Does not belong here: code.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from ..basic_message import Message
from ..io.link import Link
from ..state.consumers import ConsumerRecord, ConsumerTable
from ..state.counters import Counters
from ..state.queue_types import QueueTypes
from ..state.receive_budget import ReceiveBudget
from ..state.unacked import Unacked, WideUnacked
from ..state.void_deliveries import VoidDeliveries

if TYPE_CHECKING:
    from .inbox import Inbox
    from .overflow import Overflow

__all__ = ('ConsumerChannel', 'ConsumerConnection')


class Affinity(Protocol):
    """The thread that the connection belongs to."""

    @property
    def thread(self) -> int | None: ...

    def is_here(self) -> bool: ...

    def check(self) -> None: ...

    def call_later(self, fn: Callable[[], object]) -> None: ...


class Backpressure(Protocol):
    """Whether the reader has stopped because too much is undelivered."""

    overflow: Overflow | None
    spool_failed: bool

    @property
    def budget(self) -> ReceiveBudget: ...

    @property
    def crowded(self) -> bool: ...

    def freed(self) -> None: ...


class CallbackEvents(Protocol):
    """Where deliveries to callbacks wait, and who waits there."""

    def on_delivery(self, consumer: ConsumerRecord, message: Message) -> None: ...

    def wake_drainers(self) -> None: ...

    def wake_finishing(self) -> None: ...


class Turns(Protocol):
    """When a greenlet that never waits has to let others run. ``let_others_run`` switches."""

    until_look: int

    def turn_overdue(self) -> bool: ...

    def let_others_run(self) -> None: ...


class EndedInboxes(Protocol):
    """Inboxes that have ended while the program works on their last messages."""

    @property
    def retiring(self) -> set[Inbox]: ...

    def retire(self, inbox: Inbox) -> None: ...


class ConsumerConnection(Protocol):
    """The Connection. ``_run_handler`` runs code of the program, and switches if that does."""

    @property
    def max_inbound_body(self) -> int: ...

    @property
    def rpc_timeout(self) -> float: ...

    @property
    def _affinity(self) -> Affinity: ...

    @property
    def _backpressure(self) -> Backpressure: ...

    @property
    def _counts(self) -> Counters: ...

    @property
    def _event_queue(self) -> CallbackEvents: ...

    @property
    def _flow_control(self) -> Turns: ...

    @property
    def _green(self) -> ModuleType: ...

    @property
    def _link(self) -> Link: ...

    @property
    def _queue_types(self) -> QueueTypes: ...

    @property
    def _unfinished_handlers(self) -> EndedInboxes: ...

    def _report(self, text: str, *args: object) -> None: ...

    def _run_handler(self, handler: Callable[[Message], object], message: Message) -> None: ...


class ConsumerChannel(Protocol):
    """The Channel. ``_end_consumer`` switches if it is to wait."""

    @property
    def auto_decode(self) -> bool: ...

    @property
    def channel_id(self) -> Any: ...

    @property
    def _arriving(self) -> int: ...

    @property
    def _asking(self) -> bool: ...

    @property
    def _consumers(self) -> ConsumerTable: ...

    @property
    def _incarnation(self) -> int: ...

    @property
    def _tag_offset(self) -> int: ...

    @property
    def _unacked(self) -> Unacked | WideUnacked: ...

    @property
    def _void(self) -> VoidDeliveries | None: ...

    def _awaits_settlement(self, message: Message) -> bool: ...

    def _close_books(self, consumer: ConsumerRecord) -> None: ...

    def _end_consumer(self, consumer: ConsumerRecord, wait: bool, timeout: float | None = None) -> None: ...

    def _give_back_known(self, message: Message, of_stream: bool) -> None: ...

    def _give_back_tag(self, tag: int, incarnation: int, numbered: bool, of_stream: bool) -> None: ...

    def _is_of_before(self, message: Message) -> bool: ...

    def _look_at_first(self, consumer: ConsumerRecord, message: Message) -> None: ...

    def _note_arrival(self, message: Message) -> None: ...

    def _withdraw(self, consumer: ConsumerRecord) -> None: ...
