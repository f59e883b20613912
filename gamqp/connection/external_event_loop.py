"""What a program sees of a connection from outside: a descriptor to poll, ``connected``, and the call of ``on_lost``.

Layer 4, a base class of Connection. A program with an event loop of its own, such as
kombu's Hub, polls ``sock`` and asks ``connected`` before it calls drain_events. Our reader may have taken messages, or
the end of the connection, from the socket before that loop looks at it; what it sees
here has to hold that back until drain_events was called. Does not belong here: the
descriptor itself, see ``transport.poll_descriptor``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..state import lifecycle
from ..state.lifecycle import Lifecycle, Reason
from ..transport import PollDescriptor
from ..transport.socket_guard import SocketGuard

__all__ = ('ExternalEventLoop',)


class ExternalEventLoop:
    """descriptor: None as long as nobody polls, which is all that the ways of messages ask.

    loss_unraised: the connection was lost while it had callback consumers, and no
    drain_events has raised that yet.
    """

    descriptor: PollDescriptor | None = None
    loss_unraised = False

    overflow: Any
    channels: dict[int, Any]
    green: Any
    link: Any
    on_lost: Callable[[BaseException], Any] | None
    has_events: bool
    _life: Lifecycle

    @property
    def is_open(self) -> bool:
        """Whether the connection is open; False as soon as it is known to be lost."""
        return self._life.state == lifecycle.OPEN

    @property
    def connected(self) -> bool:
        """Whether the connection is open, or was lost and drain_events has something to say about it.

        After a loss of a connection that had callback consumers it stays True until
        drain_events has raised the loss once, or close() or collect() was called:
        layers above that open a new connection as soon as this is False (kombu does)
        would otherwise never learn that their consumers are gone. Without such consumers
        it is False at once. ``is_alive()`` and ``repr`` tell the truth at once.
        """
        return self.is_open or self.loss_unraised

    @property
    def sock(self) -> SocketGuard | None:
        """A SocketGuard: what a program may have of the socket, see there. None while there is no socket.

        ``sock.fileno()`` is for event loops: readable whenever ``drain_events(timeout=0)``
        has something to do. It closes with the connection; after a loss it stays,
        readable, until drain_events has raised the loss.
        """
        return None if self.link is None else self.link.transport.sock

    def on_descriptor(self, descriptor: PollDescriptor) -> None:
        """Somebody polls. Does not switch."""
        self.descriptor = descriptor
        self.show_events()

    def show_events(self) -> None:
        """Set the descriptor by whether a drain_events would have something to do, or only let the hub run. No switch.

        The hub has to run when the reader was told to read on, since the rest of its
        input may be decrypted already, and when deliveries are due to come back from disk.
        """
        descriptor, overflow = self.descriptor, self.overflow
        if descriptor is not None:
            descriptor.show(
                self.has_events or self.loss_unraised or self.link.resuming or (overflow is not None and overflow.due)
            )

    def check_thread(self) -> None:
        raise NotImplementedError

    def check_open(self) -> None:
        raise NotImplementedError

    # -- the end -----------------------------------------------------------------------

    def note_end(self, lost: bool) -> None:
        """The connection ends. lost: it was open, and the program has not asked for it."""
        self.loss_unraised = lost and any(channel._has_callbacks for channel in self.channels.values())

    def show_end(self, lost: bool, reason: Reason) -> None:
        """Everything of it has ended: close the descriptor, unless drain_events has to tell why; call ``on_lost``."""
        if self.loss_unraised:
            self.show_events()
        else:
            self.forget_loss()
        if lost and self.on_lost is not None:
            self.green.spawn(self.on_lost, reason.make_error())

    def check_drainable(self) -> None:
        """``check_open`` in drain_events: a loss that comes out of it is known to the program."""
        if self.loss_unraised:
            self.check_thread()
            self.forget_loss()
        self.check_open()

    def forget_loss(self) -> None:
        """The program knows that the connection has ended. Does not switch."""
        self.loss_unraised = False
        self.descriptor = None
        if self.link is not None:
            self.link.transport.retire()
