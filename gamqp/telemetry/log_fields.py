"""The fields of log records that say whom a record is about, for loggers that write JSON.

Layer 3. The same is said in the text of each record. Does not belong here: texts.
"""

from __future__ import annotations

from typing import Any

from .stats import name_of

__all__ = ('log_fields',)


def log_fields(connection: Any, consumer: Any = None, message: Any = None) -> dict[str, Any]:
    """The *extra* of a log record: the connection's name, the consumer's tag and queue, the message's delivery tag.

    consumer: a ConsumerRecord, or None. Does not switch.
    """
    fields: dict[str, Any] = {'amqp_connection': name_of(connection)}
    if consumer is not None:
        fields['amqp_consumer'], fields['amqp_queue'] = consumer.tag, consumer.queue
    if message is not None:
        fields['amqp_delivery_tag'] = message.delivery_tag
    return fields
