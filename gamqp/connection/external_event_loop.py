"""What a program sees of a connection from outside: a descriptor to poll, ``connected``, and the call of ``on_lost``.

Layer 4, a base class of Connection. A program with an event loop of its own, such as
kombu's Hub, polls ``sock`` and asks ``connected`` before it calls drain_events. Our reader may have taken messages, or
the end of the connection, from the socket before that loop looks at it; what it sees
here has to hold that back until drain_events was called. Does not belong here: the
descriptor itself, see ``transport.poll_descriptor``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..state import lifecycle
from ..state.lifecycle import Lifecycle, Reason
from ..transport import PollDescriptor
from ..transport.socket_guard import SocketGuard
from ..transport.transport_guard import TransportGuard
from .event_queue import EventQueue

if TYPE_CHECKING:
    from ..channel.channel import Channel
    from ..recovery.engine import RecoveryEngine
    from .thread_affinity import ThreadAffinity

__all__ = ('ExternalEventLoop',)


class ExternalEventLoop:
    """What kombu's Hub and its like use; what they see is kept by the EventQueue."""

    # Dispatch gives these their values; this class has no state of its own.
    channels: dict[int, Channel]
    _affinity: ThreadAffinity
    _check_open: Callable[..., None]
    _event_queue: EventQueue
    _green: Any
    _link: Any
    on_lost: Callable[[BaseException], Any] | None
    _life: Lifecycle
    _recovery: RecoveryEngine | None

    @property
    def is_open(self) -> bool:
        """Whether the connection is open; False as soon as it is known to be lost."""
        # No system call and no question to the broker: event loops ask this often.
        return self._life.state == lifecycle.OPEN

    @property
    def is_closing(self) -> bool:
        return self._life.state == lifecycle.CLOSING

    @property
    def connected(self) -> bool:
        """Whether the connection is open, or was lost and drain_events has something to say about it.

        After a loss of a connection that had callback consumers it stays True until
        drain_events has raised the loss once, or close() or collect() was called:
        layers above that open a new connection as soon as this is False (kombu does)
        would otherwise never learn that their consumers are gone. Without such consumers
        it is False at once. ``is_alive()`` and ``repr`` tell the truth at once.
        """
        # loss_unraised is True only between a loss and the drain_events, close, collect or connect that follows it.
        return self.is_open or self._event_queue.loss_unraised

    @property
    def transport(self) -> TransportGuard | None:
        """What carries the bytes, as py-amqp's; None before connecting. Nothing can be read or written by it.

        After the end it stays, until the next connect.
        """
        return None if self._link is None else TransportGuard(self._link.transport)

    @property
    def sock(self) -> SocketGuard | None:
        """A SocketGuard: what a program may have of the socket, see there. None while there is no socket.

        ``sock.fileno()`` is for event loops: readable whenever ``drain_events(timeout=0)``
        has something to do. It closes with the connection; after a loss it stays,
        readable, until drain_events has raised the loss.
        """
        return None if self._link is None else self._link.transport.sock

    def _on_descriptor(self, descriptor: PollDescriptor) -> None:
        """Somebody polls. Does not switch."""
        # Kept by the event queue, which knows when there is something to do. Made at the first ``sock.fileno()``:
        # other programs pay nothing for it.
        self._event_queue.descriptor = descriptor
        # Events may wait already: such a loop is often started after the consumers.
        self._event_queue.show()

    def _check_drainable(self) -> None:
        """``_check_open`` in drain_events, which goes on while the connection is opened again. Does not switch."""
        if self._life.state not in (lifecycle.OPEN, lifecycle.RECOVERING):
            self._check_open()
        else:
            self._affinity.check()

    # -- the end -----------------------------------------------------------------------

    def _note_end(self, lost: bool) -> None:
        """The connection ends. lost: it was open, and the program has not asked for it."""
        # Decided before the channels forget their consumers.
        self._event_queue.loss_unraised = lost and any(channel._has_callbacks for channel in self.channels.values())

    def _show_end(self, lost: bool, reason: Reason) -> None:
        """Everything of it has ended: close the descriptor, unless drain_events has to raise why; call ``on_lost``."""
        # The descriptor stays open and readable, so that the loop calls drain_events, which raises the loss.
        if self._event_queue.loss_unraised:
            self._event_queue.show()
        else:
            self._event_queue.forget_loss()
        # lost was decided before the end began. A second cause does not come here: _end runs once for each opening.
        # A connection that recovers has called it when it was lost.
        if lost and self.on_lost is not None and self._recovery is None:
            # In a greenlet of its own: it is the reader, or the heartbeat greenlet, that ends the connection.
            self._green.spawn(self.on_lost, reason.make_error())
