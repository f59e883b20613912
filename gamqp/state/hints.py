"""What to do about some of the broker's refusals: texts that save a search.

State, no I/O. A hint goes beside the broker's own words, never instead of them.
"""

from __future__ import annotations

from .. import exceptions

__all__ = ('add_hint',)

# reply code, a part of the broker's text in lower case, what to do
HINTS: tuple[tuple[int, str, str], ...] = (
    (
        540,
        'global qos',
        'call basic_qos with a_global=False: quorum queues and streams limit each consumer by itself',
    ),
    (541, 'global_qos', 'call basic_qos with a_global=False: this broker limits each consumer by itself'),
    (
        541,
        'transient_nonexcl_queues',
        'declare the queue durable=True, or exclusive=True: this broker takes no others',
    ),
    (
        406,
        'delivery acknowledgement on channel',
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
