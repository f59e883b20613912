"""A channel that outlives the loss of its connection.

Layer 4, the class of the channels of a connection that recovers. At a loss it keeps its number, its consumers, its
prefetch and its mode; calls get ``Lost``. Until it has been restored nothing of the program is sent on it, but acks of
what has been delivered since. Delivery tags go on from one socket to the next, so that an ack of a delivery from before
is recognised, also one that has a number alone. Does not belong here: the order in which things are restored
(``restoring``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

from .. import exceptions, green
from ..channel.channel import Channel
from ..state import lifecycle
from ..state.argument_checks import optional_timeout
from ..state.consumers import ConsumerRecord
from ..state.durations import in_seconds
from ..state.error_hints import add_hint
from ..state.expected_replies import Expected
from ..state.lifecycle import Reason
from ..state.name_arguments import name
from ..state.topology_records import RecordedConsumer
from ..state.topology_registry import TopologyRegistry
from ..wire import METHODS, encode_method
from ..wire.spec import Basic
from ..wire.spec import Channel as ChannelSpec
from .recovering_publishes import RecoveringPublishes, WithMessageIds
from .settling_after_loss import settling_after_loss

__all__ = ('RecoveringChannel', 'recovering_class')

_SETTLEMENTS = (Basic.Ack, Basic.Nack, Basic.Reject)


class RecoveringChannel(RecoveringPublishes):
    """See the module. ``Connection.channel`` makes it where the connection recovers."""

    # As in Channel, the values that most channels never change stand here.
    _is_open_at_broker = False  # while it is being restored: channel.open was sent on the present socket
    # Why the transaction was lost in which something had been done; the next commit or rollback raises it.
    _lost_transaction: Reason | None = None
    _done_at_commit = (0, 0, 0)  # when the present transaction began
    # Tag -> what a call expects that has waited for the start of a consumer when the socket was lost.
    _awaited_starts: dict[str, Expected] | None = None
    _late_start: Expected | None = None  # of a consumer of before that is being started while the channel is open

    @property
    def _topology(self) -> TopologyRegistry:
        return cast('TopologyRegistry', self._connection._topology)  # which a connection that recovers has

    # -- a loss ------------------------------------------------------------------------------

    def _on_connection_end(self, reason: Reason) -> None:
        if self._connection._life.state != lifecycle.RECOVERING:
            super()._on_connection_end(reason)
        elif self._was_opened:
            self._suspend(reason)
        elif self._life.state == lifecycle.RECOVERING:
            self._leave_socket(reason)  # an attempt has failed
        else:
            self._end(reason)  # it is being closed, or nobody has it yet

    def _suspend(self, reason: Reason) -> None:
        """The socket is gone, and the channel goes on with the next one. Does not switch."""
        self._life.move('lose')
        self.__class__ = settling_after_loss(cast('Any', type(self)))
        self._pass_tags()  # before consumers end, and what they had with them
        if self._is_transactional and self._done_so_far != self._done_at_commit:
            self._lost_transaction = reason
        self._lose_publishes(reason)
        self._keep_consumers(reason)
        self._leave_socket(reason)

    def _keep_consumers(self, reason: Reason) -> None:
        """End those that are not started again, and keep the calls that wait for one to start. Does not switch."""
        topology, consumers, replies = self._topology, self._consumers, self._replies
        cancelled = {
            tag for tag in consumers if consumers.has_cancel_waiting(tag) or replies.expects(tag, Basic.CancelOk)
        }
        for expected in replies.take_tagged(Basic.ConsumeOk):
            record, tag = expected.consumer, str(expected.tag)
            if record is not None and record.recover and tag in consumers and tag not in cancelled:
                topology.consumer_started(record)
                self._awaited_starts = {**(self._awaited_starts or {}), tag: expected}
            elif expected.slot is not None:
                expected.slot.fail(reason.make_error)
        for tag in list(consumers):
            record = topology.consumer(self._number, tag)
            if tag in cancelled:
                self._end_locally(tag, None)
            elif record is None or not record.recover:
                self._end_locally(tag, reason)
        # What the program has asked for: they are not started again.
        for expected in (*replies.take_tagged(Basic.CancelOk), *consumers.take_cancels()):
            if expected.slot is not None and not expected.abandoned:
                expected.slot.succeed((expected.tag,))

    def _end_locally(self, tag: str, reason: Reason | None) -> None:
        """The broker does not have this consumer, and will not get it again. Does not switch.

        reason: None if the program has cancelled it.
        """
        self._topology.consumer_ended(self._number, tag)
        consumer = self._consumers.leave(tag)
        if consumer is None:
            return
        if not consumer.no_ack:
            consumer.discard = True
        if consumer.inbox is not None:
            consumer.inbox.finish(reason)
            return
        self._close_books(consumer)
        if reason is not None:
            self._due_calls.pending.add_error(reason.throw)
            self._due_calls.flag()

    def _leave_socket(self, reason: Reason) -> None:
        """What is expected will not come, and what was delivered is void. Does not switch."""
        self._pass_tags()  # also those of an attempt, which has delivered messages that may be settled later
        self._is_open_at_broker = False
        self._usable_in = None
        self._owes_close_ok = False
        self._hear_all()
        self._earlier = None
        self._connection._work_in_turns.add(self._replies.fail_all(reason.make_error))
        self._connection._work_in_turns.add(self._fail_cancels(reason.make_error))
        self._begin_incarnation()
        self._forget_unsettled()
        self._set_active(True)

    def _pass_tags(self) -> None:
        """What has been delivered up to now is void, and recognised when it is settled. Does not switch."""
        self._tag_offset = max(self._tag_offset, self._unacked.latest())

    # -- the next socket ---------------------------------------------------------------------

    def _begin_on_socket(self) -> None:
        """channel.open is about to be sent. Does not switch."""
        link = self._connection._link
        self._writer, self._heartbeat_clock = link.writer, link.heartbeat_clock
        self._is_open_at_broker = True

    def _begin_consumer_again(self, tag: str) -> None:
        """basic.consume is about to be sent for a consumer of before. Does not switch."""
        self._consumers.note_starting(tag)
        consumer = self._consumers[tag]
        consumer.books = False
        if consumer.of_stream or consumer.numbered:
            self._reads_stream(consumer)

    def _start_later(self, record: RecordedConsumer) -> None:
        """Start a consumer of before, while the channel is open. Switches.

        Raises TimeoutError, and why the channel or the socket has ended instead.
        """
        if record.prefetch or not record.no_ack:
            self._use_prefetch(record.prefetch)
        self._begin_consumer_again(record.tag)
        connection = self._connection
        arrived = functools.partial(self._on_recorded_consume_ok, record)
        slot = green.Slot(connection._green)
        sig, args = record.request()
        self._late_start = Expected(METHODS[sig].replies, slot, arrived, tag=record.tag)
        self._late_start.quiet = True  # nobody of the program waits
        try:
            self._ask(sig, args, self._late_start)
            if not connection._wait_for(slot, connection.rpc_timeout):
                raise TimeoutError(f'no {METHODS[sig].name}-ok within {in_seconds(connection.rpc_timeout)}')
            slot.result()
        finally:
            self._late_start = None

    def _on_started_again(self, reply: Any) -> None:
        """consume-ok has come for it. Does not switch."""
        tag = reply[0]
        for expected in self._consumers.note_started(tag):
            self._ask(Basic.Cancel, (tag, False), expected)
        awaited = (self._awaited_starts or {}).pop(tag, None)
        if awaited is not None:
            awaited.arrive(reply)

    def _not_started_again(self, tag: str, error: BaseException) -> None:
        """The broker does not let it start. A call that waits for that gets the error. Does not switch."""
        expected = (self._awaited_starts or {}).pop(tag, None)
        if expected is not None:
            reason = Reason(error)
            self._end_locally(tag, reason)
            if expected.slot is not None:
                expected.slot.fail(reason.make_error)

    def _resume(self) -> None:
        """All of it is restored: the program may use it again. Does not switch."""
        if self._life.state == lifecycle.RECOVERING:
            self._life.move('opened')
            self._usable_in = self._connection._affinity.thread if self._unraised is None else None
            self._hold_publishers()
            if self._consumers.has_watched:
                self._connection._while_open.watch_unacked(self._connection)

    def _on_close(self, code: int, text: str, class_id: int, method_id: int) -> None:
        """The broker has closed the channel. While it is being restored that is for the greenlet that does it."""
        if self._life.state != lifecycle.RECOVERING:
            if not self._refuses_late_start(code, text, (class_id, method_id)):
                super()._on_close(code, text, class_id, method_id)
            return
        self._connection._count_answer()
        self._writer.send(encode_method(self.channel_id, ChannelSpec.CloseOk, ()))
        error = exceptions.error_for_code(code, text, (class_id, method_id), exceptions.ChannelError)
        self._leave_socket(Reason(add_hint(error)))

    def _refuses_late_start(self, code: int, text: str, sig: tuple[int, int]) -> bool:
        """Whether the channel was closed over a consumer of before, whose start the program has not asked for.

        The other consumers have done nothing wrong: all is begun anew then, with what was declared for them.
        """
        late = self._late_start
        if late is None or sig != Basic.Consume or self._replies.oldest_tagged(Basic.ConsumeOk) is not late:
            return False
        refusal = exceptions.error_for_code(code, text, sig, exceptions.ChannelError)
        error = exceptions.RecoverableConnectionError(
            f'consumer {late.tag!r} could be started on another channel, and then not on its own: {refusal}'
        )
        error.__cause__ = refusal
        self._connection._link.lose(error)
        return True

    def _on_cancel(self, consumer_tag: str, nowait: bool) -> None:
        """The broker cancels a consumer, which is started again later if the program wants that."""
        engine, record = self._connection._recovery, self._topology.consumer(self._number, consumer_tag)
        if engine is None or record is None or not engine.resumes(record):
            super()._on_cancel(consumer_tag, nowait)
            return
        self._connection._count_answer()
        self._writer.send(encode_method(self.channel_id, Basic.Cancel, (consumer_tag, True)))
        self._topology.consumer_cancelled(self._number, consumer_tag)
        self._withdraw(self._consumers[consumer_tag])
        engine.start_later(record)

    _HANDLERS: Mapping[tuple[int, int], Callable[..., None]] = {
        **Channel._HANDLERS,
        ChannelSpec.Close: _on_close,
        Basic.Cancel: _on_cancel,
    }

    @property
    def _takes_settlements(self) -> bool:
        return self.is_open or (self._life.state == lifecycle.RECOVERING and self._is_open_at_broker)

    def _awaits_settlement(self, message: Any) -> bool:
        """As in Channel; also of what has come on this socket before all is restored."""
        if self._life.state == lifecycle.RECOVERING and self._is_open_at_broker:
            return message._incarnation == self._incarnation and message.delivery_tag in self._unacked
        return super()._awaits_settlement(message)

    # -- transactions ------------------------------------------------------------------------

    @property
    def _done_so_far(self) -> tuple[int, int, int]:
        """Changes with each publish and settlement of the connection: to count a channel's own would cost each."""
        return self._counts.published, self._counts.acked, self._counts.rejected

    def tx_select(self) -> None:
        super().tx_select()
        self._is_transactional = True
        self._done_at_commit = self._done_so_far

    def tx_commit(self) -> None:
        self._end_transaction(super().tx_commit)

    def tx_rollback(self) -> None:
        self._end_transaction(super().tx_rollback)

    def _end_transaction(self, end: Callable[[], None]) -> None:
        lost = self._lost_transaction
        try:
            if lost is None:
                end()
            else:
                super().tx_rollback()  # what was done since belongs to it, and must not be committed without the rest
        finally:
            # A loss during the call is raised by the call.
            self._lost_transaction = None
            self._done_at_commit = self._done_so_far
        if lost is not None:
            lost.throw()

    # -- what the program calls meanwhile ------------------------------------------------------

    def _check(self, sig: tuple[int, int]) -> None:
        """As in Channel; while the connection is opened again it waits, but not for settlements. Switches then."""
        if self._life.state == lifecycle.RECOVERING:
            if sig in _SETTLEMENTS and self._is_open_at_broker:
                return  # of a delivery that has come on this socket: consumers are started one after the other
            self._await_restored(sig, None)
        super()._check(sig)

    def _check_to_publish(self, deadline: green.Deadline | None) -> None:
        if self._life.state == lifecycle.RECOVERING:
            self._await_restored(Basic.Publish, deadline)
        super()._check(Basic.Publish)

    def _await_restored(self, sig: tuple[int, int], deadline: green.Deadline | None) -> None:
        connection = self._connection
        connection._affinity.check()
        engine = connection._recovery
        assert engine is not None  # it has made this channel
        deadline = deadline or green.Deadline(connection.rpc_timeout)
        # Again after each wait: the next loss may have come.
        while self._life.state == lifecycle.RECOVERING:
            engine.wait(deadline)

    def close(
        self,
        reply_code: int = 0,
        reply_text: str = '',
        method_sig: tuple[int, int] = (0, 0),
        argsig: object = None,
        *,
        timeout: float | None = None,
    ) -> None:
        if self._life.state != lifecycle.RECOVERING:
            super().close(reply_code, reply_text, method_sig, timeout=timeout)
            return
        optional_timeout('timeout', timeout)
        self._connection._affinity.check()
        frames = encode_method(self.channel_id, ChannelSpec.Close, (reply_code, reply_text, *method_sig))
        if self._is_open_at_broker:
            self._writer.send(frames)
            self._connection._closes_due.add(self.channel_id)
        self._end(self._closed_reason())

    def basic_cancel(self, consumer_tag: str, nowait: bool = False, argsig: object = None) -> None:
        if not self._cancelled_in_outage(name('consumer_tag', consumer_tag)):
            super().basic_cancel(consumer_tag, nowait)

    def _end_consumer(self, consumer: ConsumerRecord, wait: bool, timeout: float | None = None) -> None:
        if not self._cancelled_in_outage(consumer.tag):
            super()._end_consumer(consumer, wait, timeout)

    def _give_up_consumer(self, consumer: ConsumerRecord) -> None:
        if not self._cancelled_in_outage(consumer.tag):
            super()._give_up_consumer(consumer)

    def _cancelled_in_outage(self, tag: str) -> bool:
        """Where the connection is being opened again: have this consumer not start again. Returns whether it is.

        Does not switch.
        """
        if self._life.state != lifecycle.RECOVERING:
            return False
        self._connection._affinity.check()
        if self._awaited_starts is not None:
            self._awaited_starts.pop(tag, None)
        if self._is_open_at_broker and tag in self._consumers:
            self._ask_to_cancel(tag)  # it may have been started on this socket
        self._end_locally(tag, None)
        return True


def recovering_class(kind: type[Channel], with_message_ids: bool = False) -> type[Channel]:
    """The class of channels that recover, for a Connection whose channels are of *kind*."""
    bases: tuple[type[Channel], ...] = (WithMessageIds,) if with_message_ids else ()
    if issubclass(kind, RecoveringChannel):
        bases = (*bases, kind)
    else:
        bases = (*bases, RecoveringChannel, *(() if issubclass(RecoveringChannel, kind) else (kind,)))
    return bases[0] if len(bases) == 1 else _mixed(kind.__name__, bases)


@functools.cache
def _mixed(name: str, bases: tuple[type[Channel], ...]) -> type[Channel]:
    return type(f'Recovering{name.removeprefix("Recovering")}', bases, {})
