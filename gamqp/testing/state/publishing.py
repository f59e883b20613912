"""basic.publish: checks, routing, returns and confirms.

Layer 5, pure. What a publish with the same arguments needs is looked up once and kept in a ``Plan``, since tests send
the same arguments again and again. Does not belong here: what queues do with a message.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from ...wire import Content, encode_method
from .direct_reply import PREFIX, find_reply_channel
from .errors import access_refused, not_found, not_implemented, precondition_failed, text_of
from .exchange import Exchange
from .history import KeptMessages
from .message import Facts, StoredMessage, facts_of, returned
from .queue import Queue
from .queue_arguments import type_of

if TYPE_CHECKING:
    from .channel import ServerChannel

__all__ = ('Publish', 'PublishConfirms', 'carry_out', 'publish')

Name = str | bytes
_PLANS = 1000  # kept for a connection


class Plan:
    """What all publishes with the same arguments share.

    generation: the sum of those that it depends on. kept: where the history keeps them. queues: where they go;
    None: it depends on the message.
    """

    __slots__ = ('address', 'exchange', 'generation', 'kept', 'mandatory', 'queues', 'routing_key')

    def __init__(
        self,
        exchange: Exchange,
        routing_key: Name,
        address: bytes,
        mandatory: bool,
        generation: int,
        kept: KeptMessages,
    ) -> None:
        self.exchange = exchange
        self.kept = kept
        self.routing_key = routing_key
        self.address = address
        self.mandatory = mandatory
        self.generation = generation
        self.queues: list[Queue] | None = None


class Publish:
    """One message on its way: what a transaction keeps until its commit."""

    __slots__ = ('mandatory', 'message', 'queues')

    def __init__(self, message: StoredMessage, queues: list[Queue], mandatory: bool) -> None:
        self.message = message
        self.queues = queues
        self.mandatory = mandatory


class PublishConfirms:
    """The confirms of one channel that are not sent yet: those of one turn go out together."""

    def __init__(self) -> None:
        #: The number of the last publish.
        self.published = 0
        #: The lowest number that is never confirmed, because a test has dropped its confirm.
        self._withheld: int | None = None
        self._acks: list[int] = []
        self._nacks: list[int] = []

    def add(self, number: int, accepted: bool) -> None:
        """A publish is decided."""
        (self._acks if accepted else self._nacks).append(number)

    def withhold(self, number: int) -> None:
        """A publish is not to be confirmed, by no confirm of a later one either."""
        if self._withheld is None:
            self._withheld = number

    def take_frames(self, channel_id: int) -> bytes:
        """The frames of basic.ack and basic.nack for what was decided; multiple where several are covered by one."""
        acks, nacks = self._acks, self._nacks
        self._acks, self._nacks = [], []
        return self._covering(channel_id, 80, acks, nacks) + self._covering(channel_id, 120, nacks, acks)

    def _covering(self, channel_id: int, method_id: int, numbers: list[int], others: list[int]) -> bytes:
        """The frames that name *numbers*, in rising order. A multiple one must not cover any of the *others*."""
        if not numbers:
            return b''
        bounds = [one for one in (others[0] if others else None, self._withheld) if one is not None]
        at = bisect_left(numbers, min(bounds)) if bounds else len(numbers)
        parts = []
        if at:
            # RabbitMQ sets the bit in an ack that covers one alone only if it is not the only one; in a nack always.
            parts.append((numbers[at - 1], len(numbers) > 1 or method_id == 120))
        parts += [(number, False) for number in numbers[at:]]
        rest = (True,) if method_id == 120 else ()  # nack has one bit more, requeue, which means nothing here
        return b''.join(encode_method(channel_id, (60, method_id), (*part, *rest)) for part in parts)


def publish(channel: ServerChannel, content: Content) -> None:
    """Handle basic.publish. Raises a Refusal."""
    server = channel.server
    plan = channel.session.plans.get(content._method_payload)
    if plan is None or plan.generation != channel.vhost.generation + server.users.generation:
        plan = _make_plan(channel, content)
    body: bytes = content.body  # type: ignore[assignment] # not decoded unless asked to be
    if len(body) > server.max_message_size:
        raise precondition_failed(
            f'message size {len(body)} is larger than configured max size {server.max_message_size}'
        )
    header = content._header_payload
    facts = facts_of(header)
    message = StoredMessage(plan.exchange.name, plan.routing_key, plan.address, header, body, facts)
    queues = plan.queues
    if facts.checked:
        message = _checked(channel, message, facts, plan.exchange)
        queues = None if facts.carbon_copies else queues
    if queues is None:
        queues = channel.vhost.route(plan.exchange, message)
    server.history.record(plan.kept, message)
    if channel.transaction is not None:
        channel.transaction.publishes.append(Publish(message, queues, plan.mandatory))
        return
    confirms = channel.confirms
    if confirms is None:
        _spread(channel, message, queues, plan.mandatory)
        return
    confirms.published = number = confirms.published + 1
    accepted = _spread(channel, message, queues, plan.mandatory)
    if channel.muted:
        confirms.withhold(number)
    else:
        confirms.add(number, accepted)
        channel.session.confirming.add(channel)  # they go out at the end of this turn


def carry_out(channel: ServerChannel, one: Publish) -> bool:
    """A publish of a transaction, at its commit. False if a queue refuses it, or was deleted since."""
    alive = not any(queue.deleted for queue in one.queues)
    return _spread(channel, one.message, one.queues, one.mandatory) and alive


def _spread(channel: ServerChannel, message: StoredMessage, queues: list[Queue], mandatory: bool) -> bool:
    faults = channel.server.faults
    if faults.armed and faults.nacks_this():
        return False
    accepted = True
    for queue in queues:
        if not queue.deleted and not queue.publish(message):
            accepted = False
    if not queues and not _reply_directly(channel, message) and mandatory:
        channel.session.send(returned(message, channel.id, 312, 'NO_ROUTE', channel.session.frame_max))
    return accepted


def _make_plan(channel: ServerChannel, content: Content) -> Plan:
    info = content.delivery_info
    name, key = info['exchange'], info['routing_key']
    if info['immediate']:
        raise not_implemented('immediate=true')
    host, users = channel.vhost, channel.server.users
    channel.demand('write', 'exchange', name)
    exchange = host.exchanges.get(name)
    if exchange is None:
        raise not_found(f"no exchange '{text_of(name)}' in vhost '{host.name}'")
    if exchange.internal:
        raise access_refused(f'cannot publish to internal {exchange.label}')
    channel.demand_topic('write', exchange, key)
    payload = content._method_payload
    assert payload is not None
    # Both only ever grow, so the sum is the same only while both are.
    generation = host.generation + users.generation
    kept = channel.server.history.of(host.name, exchange.name)
    plan = Plan(exchange, key, payload[6:-1], info['mandatory'], generation, kept)
    plan.queues = host.route_by_key(exchange, StoredMessage(name, key, plan.address, b'', b'', facts_of(b'\0\0')))
    plans = channel.session.plans
    if len(plans) >= _PLANS:
        plans.clear()
    plans[payload] = plan
    return plan


def _checked(channel: ServerChannel, message: StoredMessage, facts: Facts, exchange: Exchange) -> StoredMessage:
    """What only few messages need: the user id, the address of direct replies, CC and BCC."""
    user = channel.session.user
    if facts.user_id is not None and facts.user_id != user.name and 'impersonator' not in user.tags:
        raise precondition_failed(
            f"user_id property set to '{text_of(facts.user_id)}' but authenticated user was '{user.name}'"
        )
    if facts.reply_to_self:
        if channel.reply_consumer is None:
            raise precondition_failed('fast reply consumer does not exist')
        message = message.changed({**message.properties, 'reply_to': PREFIX + channel.reply_consumer.key})
    if facts.odd_expiration and channel.server.version.message_containers:
        message = message.changed({**message.properties, 'expiration': str(facts.ttl)})
    if facts.carbon_copies:
        message = _with_copies(message)
        for key in message.routing_keys if channel.server.version.permits_copies else ():
            channel.demand_topic('write', exchange, key)
    return message


def _with_copies(message: StoredMessage) -> StoredMessage:
    """The message with the routing keys of its headers CC and BCC; BCC is not passed on."""
    keys: list[Name] = [message.routing_key]
    for name in ('CC', 'BCC'):
        copies = message.headers.get(name)
        if copies is None:
            continue
        if not isinstance(copies, list):
            raise precondition_failed(f'invalid message: {{unacceptable_type_in_header,"{name}",{type_of(copies)}}}')
        keys += [copy for copy in copies if isinstance(copy, (str, bytes))]
    if 'BCC' in message.headers:
        headers = {name: value for name, value in message.headers.items() if name != 'BCC'}
        message = message.changed({**message.properties, 'application_headers': headers})
    message.routing_keys = tuple(keys)
    return message


def _reply_directly(channel: ServerChannel, message: StoredMessage) -> bool:
    """Deliver a direct reply; False if the message is none, or nobody waits for it."""
    key = message.routing_key
    if message.exchange != '' or not isinstance(key, str) or not key.startswith(PREFIX):
        return False
    target = find_reply_channel(channel.server, key)
    if target is None or target.reply_consumer is None:
        return False
    target.deliver_reply(message)
    return True
