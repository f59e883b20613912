"""A channel of gamqp's own, on which what was declared is declared again.

Layer 4. What the broker refuses there costs the program's channels nothing. Its number is the highest one, which the
program does not get where a connection recovers. Does not belong here: what is asked on it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from .. import exceptions, green
from ..channel.channel import Channel
from ..state.durations import in_seconds
from ..state.expected_replies import Expected
from ..wire import METHODS
from ..wire.spec import Channel as ChannelSpec

if TYPE_CHECKING:
    from ..connection.connection import Connection

__all__ = ('OwnChannel',)


class OwnChannel(Channel):
    """Open on the present socket, unless that has ended: then this raises why. After a refusal it opens itself again.

    connection: it need not be open; its handshake is over.
    """

    def __init__(self, connection: Connection) -> None:
        self._socket = connection._link
        super().__init__(connection)
        self._due: deque[Expected] = deque()
        self._life.move('open')
        self.request(ChannelSpec.Open, ('',), self._on_open_ok)

    def _take_number(self, connection: Connection, wanted: int | None) -> int:
        self._check_socket()
        return connection.channel_max

    def _check_socket(self) -> None:
        """Raise why it has ended, if it has. Does not switch."""
        if self._socket.reason is not None:
            self._socket.reason.throw()

    def request(self, sig: tuple[int, int], args: tuple[Any, ...], arrived: Any = None, tag: str | None = None) -> None:
        """Send a request, whose reply ``answer`` gives. Does not switch; raises why the socket has ended."""
        self._check_socket()
        expected = Expected(METHODS[sig].replies, green.Slot(self._connection._green), arrived, tag=tag)
        self._ask(sig, args, expected)
        self._due.append(expected)

    @property
    def awaits_answer(self) -> bool:
        """Whether there is a request without an answer."""
        return bool(self._due)

    def answer(self) -> Any:
        """Wait for the reply to the oldest request, and return it. Switches.

        Raises the ChannelError with which the broker has refused it, behind which no request before has an answer any
        more; TimeoutError; and why the socket has ended.
        """
        expected, connection = self._due.popleft(), self._connection
        slot: Any = expected.slot
        if not connection._wait_for(slot, connection.rpc_timeout):
            name = METHODS[expected.sigs[0]].name
            raise TimeoutError(f'no {name} within {in_seconds(connection.rpc_timeout)}')
        try:
            return slot.result()
        except exceptions.AMQPError:
            self._check_socket()
            self._due.clear()  # they have ended with the channel, as it was
            raise

    def _on_stray(self, message: Any) -> None:
        """What a consumer gets that is only tried here. It goes back when the channel is closed.

        Not before: it would come again at once, and quorum queues count how often a message is given back.
        """

    def leave(self) -> None:
        """It is needed no more; another one may take its number. Switches. Raises why the socket has ended."""
        if self._was_opened:
            self._begin_close(0, '', (0, 0), wait=True)
