"""Receipt: what became of one publish.

Layer 3. ``Channel.publish`` returns it at once; the channel's confirms settle
it, whatever happens: by the broker's ack, nack or return, or by the end of the
channel or connection. Does not belong here: how they know.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal

from .. import exceptions, green
from ..basic_message import Message
from ..state.argument_checks import given_timeout
from ..state.durations import in_seconds
from ..state.uncopyable import Uncopyable
from ..state.waiter_protocols import MakeError
from ..wire import Content
from ..wire.spec import Basic

if TYPE_CHECKING:
    from ..connection.connection import Connection
    from .waiting_for_confirms import ChannelConfirms

__all__ = ('Receipt', 'ReceiptState', 'nacked_error', 'returned_error')


ReceiptState = Literal['pending', 'acked', 'nacked', 'returned', 'lost']


class Receipt(Uncopyable):
    """The outcome of one publish, to be asked for or waited for, by any number of greenlets.

    delivery_tag: the number of the publish on its channel. exchange, routing_key: where it went.

    A publish that was refused or returned, and whose receipt nobody has waited for or
    asked, is counted by ``Connection.stats`` (unnoticed) when the receipt is dropped;
    the first of a connection is a warning in the log.
    """

    __slots__ = ('_confirms', '_done', '_make_error', '_verdict', 'delivery_tag', 'exchange', 'routing_key')

    def __init__(self, confirms: ChannelConfirms, exchange: str, routing_key: str) -> None:
        self._confirms = confirms
        self._verdict: Any = None
        self._make_error: MakeError | None = None
        self._done: green.Event | None = None  # made when somebody waits
        self.delivery_tag = 0
        self.exchange = exchange
        self.routing_key = routing_key

    def __repr__(self) -> str:
        return f'<Receipt {self.delivery_tag} to {self.exchange!r}, {self.routing_key!r}: {self.state}>'

    @property
    def state(self) -> ReceiptState:
        """pending, acked, nacked, returned (no queue took it), or lost (nobody knows)."""
        if not self.done:
            return 'pending'
        _noticed(self)
        if self._make_error is not None:
            return 'lost'
        if not isinstance(self._verdict, bool):
            return 'returned'
        return 'acked' if self._verdict else 'nacked'

    @property
    def done(self) -> bool:
        """Whether the outcome is known, or known to stay unknown."""
        # When its channel has ended, it is settled now, before its turn: nobody sees it pending any more.
        return (
            self._verdict is not None
            or self._make_error is not None
            or (bool(self._confirms.endings) and self._confirms.settle_now(self.delivery_tag, self))
        )

    @property
    def acked(self) -> bool:
        """Whether the broker has taken responsibility for the message."""
        return self._verdict is True or (self.done and _noticed(self)._verdict is True)

    @property
    def error(self) -> BaseException | None:
        """What ``wait`` would raise, as a new object each time; None while pending and when acked."""
        if not self.done or _noticed(self)._verdict is True:
            return None
        if self._make_error is not None:
            error: BaseException = self._make_error()
            return error
        if self._verdict is False:
            return nacked_error(self.exchange, self.routing_key)
        return returned_error(self._verdict)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the broker has acked the message. Switches greenlets.

        timeout: seconds, None for the connection's confirm_timeout. Raises
        MessageNacked when the broker refused it, Returned when it was mandatory and
        no queue took it, why the channel or connection ended before its confirm
        came (the broker may have taken it), and TimeoutError.
        """
        if not self.done:
            connection = self._confirms.connection
            connection._affinity.check()
            limit = connection.confirm_timeout if timeout is None else given_timeout('timeout', timeout)
            if self._done is None:
                self._done = green.Event(connection._green, connection._link.batch)
            if not connection._wait_for(self._done, limit):
                raise TimeoutError(f'no confirm within {in_seconds(limit)}; the broker may have taken the message')
        error = self.error
        if error is not None:
            raise error

    # -- from the reader, as a PublishWaiter --------------------------------------------

    def _settle(self, verdict: bool | Content) -> None:
        if verdict is not True and self._verdict is None:
            self.__class__ = _UncheckedReceipt  # pyright: ignore[reportAttributeAccessIssue]
        self._verdict = verdict
        if self._done is not None:
            self._done.set()

    def _lose(self, make_error: MakeError) -> None:
        if self._verdict is None:  # else it came back, and handlers have got the message: the outcome stays
            self._make_error = make_error
        if self._done is not None:
            self._done.set()

    @property
    def _awaited(self) -> bool:
        return bool(self._done)

    def _leave_to_handlers(self, message: Content) -> None:
        """It came back, and the program has handlers that get the message."""
        self._verdict = message


class _UncheckedReceipt(Receipt):
    """One whose publish was refused or returned, until somebody has looked at it.

    Of a class of its own because only such a one has a finalizer.
    """

    __slots__ = ()

    @property
    def state(self) -> ReceiptState:
        return _noticed(self).state

    @property
    def acked(self) -> bool:
        return _noticed(self).acked

    @property
    def error(self) -> BaseException | None:
        return _noticed(self).error

    def __del__(self) -> None:
        # The garbage collector may be at work, in any thread.
        what = 'refused by the broker' if self._verdict is False else 'returned, since no queue takes it,'
        connection = self._confirms.connection
        note = functools.partial(_note_unnoticed, connection, self.exchange, self.routing_key, what)
        if connection._affinity.is_here():
            note()
        else:
            connection._affinity.call_later(note)


def _noticed(receipt: Any) -> Receipt:
    receipt.__class__ = Receipt
    usual: Receipt = receipt
    return usual


def _note_unnoticed(connection: Connection, exchange: str, routing_key: str, what: str) -> None:
    """In the thread of the connection. Does not switch."""
    connection._counts.unnoticed += 1
    if connection._counts.unnoticed == 1:
        connection._report(
            '%s: a publish to exchange %r with routing key %r was %s and nobody has looked at its receipt; wait() '
            'raises why. Others are only counted: unnoticed in stats()',
            repr(connection),
            exchange,
            routing_key,
            what,
        )


def nacked_error(exchange: str, routing_key: str) -> exceptions.MessageNacked:
    """The error of a publish that the broker has nacked."""
    return exceptions.MessageNacked(f'the broker refused the message for {exchange!r}, {routing_key!r}')


def returned_error(message: Message) -> exceptions.AMQPError:
    """The error of a publish that came back: Returned, where the broker gives the usual code."""
    info = message.delivery_info
    error = exceptions.error_for_code(info['reply_code'], info['reply_text'], Basic.Return, exceptions.ChannelError)
    error.hint = f'exchange {info["exchange"]!r}, routing key {info["routing_key"]!r}'
    if isinstance(error, exceptions.Returned):
        error.returned = message
    return error
