"""``check``, what is done on an open connection: a queue, a publish with its confirm, a message, clocks, heartbeats.

Layer 5. All in queues that are exclusive and go with the connection. Does not belong here: opening it.
"""

from __future__ import annotations

import time
from datetime import datetime

from .. import exceptions, green
from ..channel.channel import Channel
from ..connection import Connection
from ..state.connection_settings import Settings
from .check_node import LOOK, PATIENCE, check_node, get_one
from .check_report import Report
from .management import ManagementAPI

__all__ = ('check_heartbeat', 'check_messages')

BODY = b'gamqp check'

# Seconds that two clocks may differ before it is worth a warning: the broker's is told in whole seconds.
SKEW = 5.0


def check_messages(
    connection: Connection, blocked: list[str], queue: str, management: ManagementAPI | None, report: Report
) -> None:
    """Declare, publish, consume. blocked: the reasons that on_blocked was called with. Switches. Raises Stopped."""
    settings = connection._settings
    channel = connection.channel()
    name = _declare(channel, queue, settings, report)
    _publish(channel, name, blocked, settings, report)
    _consume(channel, name, settings, report)
    check_node(connection, name, management, report)
    _clock(connection, name, queue, report)
    channel.queue_delete(name)


def _declare(channel: Channel, queue: str, settings: Settings, report: Report) -> str:
    try:
        name = channel.queue_declare(queue, exclusive=True, auto_delete=False).queue
    except exceptions.AccessRefused as exc:
        advice = (
            _permission(settings, 'configure', queue or 'amq.gen-…') + '; or check --queue NAME, one that it may make'
        )
        raise report.fail('queue', str(exc), advice) from None
    except exceptions.ResourceLocked as exc:
        raise report.fail('queue', str(exc), 'another program has this queue: choose another name') from None
    report.add('queue', 'ok', 'an exclusive queue can be declared')
    return str(name)


def _permission(settings: Settings, kind: str, what: str) -> str:
    shown = settings.virtual_host
    return (
        f"the user may not {kind} {what!r}: rabbitmqctl list_permissions -p '{shown}' shows what it may, "
        f"rabbitmqctl set_permissions -p '{shown}' {settings.userid} CONFIGURE WRITE READ changes that"
    )


def _publish(channel: Channel, name: str, blocked: list[str], settings: Settings, report: Report) -> None:
    try:
        channel.publish(BODY, routing_key=name, mandatory=True).wait(settings.connect_timeout)
    except exceptions.AccessRefused as exc:
        raise report.fail('publish', str(exc), _permission(settings, 'write to', 'amq.default')) from None
    except (TimeoutError, exceptions.Blocked) as exc:
        if not blocked:
            raise report.fail(
                'publish', str(exc), 'the broker is up, but confirms nothing: is it overloaded?'
            ) from None
        found, advice = f'the broker takes no messages: {blocked[-1]}', _alarm_advice(blocked[-1])
        raise report.fail('blocked', found, advice, reason=blocked[-1]) from None
    report.add('publish', 'ok', 'confirmed')
    if blocked:
        report.add('blocked', 'warning', f'for a while it took no messages: {blocked[-1]}', _alarm_advice(blocked[-1]))
    else:
        report.add('blocked', 'ok', 'no: the broker takes messages')


def _alarm_advice(reason: str) -> str:
    if 'disk' in reason:
        return 'free disk space on the broker, or lower disk_free_limit: rabbitmq-diagnostics alarms'
    return (
        'an alarm of the broker: rabbitmq-diagnostics alarms and memory_breakdown tell; consume what is queued, give '
        'it memory, or raise vm_memory_high_watermark. Consumers go on meanwhile'
    )


def _consume(channel: Channel, name: str, settings: Settings, report: Report) -> None:
    try:
        deliveries = channel.consume(name, prefetch=1, timeout=settings.connect_timeout)
        message = next(deliveries)
        message.ack()
        deliveries.close()
    except exceptions.AccessRefused as exc:
        raise report.fail('consume', str(exc), _permission(settings, 'read', name)) from None
    except TimeoutError as exc:
        raise report.fail('consume', str(exc), 'the message was confirmed, and is not delivered') from None
    if message.body != BODY:
        raise report.fail('consume', 'another message arrived than was sent', 'does something rewrite messages?')
    report.add('consume', 'ok', 'the message arrived, and was acked')


def _clock(connection: Connection, name: str, queue: str, report: Report) -> None:
    """The broker's clock is in the header x-death of a message that has expired."""
    arguments = {'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': name}
    told, sent, channel = None, time.time(), connection.channel()
    try:
        own = f'{queue}.clock' if queue else ''
        dying = channel.queue_declare(own, exclusive=True, auto_delete=False, arguments=arguments).queue
        sent = time.time()
        channel.publish(BODY, routing_key=dying, expiration='0').wait(PATIENCE)
        message = get_one(channel, name)
        channel.queue_delete(dying)
        told = message.headers['x-death'][0]['time'] if message is not None else None
        channel.close()
    except (exceptions.AMQPError, TimeoutError, LookupError, TypeError):
        pass  # another broker, or one that lets this user make no such queue
    if not isinstance(told, datetime):
        report.add('clock', 'skipped', 'the broker does not tell the time')
        return
    theirs = told.timestamp()
    # It is told in whole seconds, without the fraction. More than 0: it is behind.
    skew = max(sent - theirs - 1.0, 0.0) if sent >= theirs else sent - theirs
    found = f'the same as here, within a second (broker: {told:%Y-%m-%d %H:%M:%S} UTC)'
    if abs(skew) > SKEW:
        late = f'{abs(skew):.0f} s {"behind" if skew > 0 else "ahead of"} the one here'
        advice = 'set both by NTP: timestamps, tokens and certificates depend on it'
        report.add('clock', 'warning', f"the broker's is {late}", advice, skew=round(-skew, 1))
    else:
        report.add('clock', 'ok', found, skew=round(-skew, 1))


def check_heartbeat(settings: Settings, report: Report) -> None:
    """Wait for a heartbeat of the broker on a connection that asks for one each second. Switches."""
    connection = Connection(**{**settings.arguments(), 'heartbeat': 1})
    try:
        connection.connect()
        before, deadline = connection.stats()['bytes_in'], green.Deadline(4.0)
        while connection.is_open and connection.stats()['bytes_in'] == before:
            left = deadline.left()
            if left is not None and left <= 0:
                advice = 'does a proxy on the way hold bytes back? connections will be taken for dead'
                report.add('heartbeat', 'failed', 'none came within 4 s, one a second was agreed on', advice)
                return
            green.backend().sleep(LOOK)
        report.add('heartbeat', 'ok', 'the broker sends heartbeats as agreed')
    except (exceptions.AMQPError, OSError) as exc:
        report.add('heartbeat', 'failed', f'a second connection failed: {exc}', 'is there a limit of connections?')
    finally:
        connection.close()
