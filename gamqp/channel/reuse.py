"""Whether a channel that one user has had can be given to another.

Layer 3, for pools. Does not belong here: what is done with a channel that cannot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..state.expected_replies import Expected
from ..state.waiter_protocols import Waiter
from ..wire.spec import Channel as ChannelSpec
from ..wire.spec import Confirm

if TYPE_CHECKING:
    from .channel import Channel

__all__ = ('ask_for_answers', 'begin_use', 'has_unanswered', 'is_as_new', 'is_confirming', 'was_hindered')


def is_as_new(channel: Channel) -> bool:
    """Whether somebody else can use it as if it were new, but for confirm mode and ``has_unanswered``."""
    return (
        channel.is_open
        and not channel._incarnation
        and not (
            channel._altered
            or channel._consumers
            or channel._unacked
            or channel._event_handler_calls
            or channel._returned
        )
        and channel._prefetch.sent is None
        and channel._streams is None
        and not any((channel._events or {}).values())
        and channel.auto_decode
        and channel.outstanding_limit == channel._connection.outstanding_limit
        and channel._return_taker is None
        and channel._replies.awaits_only(Confirm.SelectOk)
    )


def is_confirming(channel: Channel) -> bool:
    """Whether the broker confirms publishes on it, also if the program does not see that."""
    return channel._confirms is not None and channel._confirms.is_on


def was_hindered(channel: Channel) -> bool:
    """Whether its user could not begin a transaction, because an earlier one had turned confirm mode on."""
    return channel._confirms is not None and channel._confirms.was_in_the_way


def begin_use(channel: Channel, confirm: bool) -> None:
    """Another user has it from now on, who sees nothing of earlier publishes. confirm: with confirm mode on."""
    if channel._confirms is not None:
        channel._confirms.begin_use(confirm)
    channel._published_before = channel._counts.published


def has_unanswered(channel: Channel) -> bool:
    """Whether the broker may still refuse something that was sent in this use, and close the channel over it."""
    return bool(channel._confirms) or _has_unconfirmed(channel)


def _has_unconfirmed(channel: Channel) -> bool:
    """Whether something was sent that the broker answers only if it refuses it."""
    return (
        channel._sent_unanswered
        or channel._unacked.strays
        # Perhaps on another channel: to count each one's would cost every publish something.
        or (channel._outstanding is None and channel._counts.published != channel._published_before)
    )


def ask_for_answers(channel: Channel, waiter: Waiter) -> None:
    """Have ``waiter.succeed`` called when the broker has answered, or ``fail`` when there is no answer to come.

    There must be something unanswered; afterwards there may be again. Does not switch.
    """
    if _has_unconfirmed(channel):
        channel._sent_unanswered = channel._unacked.strays = False
        channel._published_before = channel._counts.published
        # The broker answers in order. This changes nothing: it asks to go on delivering.
        expected = Expected((ChannelSpec.FlowOk,), waiter)
        expected.quiet = True
        channel._ask(ChannelSpec.Flow, (True,), expected)
    elif channel._outstanding is not None:
        channel._outstanding.barrier(waiter, quiet=True)
