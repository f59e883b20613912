"""Ack, nack and reject on a channel that has outlived a loss: delivery tags go on from one socket to the next.

Layer 4. A channel gets this class with its first loss, so that one that was never lost pays nothing for it. What the
program knows by its tag alone may have been delivered on an earlier socket: the broker has taken that back, and nothing
is sent. Does not belong here: the other half, the tags of what arrives (``Channel._on_content``).
"""

from __future__ import annotations

import functools
from typing import Any

from ..channel.channel import Channel
from ..green.os_threads import get_ident
from ..state import lifecycle
from ..wire import encode_ack, encode_nack, encode_reject
from ..wire.spec import Basic

__all__ = ('SettlesAfterLoss', 'settling_after_loss')


class SettlesAfterLoss(Channel):
    """Mixin of a channel that recovers."""

    _is_open_at_broker: bool  # while it is being restored: channel.open was sent on the present socket

    def basic_ack(self, delivery_tag: int, multiple: bool = False, argsig: object = None) -> None:
        unsettled = self._unacked
        if (
            not multiple
            and type(delivery_tag) is int
            and delivery_tag in unsettled  # so it is of this socket
            and unsettled.late is None
            and get_ident() == self._usable_in
        ):
            # The usual case, without a call that it does not need.
            self._writer.send(encode_ack(self.channel_id, delivery_tag - self._tag_offset, False))
            if unsettled.pop(delivery_tag, None) is not None:
                self._counts.acked += 1
            return
        tag = self._tag_of_this_socket(delivery_tag, multiple)
        if tag:
            self._check(Basic.Ack)
            self._writer.send(encode_ack(self.channel_id, self._on_wire(tag), multiple))
            if multiple:
                self._cover(tag)
            self._counts.acked += self._unacked.settle(tag, multiple)

    def basic_nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        tag = self._tag_of_this_socket(delivery_tag, multiple)
        if tag:
            self._check(Basic.Nack)
            if self._streams is not None:
                self._streams.check_refusing(self._unacked, tag, multiple, Basic.Nack)
            self._writer.send(encode_nack(self.channel_id, self._on_wire(tag), multiple, requeue))
            if multiple:
                self._cover(tag)
            self._counts.rejected += self._unacked.settle(tag, multiple)

    def basic_reject(self, delivery_tag: int, requeue: bool, argsig: object = None) -> None:
        tag = self._tag_of_this_socket(delivery_tag, False)
        if tag:
            self._check(Basic.Reject)
            if self._streams is not None:
                self._streams.check_refusing(self._unacked, tag, False, Basic.Reject)
            self._writer.send(encode_reject(self.channel_id, self._on_wire(tag), requeue))
            self._counts.rejected += self._unacked.settle(tag, False)

    def _tag_of_this_socket(self, tag: Any, multiple: bool) -> Any:
        """The tag to settle, 0 if the broker has taken that delivery back: then nothing is sent."""
        if tag == 0 and multiple:
            return self._unacked.latest()  # all deliveries of this socket; 0 where there are none
        void = self._life.state == lifecycle.RECOVERING and not self._is_open_at_broker
        if not void and not (isinstance(tag, int) and tag <= self._tag_offset):
            return tag
        self._count_stale_settlement()
        return 0

    def _on_wire(self, tag: Any) -> Any:
        """How the broker numbers it; what is no number is refused when it is encoded."""
        return tag - self._tag_offset if isinstance(tag, int) else tag


@functools.cache
def settling_after_loss(kind: Any) -> Any:
    """The class of a channel of *kind* from its first loss on."""
    return kind if issubclass(kind, SettlesAfterLoss) else type(kind.__name__, (SettlesAfterLoss, kind), {})
