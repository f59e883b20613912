"""Class basic without publish: qos, consume, cancel, get, acks and recover; and class channel's flow.

Layer 5, pure. Does not belong here: what queues do.
"""

from __future__ import annotations

import base64
from struct import Struct
from typing import TYPE_CHECKING, Any

from ...wire import spec
from .consumers import QueueConsumer
from .direct_reply import QUEUE as REPLY_QUEUE
from .direct_reply import ReplyConsumer
from .errors import not_allowed, not_implemented, precondition_failed, text_of
from .exchange_methods import check_exclusive
from .queue import Outcome
from .queue_arguments import type_of
from .queue_methods import find, named

if TYPE_CHECKING:
    from .channel import Delivery, ServerChannel

__all__ = ('ack', 'cancel', 'consume', 'flow', 'get', 'nack', 'qos', 'recover', 'recover_async', 'reject')

_METHOD_FRAME = Struct('>BHIHH')
_TAG = Struct('>QB')
_COUNT = Struct('>IB')


def qos(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """basic.qos: per consumer, for those that come; with global for the whole channel."""
    size, count, for_channel = args
    if size:
        raise not_implemented(f'prefetch_size!=0 ({size})')
    if for_channel:
        channel.global_prefetch = count
    else:
        channel.prefetch = count
        channel.global_prefetch = 0
    channel.reply(spec.Basic.QosOk)
    channel.resume()


def consume(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """basic.consume"""
    _, name, tag, _no_local, no_ack, exclusive, nowait, arguments = args
    if tag in channel.consumers or (channel.reply_consumer is not None and tag and tag == channel.reply_consumer.tag):
        raise not_allowed(f"attempt to reuse consumer tag '{text_of(tag)}'")
    name = named(channel, name)
    if name == REPLY_QUEUE:
        _consume_replies(channel, tag, no_ack, nowait)
        return
    channel.demand('read', 'queue', name)
    queue = find(channel, name)
    check_exclusive(channel, name)
    if channel.global_prefetch and not queue.takes_global_prefetch:
        raise not_implemented(f'{queue.label} does not support global qos')
    priority = arguments.get('x-priority', 0)
    if type(priority) is not int:
        wrong = f'"expected integer, got {type_of(priority)}"'
        raise precondition_failed(f"invalid arg 'x-priority' for {queue.label}: {wrong}")
    queue.check_consumer(exclusive, arguments, no_ack, channel.prefetch)
    tag = tag or _consumer_tag(channel)
    consumer = QueueConsumer(channel, queue, tag, no_ack, exclusive, channel.prefetch, arguments)
    channel.consumers[tag] = consumer
    if not nowait:
        channel.reply(spec.Basic.ConsumeOk, tag)
    queue.add_consumer(consumer)


def _consume_replies(channel: ServerChannel, tag: str | bytes, no_ack: bool, nowait: bool) -> None:
    if not no_ack:
        raise precondition_failed('reply consumer cannot acknowledge')
    if channel.reply_consumer is not None:
        raise precondition_failed('reply consumer already set')
    key = base64.urlsafe_b64encode(channel.server.random_bytes(24)).decode()
    channel.reply_consumer = ReplyConsumer(tag or _consumer_tag(channel), key)
    channel.server.reply_channels[key] = channel
    if not nowait:
        channel.reply(spec.Basic.ConsumeOk, channel.reply_consumer.tag)


def _consumer_tag(channel: ServerChannel) -> str:
    return 'amq.ctag-' + base64.urlsafe_b64encode(channel.server.random_bytes(16)).decode().rstrip('=')


def cancel(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """basic.cancel; a tag that is not known counts as cancelled."""
    tag, nowait = args
    consumer = channel.consumers.pop(tag, None)
    if not nowait:
        channel.reply(spec.Basic.CancelOk, tag)
    if consumer is not None:
        consumer.queue.remove_consumer(consumer)
    elif channel.reply_consumer is not None and channel.reply_consumer.tag == tag:
        channel.server.reply_channels.pop(channel.reply_consumer.key, None)
        channel.reply_consumer = None


def get(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """basic.get"""
    _, name, no_ack = args
    name = named(channel, name)
    channel.demand('read', 'queue', name)
    queue = find(channel, name)
    check_exclusive(channel, name)
    entry = queue.get()
    if entry is None:
        channel.reply(spec.Basic.GetEmpty, '')
        return
    tag = channel.fetched(queue, entry, no_ack)
    if channel.muted:
        return
    message = entry.shown
    channel.session.send(
        b''.join(
            (
                _METHOD_FRAME.pack(1, channel.id, len(message.address) + 17, 60, 71),
                _TAG.pack(tag, entry.redelivered),
                message.address,
                _COUNT.pack(queue.message_count, spec.FRAME_END),
                *message.frames(channel.id, channel.session.frame_max),
            )
        )
    )


def ack(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """basic.ack"""
    _settle(channel, channel.take_unacked(*args), Outcome.ACK)


def nack(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """basic.nack"""
    tag, multiple, requeue = args
    _settle(channel, channel.take_unacked(tag, multiple), Outcome.NACK if requeue else Outcome.DISCARD)


def reject(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """basic.reject"""
    tag, requeue = args
    _settle(channel, channel.take_unacked(tag, False), Outcome.REJECT if requeue else Outcome.REFUSE)


def _settle(channel: ServerChannel, deliveries: list[Delivery], outcome: Outcome) -> None:
    if channel.transaction is not None:
        channel.transaction.outcomes.append((outcome, deliveries))
    else:
        channel.settle(deliveries, outcome)


def recover_async(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """basic.recover-async: everything that is unacked goes back to its queue."""
    if not args[0]:
        raise not_implemented('requeue=false')
    deliveries = list(channel.unacked.values())
    channel.unacked.clear()
    channel.settle(deliveries, Outcome.RETURN)


def recover(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """basic.recover: the answer comes before the messages do."""
    if args[0]:
        channel.reply(spec.Basic.RecoverOk)
    recover_async(channel, args)


def flow(channel: ServerChannel, args: tuple[Any, ...]) -> None:
    """channel.flow of a client: RabbitMQ does not let it stop deliveries."""
    if not args[0]:
        raise not_implemented('active=false')
    channel.reply(spec.Channel.FlowOk, True)
