"""AMQP 0-9-1 with RabbitMQ's extensions, as data: one table of methods and some constants.

Layer 0. Everything that differs from method to method is in a row of this table. The namespaces (``Basic.Ack``) are
made of the same rows, so they cannot disagree with it. So are the names of methods in error
texts, ``exceptions.METHOD_NAME_MAP``. Does not belong here: behaviour.
Not compiled: nothing here runs per message.

Letters of argument types: o octet, B short, l long, L longlong, s shortstr, S longstr, b bit,
F table, T timestamp. Neighbouring bits share octets, lowest bit first.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

from .. import exceptions

__all__ = (
    'FRAME_BODY',
    'FRAME_END',
    'FRAME_HEADER',
    'FRAME_HEARTBEAT',
    'FRAME_METHOD',
    'FRAME_MIN_SIZE',
    'FRAME_OVERHEAD',
    'METHODS',
    'PROPERTIES',
    'PROPERTY_NAMES',
    'REPLY_CODES',
    'Access',
    'Basic',
    'Channel',
    'Confirm',
    'Connection',
    'Exchange',
    'Method',
    'Queue',
    'Sig',
    'Tx',
)

Sig = tuple[int, int]


class Method(NamedTuple):
    """One row: a method, what it carries and what answers it."""

    sig: Sig
    #: Class and method with the protocol's own hyphens, e.g. ``basic.get-ok``.
    name: str
    #: (name, type letter) of each argument, in the order of the wire.
    args: tuple[tuple[str, str], ...]
    #: Methods that answer this one; empty when it is asynchronous.
    replies: tuple[Sig, ...]
    #: Whether a content header and body follow.
    content: bool


FRAME_METHOD = 1
FRAME_HEADER = 2
FRAME_BODY = 3
FRAME_HEARTBEAT = 8
FRAME_END = 0xCE
#: What every peer must accept before anything is negotiated.
FRAME_MIN_SIZE = 4096
#: Type, channel and size before the payload, the end octet behind it; ``frame_max`` counts them.
FRAME_OVERHEAD = 8

REPLY_CODES: dict[str, int] = {
    'reply-success': 200,
    'content-too-large': 311,
    'no-route': 312,
    'no-consumers': 313,
    'connection-forced': 320,
    'invalid-path': 402,
    'access-refused': 403,
    'not-found': 404,
    'resource-locked': 405,
    'precondition-failed': 406,
    'frame-error': 501,
    'syntax-error': 502,
    'command-invalid': 503,
    'channel-error': 504,
    'unexpected-frame': 505,
    'resource-error': 506,
    'not-allowed': 530,
    'not-implemented': 540,
    'internal-error': 541,
}

#: Properties of class basic in the order of their flags, under py-amqp's names. The protocol
#: says 'headers' for what py-amqp calls 'application_headers'.
PROPERTIES: tuple[tuple[str, str], ...] = (
    ('content_type', 's'),
    ('content_encoding', 's'),
    ('application_headers', 'F'),
    ('delivery_mode', 'o'),
    ('priority', 'o'),
    ('correlation_id', 's'),
    ('reply_to', 's'),
    ('expiration', 's'),
    ('message_id', 's'),
    ('timestamp', 'T'),
    ('type', 's'),
    ('user_id', 's'),
    ('app_id', 's'),
    ('cluster_id', 's'),
)
PROPERTY_NAMES = frozenset(name for name, _ in PROPERTIES)

# class name -> (class id, rows of (method id, name, arguments, replies)).
_Rows = tuple[tuple[int, str, str, str], ...]
_CLASSES: dict[str, tuple[int, _Rows]] = {
    'connection': (
        10,
        (
            (10, 'start', 'version_major:o version_minor:o server_properties:F mechanisms:S locales:S', 'start-ok'),
            (11, 'start-ok', 'client_properties:F mechanism:s response:S locale:s', ''),
            (20, 'secure', 'challenge:S', 'secure-ok'),
            (21, 'secure-ok', 'response:S', ''),
            (30, 'tune', 'channel_max:B frame_max:l heartbeat:B', 'tune-ok'),
            (31, 'tune-ok', 'channel_max:B frame_max:l heartbeat:B', ''),
            (40, 'open', 'virtual_host:s capabilities:s insist:b', 'open-ok'),
            (41, 'open-ok', 'known_hosts:s', ''),
            (50, 'close', 'reply_code:B reply_text:s class_id:B method_id:B', 'close-ok'),
            (51, 'close-ok', '', ''),
            (60, 'blocked', 'reason:s', ''),
            (61, 'unblocked', '', ''),
            (70, 'update-secret', 'new_secret:S reason:s', 'update-secret-ok'),
            (71, 'update-secret-ok', '', ''),
        ),
    ),
    'channel': (
        20,
        (
            (10, 'open', 'out_of_band:s', 'open-ok'),
            (11, 'open-ok', 'channel_id:S', ''),
            (20, 'flow', 'active:b', 'flow-ok'),
            (21, 'flow-ok', 'active:b', ''),
            (40, 'close', 'reply_code:B reply_text:s class_id:B method_id:B', 'close-ok'),
            (41, 'close-ok', '', ''),
        ),
    ),
    'access': (
        30,
        (
            (10, 'request', 'realm:s exclusive:b passive:b active:b write:b read:b', 'request-ok'),
            (11, 'request-ok', 'ticket:B', ''),
        ),
    ),
    'exchange': (
        40,
        (
            (
                10,
                'declare',
                'ticket:B exchange:s type:s passive:b durable:b auto_delete:b internal:b nowait:b arguments:F',
                'declare-ok',
            ),
            (11, 'declare-ok', '', ''),
            (20, 'delete', 'ticket:B exchange:s if_unused:b nowait:b', 'delete-ok'),
            (21, 'delete-ok', '', ''),
            (30, 'bind', 'ticket:B destination:s source:s routing_key:s nowait:b arguments:F', 'bind-ok'),
            (31, 'bind-ok', '', ''),
            (40, 'unbind', 'ticket:B destination:s source:s routing_key:s nowait:b arguments:F', 'unbind-ok'),
            (51, 'unbind-ok', '', ''),  # 51, not 41: a slip in RabbitMQ's extension that became the protocol
        ),
    ),
    'queue': (
        50,
        (
            (
                10,
                'declare',
                'ticket:B queue:s passive:b durable:b exclusive:b auto_delete:b nowait:b arguments:F',
                'declare-ok',
            ),
            (11, 'declare-ok', 'queue:s message_count:l consumer_count:l', ''),
            (20, 'bind', 'ticket:B queue:s exchange:s routing_key:s nowait:b arguments:F', 'bind-ok'),
            (21, 'bind-ok', '', ''),
            (30, 'purge', 'ticket:B queue:s nowait:b', 'purge-ok'),
            (31, 'purge-ok', 'message_count:l', ''),
            (40, 'delete', 'ticket:B queue:s if_unused:b if_empty:b nowait:b', 'delete-ok'),
            (41, 'delete-ok', 'message_count:l', ''),
            (50, 'unbind', 'ticket:B queue:s exchange:s routing_key:s arguments:F', 'unbind-ok'),
            (51, 'unbind-ok', '', ''),
        ),
    ),
    'basic': (
        60,
        (
            (10, 'qos', 'prefetch_size:l prefetch_count:B global:b', 'qos-ok'),
            (11, 'qos-ok', '', ''),
            (
                20,
                'consume',
                'ticket:B queue:s consumer_tag:s no_local:b no_ack:b exclusive:b nowait:b arguments:F',
                'consume-ok',
            ),
            (21, 'consume-ok', 'consumer_tag:s', ''),
            (30, 'cancel', 'consumer_tag:s nowait:b', 'cancel-ok'),
            (31, 'cancel-ok', 'consumer_tag:s', ''),
            (40, 'publish', 'ticket:B exchange:s routing_key:s mandatory:b immediate:b', ''),
            (50, 'return', 'reply_code:B reply_text:s exchange:s routing_key:s', ''),
            (60, 'deliver', 'consumer_tag:s delivery_tag:L redelivered:b exchange:s routing_key:s', ''),
            (70, 'get', 'ticket:B queue:s no_ack:b', 'get-ok get-empty'),
            (71, 'get-ok', 'delivery_tag:L redelivered:b exchange:s routing_key:s message_count:l', ''),
            (72, 'get-empty', 'cluster_id:s', ''),
            (80, 'ack', 'delivery_tag:L multiple:b', ''),
            (90, 'reject', 'delivery_tag:L requeue:b', ''),
            (100, 'recover-async', 'requeue:b', ''),
            (110, 'recover', 'requeue:b', 'recover-ok'),
            (111, 'recover-ok', '', ''),
            (120, 'nack', 'delivery_tag:L multiple:b requeue:b', ''),
        ),
    ),
    'confirm': (85, ((10, 'select', 'nowait:b', 'select-ok'), (11, 'select-ok', '', ''))),
    'tx': (
        90,
        (
            (10, 'select', '', 'select-ok'),
            (11, 'select-ok', '', ''),
            (20, 'commit', '', 'commit-ok'),
            (21, 'commit-ok', '', ''),
            (30, 'rollback', '', 'rollback-ok'),
            (31, 'rollback-ok', '', ''),
        ),
    ),
}
_WITH_CONTENT = frozenset({'basic.publish', 'basic.return', 'basic.deliver', 'basic.get-ok'})


def _methods() -> dict[Sig, Method]:
    """The rows above as Method objects, by sig."""
    table: dict[Sig, Method] = {}
    for class_name, (class_id, rows) in _CLASSES.items():
        ids = {name: method_id for method_id, name, _, _ in rows}
        for method_id, name, arguments, replies in rows:
            sig = (class_id, method_id)
            pairs = (argument.split(':') for argument in arguments.split())
            table[sig] = Method(
                sig,
                f'{class_name}.{name}',
                tuple((argument, letter) for argument, letter in pairs),
                tuple((class_id, ids[reply]) for reply in replies.split()),
                f'{class_name}.{name}' in _WITH_CONTENT,
            )
    return table


METHODS: dict[Sig, Method] = _methods()


def _namespace(class_name: str) -> SimpleNamespace:
    """py-amqp's way to name methods: ``Basic.GetOk`` is the sig, ``Basic.CLASS_ID`` the class."""
    space = SimpleNamespace(CLASS_ID=_CLASSES[class_name][0])
    for method in METHODS.values():
        if method.sig[0] == space.CLASS_ID:
            words = method.name.partition('.')[2].split('-')
            setattr(space, ''.join(word.capitalize() for word in words), method.sig)
    return space


Connection = _namespace('connection')
Channel = _namespace('channel')
Access = _namespace('access')
Exchange = _namespace('exchange')
Queue = _namespace('queue')
Basic = _namespace('basic')
Confirm = _namespace('confirm')
Tx = _namespace('tx')


def _name_in_errors(method: Method) -> str:
    """py-amqp's spelling: ``Basic.get_ok`` for basic.get-ok."""
    class_name, _, name = method.name.partition('.')
    return f'{class_name.capitalize()}.{name.replace("-", "_")}'


exceptions.METHOD_NAME_MAP.update({sig: _name_in_errors(method) for sig, method in METHODS.items()})
