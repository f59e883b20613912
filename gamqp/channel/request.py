"""Call and reply: the part that a connection (channel 0) and a channel have in common.

Layer 3. Register, then send: the expected reply stands in the FIFO before a
byte goes out. A caller that is killed or runs out of time leaves its entry
there, so a late reply is dropped in order; where the broker did something that
the vanished caller can no longer know of (a message was fetched, a consumer
started), ``undo`` takes it back. Does not belong here: the order of the replies (``state.expected_replies``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import green
from ..state.durations import in_seconds
from ..state.expected_replies import Expected, Replies
from ..state.topology_records import RecordedConsumer
from ..state.uncopyable import Uncopyable
from ..wire import METHODS, encode_method

__all__ = ('Arguments', 'Requester')

Sig = tuple[int, int]
Arguments = dict[str, Any] | None  # a method's table of arguments; their names are the broker's


class Requester(Uncopyable):
    """Sends methods on one channel number and waits for their replies."""

    channel_id: Any  # a number, and None at the end
    # Whether it is just being asked: what is expected and what was sent do not agree for a moment.
    _asking: bool
    _connection: Any
    _sent_unanswered: bool  # whether something was sent whose reply was waived
    _replies: Replies
    _check: Callable[[Sig], None]  # raises the reason why nothing can be sent now, if there is one

    def _send(self, sig: Sig, args: tuple[Any, ...] = ()) -> None:
        """Send a method that has no reply, or whose reply was waived. Does not switch."""
        self._check(sig)
        connection = self._connection
        frames = encode_method(self.channel_id, sig, args, connection.frame_max)
        self._sent_unanswered = True
        connection._link.writer.send(frames)

    def _call(
        self,
        sig: Sig,
        args: tuple[Any, ...] = (),
        arrived: Callable[[Any], Any] | None = None,
        undo: Callable[[Any], Any] | None = None,
        timeout: float | None = None,
        wait: bool = True,
        tag: str | None = None,
        ending: bool = False,
        consumer: RecordedConsumer | None = None,
    ) -> Any:
        """Send a method and wait for its reply. Returns the reply's arguments (or message).

        arrived: called with the reply by the reader, before anyone wakes; must
        not switch. undo: called with a reply that nobody is there to take.
        timeout: seconds, None for the connection's rpc_timeout. wait: False to
        go on without the reply; then an error of the broker comes out of a later
        call or of drain_events. tag: the consumer's, for consume and cancel, whose
        replies may come late. ending: see ``_await_reply``. consumer: what is recorded
        of it when it has started. Raises TimeoutError, or why channel or connection ended.
        """
        self._check(sig)
        connection = self._connection
        slot = green.Slot(connection._green) if wait else None
        expected = Expected(METHODS[sig].replies, slot, arrived, undo, tag, consumer)
        if slot is not None:
            slot.batch = connection._link.batch
        self._ask(sig, args, expected)
        return self._await_reply(expected, sig, timeout, ending) if wait else None

    def _ask(self, sig: Sig, args: tuple[Any, ...], expected: Expected) -> None:
        """Register and send, unchecked and without a switch: also for the reader's own questions."""
        connection = self._connection
        frames = encode_method(self.channel_id, sig, args, connection.frame_max)
        self._asking = True
        try:
            self._replies.expect(expected)
            connection._link.writer.send(frames)
        except BaseException as exc:
            # Only a signal handler can raise here, and then nobody knows whether
            # question and expectation still go together.
            connection._link.lose(exc)
            raise
        finally:
            self._asking = False

    def _request(self, sig: Sig, args: tuple[Any, ...], nowait: bool, done: Callable[[Any], Any] | None = None) -> Any:
        """``_call``, or ``_send`` where the caller set the method's nowait bit.

        done: called when the broker has done it: with the reply, and with () at once where none is wanted.
        """
        if not nowait:
            return self._call(sig, args, done)
        self._send(sig, args)
        if done is not None:
            done(())
        return None

    def _await_reply(self, expected: Expected, sig: Sig, timeout: float | None, ending: bool = False) -> Any:
        """Wait for what ``_ask`` has asked, at most *timeout* seconds (None: rpc_timeout). Switches greenlets.

        ending: it is a close or cancel, see ``_wait_for_close``.
        Returns the reply; raises TimeoutError, or why channel or connection ended.
        """
        connection = self._connection
        wait = connection._wait_for_close if ending else connection._wait_for
        if timeout is None:
            timeout = connection.rpc_timeout
        slot: Any = expected.slot  # a green.Slot, since somebody waits
        try:
            if not wait(slot, timeout):
                raise TimeoutError(f'{METHODS[sig].name}: no reply within {in_seconds(timeout)}')
        except BaseException:
            expected.abandon()
            raise
        return slot.result()

    def _on_reply(self, sig: Sig, reply: Any) -> None:
        """The reader has a reply. Raises UnexpectedFrame when it fits nothing that was asked."""
        self._replies.match(sig, reply).arrive(reply)
