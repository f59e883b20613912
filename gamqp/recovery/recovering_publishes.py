"""What was published on a channel when its connection was lost: it is lost, or goes out again on the next socket.

Layer 4, the base class of RecoveringChannel. Publishes of a channel leave in order. So those that were still queued
whole are the latest ones, and nothing of them has been sent. What goes out again does so before anything that was
published since, and has new numbers: the broker counts from 1 on each socket. Does not belong here: consumers and
settlements (``recovering_channel``), and waiters (``recovering_confirms``).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

from .. import exceptions, green
from ..channel.channel import Channel
from ..channel.receipt import Receipt
from ..channel.waiting_for_confirms import ChannelConfirms
from ..green.yielding import in_turns
from ..state import lifecycle
from ..state.argument_checks import given_timeout
from ..state.confirm_matching import Confirms
from ..state.confirms_at_end import observe
from ..state.durations import in_seconds
from ..state.kept_publishes import KeepingConfirms, Kept, KeptPublishes, hand_over
from ..state.lifecycle import Reason
from ..state.queue_types import STREAM
from ..state.return_matching import Frames
from ..state.unsent_publishes import address, longest_frame
from ..wire import Decoder
from ..wire.spec import Confirm
from .recovering_confirms import RecoveringConfirms, unsent_reason

__all__ = ('RecoveringPublishes', 'WithMessageIds')

# The broker's name for replies to the channel that asks, if it has a consumer of that name.
REPLY_TO = 'amq.rabbitmq.reply-to'


class RecoveringPublishes(Channel):
    """Its confirm mode, and publishes without a confirm."""

    # As in Channel, the values that most channels never change stand here.
    _is_confirming = False  # confirm mode is on, or was at the loss
    _is_transactional = False
    _published_before_loss = 0  # in confirm mode, over all sockets
    _kept: KeptPublishes | None = None  # what goes out again; its publishers wait until that is done
    _confirms: RecoveringConfirms | None

    @property
    def unconfirmed(self) -> int:
        return super().unconfirmed + (0 if self._kept is None else len(self._kept))

    @property
    def _republish(self) -> str:
        engine = self._connection._recovery
        return 'none' if engine is None or self._is_transactional else engine.republish

    def _own_confirms(self) -> ChannelConfirms:
        if self._confirms is None:
            self._confirms = RecoveringConfirms(self._connection, self._number, self._republish == 'all')
        return self._confirms

    # -- a loss --------------------------------------------------------------------------------

    def _lose_publishes(self, reason: Reason) -> None:
        """The socket is gone, and no confirm will come. Does not switch."""
        engine, confirms, outstanding = self._connection._recovery, self._confirms, None
        unsent: list[Frames] = [] if engine is None else engine.unsent.pop(self._number, [])
        if confirms is not None:
            outstanding = confirms.end_socket()
        self._is_confirming = outstanding is not None
        tags: list[int] = []
        if outstanding is not None:
            self._published_before_loss = outstanding.published
            tags = outstanding.latest(len(unsent))
        plain, unsent = unsent[: len(unsent) - len(tags)], unsent[len(unsent) - len(tags) :]
        if self._republish == 'none':
            self._connection._counts.lost_publishes += len(plain)
            if confirms is not None and outstanding is not None:
                confirms.lose(outstanding, reason, tags[0] if tags else 0)
            return
        self._keep(reason, plain, outstanding, tags, unsent)

    def _keep(
        self, reason: Reason, plain: list[Frames], outstanding: Confirms | None, tags: list[int], unsent: list[Frames]
    ) -> None:
        """Keep what goes out again, in front of what has been kept before. Does not switch."""
        connection, confirms, before = self._connection, self._confirms, self._kept
        types, make_unsent = connection._queue_types, unsent_reason(reason).make_error
        kept = KeptPublishes(
            connection.frame_max, lambda queue: types.type_of(queue) == STREAM, reason.make_error, make_unsent
        )
        kept.plain.extend(plain)
        if confirms is not None and outstanding is not None:
            if isinstance(outstanding, KeepingConfirms):
                source = outstanding
                source.unsent = tags[0] if tags else source.published + 1
            else:
                source = confirms.new_source()
                hand_over(outstanding, tags, unsent, source)
                confirms.lose(outstanding, reason)
            if source:
                kept.sources.append(source)
        if before is not None:
            kept.plain.extend(before.plain)
            kept.sources.extend(before.sources)
        self._kept = kept if kept else None

    def _drop(self, reason: Reason, unheard: Callable[[], Any] | None = None) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            self._connection._counts.lost_publishes += len(kept.plain)
            for source in kept.sources:
                if self._confirms is not None:
                    self._confirms.lose(source, reason)
        super()._drop(reason, unheard)

    # -- the next socket -----------------------------------------------------------------------

    def _begin_confirms_again(self) -> None:
        """confirm.select is about to be sent: the broker counts from 1, and the program goes on. Does not switch."""
        confirms = self._own_confirms()
        confirms.begin()
        confirms.go_on_from(self._published_before_loss)

    def _hold_publishers(self) -> None:
        """They wait until what was kept has gone out. Does not switch."""
        if self._kept is not None:
            self._set_active(False)

    def _send_kept(self) -> None:
        """The connection is open. Send the first thousand now, the others in turns of the hub. Does not switch."""
        kept = self._kept
        if kept is not None and self._life.state == lifecycle.OPEN:
            in_turns(self._connection._green, self._send_each(kept))

    def _send_each(self, kept: KeptPublishes) -> Iterator[None]:
        """A publish in each step. Ends early where the socket ends again, or the channel."""
        while kept.plain:
            frames = kept.plain[0]
            if self._is_fit(kept, frames) and not self._send_again(kept, Kept(frames, None, None, None)):
                return
            if self._kept is not kept:
                return
            kept.plain.popleft()
            yield
        while kept.sources:
            source = kept.sources[0]
            for tag in list(source.waiting):
                if self._kept is not kept:
                    return
                one = source.get(tag)
                if one is None:
                    continue  # a confirm had come for it, whose steps are being taken
                fit = self._is_fit(kept, one.frames, may_be_sent=tag < source.unsent)
                if fit and not self._send_again(kept, one):
                    return
                source.remove(tag)
                self._move_barriers(source, tag)
                if not fit:
                    self._lose_kept(kept, one, tag < source.unsent)
                yield
            self._move_barriers(source, None)
            kept.sources.popleft()
        if self._kept is kept:
            self._kept = None
            self._set_active(True)

    def _send_again(self, kept: KeptPublishes, one: Kept) -> bool:
        """Returns False if it has not been sent, since the socket has ended."""
        confirms, writer = self._confirms, self._writer
        outstanding, tag = None if confirms is None else confirms.outstanding, 0
        if outstanding is not None:
            outstanding.published = tag = outstanding.published + 1
        writer.send(one.frames)
        if writer.closed or self._kept is not kept:
            return False
        if outstanding is None:
            if confirms is not None and confirms.is_on:
                confirms.before += 1
            return True
        if one.key is None:
            outstanding.enter(tag, one.waiter, one.frames)
        else:
            outstanding.enter_mandatory(tag, one.waiter, *one.key, one.frames)
        if one.observer is not None:
            outstanding.observe(tag, one.observer)
        if isinstance(one.waiter, Receipt):
            one.waiter.delivery_tag = tag
        return True

    def _is_fit(self, kept: KeptPublishes, frames: Frames, may_be_sent: bool = False) -> bool:
        """Whether it can go out again. may_be_sent: the broker may have it already."""
        most = self._connection.frame_max
        if 0 < most < (kept.frame_max or most + 1) and longest_frame(frames) > most:
            return False
        if may_be_sent:
            exchange, routing_key = address(frames)
            # What is in a stream twice stays there twice for all readers.
            if not exchange and kept.is_stream(routing_key):
                return False
        name = REPLY_TO.encode()
        if name not in frames or Decoder().feed(bytes(frames))[0].properties.get('reply_to') != REPLY_TO:
            return True
        # RPCClient has raised Lost. A consumer of the program's own, which has started again, takes the reply.
        topology = self._connection._topology
        consumers = () if topology is None else topology.consumers(self._number)
        return any(one.queue == REPLY_TO and not one.waiting for one in consumers)

    def _lose_kept(self, kept: KeptPublishes, one: Kept, may_be_sent: bool) -> None:
        confirms = self._confirms
        assert confirms is not None  # it has a number
        make_error = kept.make_error if may_be_sent else kept.make_unsent
        confirms.lose_one(Reason(make_error()))
        if one.observer is not None:
            observe({1: one.observer}, 1, make_error())
        if one.waiter is not None:
            one.waiter._lose(make_error)

    def _move_barriers(self, source: KeepingConfirms, tag: int | None) -> None:
        """Who waits for publishes up to this one, waits for it under its new number."""
        outstanding = self._outstanding
        for barrier in source.barriers_up_to(tag):
            if outstanding:
                barrier.tag = outstanding.published
                outstanding._barriers.append(barrier)
            else:
                barrier.waiter.succeed(not barrier.refused)

    # -- what the program calls meanwhile ------------------------------------------------------

    def _wait_until_active(self, deadline: green.Deadline | None) -> None:
        connection = self._connection
        deadline = deadline or green.Deadline(connection.rpc_timeout)
        while self._kept is not None and self._pause is not None:
            if not self._pause.wait(connection._green, deadline.left()) and self._kept is not None:
                text = f'what was published before the loss has not gone out within {in_seconds(deadline.seconds)}'
                raise TimeoutError(text)
        if self._pause is not None:
            super()._wait_until_active(deadline)

    def wait_for_confirms(self, timeout: float | None = None) -> bool:
        if timeout is not None:
            given_timeout('timeout', timeout)
        self._connection._affinity.check()
        confirms = self._confirms
        if confirms is not None and self._life.state == lifecycle.RECOVERING:
            confirms.raise_lost()
        deadline = green.Deadline(self._connection.confirm_timeout if timeout is None else timeout)
        self._check(Confirm.Select)
        if self._kept is not None:
            self._wait_until_active(deadline)
        return super().wait_for_confirms(deadline.left())

    def _not_sent(self, link: Any, *publish: Any) -> int:
        """The socket has failed, and has got nothing of this publish: it goes out on the next one. Switches."""
        link.wait_for_end()
        if self._life.state != lifecycle.RECOVERING and self._connection._link is link:
            return super()._not_sent(link, *publish)  # the connection has ended
        if publish[9] is not None:
            # Of an RPC: what was done right before it was sent is void, and the address of the reply with it.
            error = exceptions.Lost('the connection was lost before this was sent')
            error.sent = False
            raise error
        return self._hand_over(*publish)


class WithMessageIds(RecoveringPublishes):
    """Gives each message an id, by which a consumer recognises one that has gone out twice."""

    def _hand_over(self, body: Any, properties: dict[str, Any], *publish: Any, **named: Any) -> int:
        if properties.get('message_id') is None:
            properties = {**properties, 'message_id': uuid.uuid4().hex}
        return super()._hand_over(body, properties, *publish, **named)
