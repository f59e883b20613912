"""``check``, the step that tells which node of a cluster this is.

Layer 5. AMQP has no name of a node. The address of a direct reply has a number that stands for it, and a name that is
guessed, or that the management API tells, is known to be right by it. Does not belong here: names (``node_names``).
"""

from __future__ import annotations

import base64
import platform
import re

from .. import exceptions, green
from ..basic_message import Message
from ..channel.channel import Channel
from ..connection import Connection
from ..state.host_and_port import to_host_port
from .check_report import Report
from .exit_codes import CommandFailed
from .management import ManagementAPI
from .node_names import guesses, named

__all__ = ('LOOK', 'PATIENCE', 'check_node', 'get_one', 'node_of')

BODY = b'gamqp check'
REPLY_TO = 'amq.rabbitmq.reply-to'

# Seconds that each of the steps may take that are of use, but not needed.
PATIENCE = 5.0
# Seconds between two looks at something that the broker may do a little later.
LOOK = 0.02


def check_node(connection: Connection, queue: str, management: ManagementAPI | None, report: Report) -> None:
    """Report the node. queue: one that may be used, and is empty. Switches."""
    number = _number(connection, queue)
    cluster = str(connection.server_properties.get('cluster_name') or '')
    names = guesses(cluster, [to_host_port(connection._settings.host, 0)[0], platform.node()])
    told: list[str] = []
    if management is not None:
        try:
            told = management.node_names()
            names = told or names
        except CommandFailed as exc:
            report.add('node', 'warning', str(exc), 'is the management plugin on, and is this its port?', node=number)
            return
    name = named(number, names) or (told[0] if len(told) == 1 else '')
    if name:
        found = f'{name}{f", one of {len(told)}" if len(told) > 1 else ""}'
        report.add('node', 'ok', found, node=number, name=name, nodes=told or [name])
    elif told:
        report.add('node', 'ok', f'one of {", ".join(told)}', node=number, nodes=told)
    elif number:
        advice = 'its name is not in AMQP: --management URL tells it'
        report.add('node', 'ok', f'number {number}: the same for each connection to this node', advice, node=number)
    else:
        report.add('node', 'skipped', 'the broker does not tell which of its nodes this is')


def _number(connection: Connection, queue: str) -> str:
    """What stands for the node, '' where that cannot be found out."""
    number, channel = '', connection.channel()
    try:
        replies = channel.consume(REPLY_TO, no_ack=True)
        channel.publish(BODY, routing_key=queue, reply_to=REPLY_TO).wait(PATIENCE)
        message = get_one(channel, queue)
        number = node_of(str(message.properties.get('reply_to', ''))) if message is not None else ''
        replies.close()
        channel.close()
    except (exceptions.AMQPError, TimeoutError):
        pass  # a broker without direct replies
    return number


def get_one(channel: Channel, queue: str) -> Message | None:
    """A message that must come soon; None where it does not. Switches."""
    deadline = green.Deadline(PATIENCE)
    while (message := channel.basic_get(queue, no_ack=True)) is None:
        left = deadline.left()
        if left is not None and left <= 0:
            return None
        green.backend().sleep(LOOK)
    return message


def node_of(reply_to: str) -> str:
    """What tells the nodes of a cluster apart, by the address of a direct reply; '' where it is not in there."""
    encoded = reply_to.removeprefix(f'{REPLY_TO}.').partition('.')[0]
    try:
        match = re.search(rb'reply@(\d+)', base64.b64decode(encoded + '=='))
    except ValueError:
        return ''
    return match[1].decode() if match else ''
