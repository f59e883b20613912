"""What to do about some of the broker's refusals: texts that save a search.

State, no I/O. A hint goes beside the broker's own words, never instead of them.
"""

from __future__ import annotations

from .. import exceptions

__all__ = ('add_hint', 'name_consumer')

LATE = 'delivery acknowledgement on channel'

# reply code, a part of the broker's text in lower case, what to do
HINTS: tuple[tuple[int, str, str], ...] = (
    (
        540,
        'global qos',
        'call basic_qos with a_global=False: quorum queues and streams limit each consumer by itself',
    ),
    (540, 'not supported by stream', 'a stream keeps its messages: ack what you have read, whatever became of it'),
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
    text = (error.reply_text or '').lower()
    for code, part, hint in HINTS:
        if code == error.reply_code and part in text:
            error.hint = hint
            break
    return error


def name_consumer(error: exceptions.AMQPError, oldest: tuple[int, str, float] | None) -> exceptions.AMQPError:
    """The same error, or a ConsumerTimeout that says whose delivery was not settled in time.

    oldest: delivery tag, consumer tag and arrival of the delivery that waits longest.
    """
    text = error.reply_text or ''
    if error.reply_code != exceptions.PreconditionFailed.code or LATE not in text.lower():
        return error
    late = exceptions.ConsumerTimeout(text, error.method_sig)
    late.hint = error.hint
    if oldest is not None:
        late.delivery_tag, late.consumer_tag, _ = oldest
        late.hint = f'delivery {late.delivery_tag} of consumer {late.consumer_tag!r}; {error.hint}'
    return late
