"""Whether a channel is open, and whether its methods may be called now, in this thread.

Layer 3, a base class of Channel and of its methods. Does not belong here: how a channel is opened and closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..state import lifecycle
from ..state.counters import Counters
from ..state.lifecycle import Lifecycle, Reason
from ..wire.spec import Channel as ChannelSpec
from .request import Requester

if TYPE_CHECKING:
    from ..connection.connection import Connection

__all__ = ('OpenState',)


class OpenState(Requester):
    """The life of a channel as its methods see it."""

    connection: Connection | None  # None when the channel has ended
    _number: int
    _incarnation: int  # how often all delivery tags became void: it was reopened, or told to recover
    _counts: Counters
    _declared: str  # the queue that was declared last on this channel, which '' stands for
    _event_queue: Any  # of the connection: what waits for drain_events
    _life: Lifecycle
    _unraised: Reason | None  # an error of the broker that concerned no call, to be raised by the next one
    # The thread in which each method may go ahead, None unless the channel is open and no error waits to be
    # raised. Methods that are called for each message compare it themselves and call ``_check`` if it is another.
    _usable_in: int | None
    _writer: Any

    @property
    def is_open(self) -> bool:
        return self._life.state == lifecycle.OPEN

    @property
    def _takes_settlements(self) -> bool:
        return self.is_open

    @property
    def is_closing(self) -> bool:
        return self._life.state == lifecycle.CLOSING

    @property
    def _was_opened(self) -> bool:
        """Open, or being reopened after an error; not while a first open is under way or an end."""
        return self.is_open or (self._life.state == lifecycle.OPENING and self._incarnation > 0)

    def _check(self, sig: tuple[int, int]) -> None:
        self._connection._affinity.check()
        if self._usable_in is not None:
            return
        unraised, self._unraised = self._unraised, None
        if unraised is not None:
            self._usable_in = self._connection._affinity.thread if self.is_open else None
            raise unraised.make_error()
        if self._life.state == lifecycle.OPENING:
            return  # reopening after an error: what is sent now stands behind channel.open
        if self._life.state == lifecycle.CLOSING and sig == ChannelSpec.Close:
            return
        raise self._life.error_maker(f'channel {self._number} is {self._life.state}')()

    def _name_to_send(self, queue: str, sig: tuple[int, int]) -> str:
        """The name to send for *queue* with this method. '' is the queue declared last, as the broker knows, too.

        But where queues are declared again after a loss, it knows of no declaration on this channel.
        """
        topology = self._connection._topology
        if queue or topology is None:
            return queue
        self._check(sig)  # which may wait for the end of a loss, and the queue has another name then
        present: str = topology.queue_name(self._declared)
        return present
