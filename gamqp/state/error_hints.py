"""Hints for errors: what a program can do about some of the broker's refusals.

State, no I/O. A hint stands behind the broker's own words, never in their place. Does not belong here: logging.
"""

from __future__ import annotations

from .. import exceptions
from ..wire.spec import Basic

__all__ = ('add_hint', 'at_login', 'cancelled', 'idle', 'name_consumer')

# Seconds of silence after which a closed connection counts as one that was idle.
IDLE = 5.0

# Words of RabbitMQ when it closes a channel whose delivery was not settled in time (consumer_timeout). It does not say
# which delivery that was.
LATE = 'delivery acknowledgement on channel'

# reply code, a part of the broker's text in lower case, what to do
# The first row that matches counts, so special texts stand before general ones. RabbitMQ ends the connection with 540
# and 541, and only the channel with 406.
HINTS: tuple[tuple[int, str, str], ...] = (
    (
        540,
        'global qos',
        'call basic_qos with a_global=False: quorum queues and streams limit each consumer by itself',
    ),
    (540, 'basic.get not supported by stream', 'a stream has consumers only: consume, subscribe or basic_consume'),
    (540, 'queue.purge not supported by stream', 'a stream drops messages by its retention limits only'),
    (540, 'automatic acknowledgement not supported', 'a stream is read with acks: leave no_ack off'),
    # Of nack, reject and recover, before RabbitMQ 3.13.
    (540, 'not supported by stream', 'a stream keeps its messages: ack what you have read, whatever became of it'),
    (540, 'if-unused flag', 'a quorum queue is deleted without if_unused and if_empty only'),
    (540, 'if-empty flag', 'a quorum queue is deleted without if_unused and if_empty only'),
    (406, "invalid property 'auto-delete'", 'a quorum queue or stream is declared with auto_delete=False'),
    (406, "invalid property 'non-durable'", 'a quorum queue or stream is declared with durable=True'),
    (406, "invalid property 'exclusive-owner'", 'a quorum queue or stream is declared with exclusive=False'),
    (
        406,
        'consumer prefetch count is not set',
        'a stream is read with a prefetch: call basic_qos(0, 100, False) before',
    ),
    # 541 with the name of a deprecated feature: the broker is configured, or new enough, not to permit it.
    (541, 'global_qos', 'call basic_qos with a_global=False: this broker limits each consumer by itself'),
    (
        541,
        'transient_nonexcl_queues',
        'declare the queue durable=True, or exclusive=True: this broker takes no others',
    ),
    (
        406,
        LATE,
        'a delivery was not settled within consumer_timeout: ack sooner, lower the prefetch, or raise the limit',
    ),
    (
        406,
        'unknown delivery tag',
        'settled twice, on another channel than it came by, or although its consumer has no_ack',
    ),
)


def add_hint(error: exceptions.AMQPError) -> exceptions.AMQPError:
    """The same error, with a ``hint`` where there is one for its code and text."""
    # Searched from the top for each error. Errors are rare, and there are few rows.
    text = (error.reply_text or '').lower()
    for code, part, hint in HINTS:
        if code == error.reply_code and part in text:
            error.hint = hint
            break
    return error


def at_login(error: exceptions.AMQPError, host: str, user: str | None, virtual_host: str) -> exceptions.AMQPError:
    """The same error of an opening connection, with a ``hint``. user: by password, None for another way to log in."""
    # During the handshake 403 means that the login was refused.
    if error.reply_code == exceptions.AccessRefused.code and user is not None:
        error.hint = f'user {user!r} at {host}: wrong password, or no such user'
        # RabbitMQ's setting loopback_users has guest in it by default. Its answer is the same as to a wrong password.
        if user == 'guest':
            error.hint += '; RabbitMQ lets guest in from its own machine (localhost) only'
    elif error.reply_code == exceptions.NotAllowed.code and not virtual_host and 'not found' in str(error.reply_text):
        # 530 is also the answer to a user without access to the virtual host, so the text was looked at.
        error.hint = (
            "the virtual host is '', which is what a '/' at the end of a URL means; "
            "for the usual one leave the '/' off, or write %2F behind it"
        )
    return error


def idle(heard: float, sent: float, interval: float) -> str | None:
    """A hint for a connection that the peer has closed without an AMQP close, if it was idle before; else None.

    heard, sent: seconds since the last byte came and went. interval: seconds between heartbeats, 0 for none.
    """
    # After a shorter silence another cause is more likely than a limit for idle connections.
    if heard < IDLE:
        return None
    beats = f'heartbeats were every {interval:g} s' if interval else 'heartbeats were off'
    return (
        f'the last byte from the broker came {heard:.0f} s before, our last one went {sent:.0f} s before; {beats}: '
        'if a balancer or firewall closes idle connections, set heartbeat to less than its limit'
    )


def name_consumer(error: exceptions.AMQPError, oldest: tuple[int, str, float] | None) -> exceptions.AMQPError:
    """The same error, or a ConsumerTimeout that says whose delivery was not settled in time.

    oldest: delivery tag, consumer tag and arrival of the delivery that waits longest.
    """
    # 406 has many causes, and only the text distinguishes a late ack from the others.
    text = error.reply_text or ''
    if error.reply_code != exceptions.PreconditionFailed.code or LATE not in text.lower():
        return error
    late = exceptions.ConsumerTimeout(text, error.method_sig)
    # The caller has called add_hint() first, which has a row for this text.
    late.hint = error.hint
    if oldest is not None:
        late.delivery_tag, late.consumer_tag, _ = oldest
        late.hint = f'delivery {late.delivery_tag} of consumer {late.consumer_tag!r}; {error.hint}'
    return late


def cancelled(
    tag: str, queue: str, version: tuple[int, ...], oldest: tuple[int, str, float] | None, now: float
) -> exceptions.ConsumerCancelled:
    """The error for a consumer that the broker has cancelled, with a hint why: the broker gives no reason.

    version: of RabbitMQ, () for another broker. oldest: delivery tag, consumer tag and arrival of the delivery of its
    channel that waits longest.
    """
    error = exceptions.ConsumerCancelled(tag, Basic.Cancel)
    error.consumer_tag, error.queue = tag, queue
    why = f'consumer of queue {queue!r}: the queue was deleted, or the node that has it went down'
    # From 4.3 on a quorum queue cancels the consumer of a late delivery, where older brokers close the channel. If the
    # oldest delivery is of another consumer, nothing suggests that this one was late.
    if version >= (4, 3) and oldest is not None and oldest[1] == tag:
        why += (
            f', or a quorum queue waited too long (consumer_timeout) for an ack: delivery {oldest[0]} '
            f'has been unsettled for {now - oldest[2]:.0f} s'
        )
    error.hint = why
    return error
