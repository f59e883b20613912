"""What a test can have the broker do: faults, and the deeds of an administrator.

Layer 5. Each order takes effect before the call returns, except that bytes to clients are sent by the broker's thread.
Does not belong here: what is seen of the broker.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..wire import encode_method, spec
from .io.io_thread import IOThread
from .state.errors import Refusal
from .state.exchange import Exchange
from .state.faults import Order
from .state.message import made_locally
from .state.policies import Policy
from .state.server import Server
from .state.session import Session
from .state.users import Permissions, TopicPermissions
from .state.virtual_host import VirtualHost
from .view import ConnectionView, ConsumerView

__all__ = ('Orders',)

Name = str | bytes


class Orders:
    """Mixin without state of its own: the orders to a broker, or to a cluster."""

    _io: IOThread
    _server: Server

    # Faults of methods.

    def refuse(
        self, method: str, code: int, text: str = 'refused by the test', times: int | None = 1, **where: Any
    ) -> None:
        """Answer the next *times* calls of *method*, such as 'queue.declare', with this error.

        code: closes the channel if it is 311, 312, 313, 403, 404, 405 or 406, else the connection. text: what follows
        the name of the code in the reply text. times: None: all calls, until ``clear_faults``. where: only calls whose
        arguments have these values, such as ``queue='orders'``. Raises ValueError for a method or an argument that is
        not known. Of several orders for one method the oldest comes first.
        """
        self._order(method, Order(times, where, refusal=Refusal(code, text)))

    def delay(self, method: str, seconds: float, times: int | None = 1, **where: Any) -> None:
        """Handle the next *times* calls of *method* so many real seconds later; its channel waits meanwhile."""
        self._order(method, Order(times, where, seconds=seconds))

    def drop_reply(self, method: str, times: int | None = 1, **where: Any) -> None:
        """Carry out the next *times* calls of *method* without a reply; of 'basic.publish', without a confirm."""
        self._order(method, Order(times, where, muted=True))

    def cut_at(
        self, method: str, handled: bool = False, times: int | None = 1, reset: bool = False, **where: Any
    ) -> None:
        """Cut the connection when the next call of *method* arrives.

        handled: after the method was carried out; the client does not see its answer. reset: with a TCP reset.
        """
        self._order(method, Order(times, where, muted=handled, cut=True, reset=reset))

    def _order(self, method: str, order: Order) -> None:
        with self._io.lock:
            self._server.faults.add(method, order)

    def hold_confirms(self) -> None:
        """Send no confirms until ``release_confirms``; what is published is taken all the same."""
        with self._io.lock:
            self._server.holds_confirms = True

    def release_confirms(self) -> None:
        """Send the confirms that were held back, and hold no more."""
        with self._io.lock:
            self._server.holds_confirms = False
            for session in self._server.sessions:
                session.flush_confirms()
        self._io.wake()

    def nack_next(self, count: int = 1) -> None:
        """Take none of the next *count* messages: basic.nack where confirms are on, nothing elsewhere."""
        with self._io.lock:
            self._server.faults.nack_next(count)

    def clear_faults(self) -> None:
        """Forget the orders that were not carried out yet; let stalled and blocked connections, and confirms, go on."""
        with self._io.lock:
            self._server.faults.clear()
        self.resume()
        self.unblock()
        self.release_confirms()

    # Faults of connections.

    def block(self, reason: str = 'low on memory') -> None:
        """Raise an alarm: a connection that publishes gets connection.blocked, and is not read until ``unblock``.

        As from RabbitMQ, a connection that does not publish hears nothing.
        """
        with self._io.lock:
            self._server.block(reason)

    def unblock(self) -> None:
        """End the alarm."""
        with self._io.lock:
            self._server.unblock()
            self._server.run_later()
            self._touch_all()
        self._io.wake()

    def cut(self, connection: ConnectionView | None = None, after: int = 0, reset: bool = False) -> None:
        """Close the socket without a word: of one connection, or of all that there are.

        after: only when so many more bytes were sent to the client. reset: with a TCP reset.
        """
        if after < 0:
            raise ValueError(f'after: a number of bytes from 0 on is expected, not {after!r}')
        with self._io.lock:
            for session in self._sessions(connection):
                session.reset = reset
                if after:
                    session.cut_after = after
                else:
                    session.end_at_once(reset)
        self._io.wake()

    def stall(self, connection: ConnectionView | None = None) -> None:
        """Read nothing and send nothing any more, heartbeats included: of one connection, or of all that there are."""
        with self._io.lock:
            for session in self._sessions(connection):
                session.stalled = True
            self._touch_all()
        self._io.wake()

    def resume(self, connection: ConnectionView | None = None) -> None:
        """End ``stall``."""
        with self._io.lock:
            for session in self._sessions(connection):
                session.stalled = False
            self._touch_all()
        self._io.wake()

    def close(
        self, connection: ConnectionView | None = None, code: int = 320, text: str = 'Closed via management plugin'
    ) -> None:
        """Close one connection, or all, with connection.close, as an administrator does."""
        with self._io.lock:
            for session in self._sessions(connection):
                session.close(Refusal(code, text), (0, 0))
            self._server.run_later()
        self._io.wake()

    def close_channel(
        self, connection: ConnectionView, channel: int, code: int = 406, text: str = 'by the test'
    ) -> None:
        """Close one channel with channel.close. Raises LookupError if it is not open."""
        with self._io.lock:
            found = connection._session.channels.get(channel)
            if found is None or found.closing:
                raise LookupError(f'{connection.name} has no channel {channel}')
            found.close(Refusal(code, text), (0, 0))
            self._server.run_later()
        self._io.wake()

    def cancel(self, consumer: ConsumerView) -> None:
        """Cancel a consumer: basic.cancel to the client, as when its queue moves. What it holds stays with it."""
        with self._io.lock:
            one = consumer._consumer
            if one.channel.consumers.pop(one.tag, None) is not None:
                one.channel.notify_cancelled(one)
                one.queue.remove_consumer(one)
                self._server.run_later()
        self._io.wake()

    def flow(self, connection: ConnectionView, channel: int, active: bool) -> None:
        """Send channel.flow, with which a broker asks a client to pause publishing, or to go on."""
        with self._io.lock:
            connection._session.send(encode_method(channel, spec.Channel.Flow, (active,)))
        self._io.wake()

    def send_raw(self, data: bytes, connection: ConnectionView | None = None) -> None:
        """Send these very bytes to one connection, or to all."""
        with self._io.lock:
            for session in self._sessions(connection):
                session.send(bytes(data))
        self._io.wake()

    def _host(self, name: str) -> VirtualHost:
        host = self._server.vhosts.get(name)
        if host is None:
            there = ', '.join(sorted(map(repr, self._server.vhosts)))
            raise LookupError(f'there is no virtual host {name!r}; there are: {there}')
        return host

    def _sessions(self, connection: ConnectionView | None) -> list[Session]:
        return list(self._server.sessions) if connection is None else [connection._session]

    def _touch_all(self) -> None:
        self._server.outgoing.update(self._server.sessions)

    # An administrator.

    def add_vhost(self, name: str) -> None:
        """Add a virtual host, in which the users of then may do everything."""
        with self._io.lock:
            self._server.add_vhost(name)
            self._server.users.grant_all(name)

    def add_user(self, name: str, password: str, tags: tuple[str, ...] = ()) -> None:
        """Add a user who may do everything, or change his password."""
        with self._io.lock:
            self._server.add_user(name, password, tags)

    def set_permissions(
        self, user: str, configure: str = '.*', write: str = '.*', read: str = '.*', vhost: str = '/'
    ) -> None:
        """What a user may do: regular expressions for names; '' is nothing.

        Raises LookupError for a user or a virtual host that there is not.
        """
        with self._io.lock:
            if self._server.users.find(user) is None:
                raise LookupError(f'there is no user {user!r}')
            self._server.users.set_permissions(user, self._host(vhost).name, Permissions(configure, write, read))

    def set_topic_permissions(
        self, user: str, exchange: str, write: str = '.*', read: str = '.*', vhost: str = '/'
    ) -> None:
        """With which routing keys a user may publish to a topic exchange, and bind to it: regular expressions.

        ``{username}`` and ``{vhost}`` in them stand for those. Raises LookupError for a user or a virtual host that
        there is not.
        """
        with self._io.lock:
            if self._server.users.find(user) is None:
                raise LookupError(f'there is no user {user!r}')
            permissions = TopicPermissions(write, read)
            self._server.users.set_topic_permissions(user, self._host(vhost).name, exchange, permissions)

    def set_policy(
        self,
        name: str,
        pattern: str,
        definition: Mapping[str, Any],
        apply_to: str = 'all',
        priority: int = 0,
        vhost: str = '/',
    ) -> None:
        """Give settings to all queues and exchanges whose names match, now and later, as ``rabbitmqctl set_policy``.

        pattern: a regular expression. definition: such as ``{'dead-letter-exchange': 'dlx', 'message-ttl': 60000}``.
        apply_to: 'all', 'queues', 'classic_queues', 'quorum_queues', 'streams' or 'exchanges'. Of several policies that
        match, the one of the highest priority holds, alone. Raises ValueError for what is not known.
        """
        policy = Policy(name, re.compile(pattern), dict(definition), apply_to, priority)
        with self._io.lock:
            host = self._host(vhost)
            host.policies.set(policy)
            host.policies_changed()
            self._server.run_later()
        self._io.wake()

    def clear_policy(self, name: str, vhost: str = '/') -> None:
        """Take a policy away. Raises LookupError if there is none of this name."""
        with self._io.lock:
            host = self._host(vhost)
            if not host.policies.clear(name):
                raise LookupError(f'there is no policy {name!r}')
            host.policies_changed()
            self._server.run_later()
        self._io.wake()

    def publish(
        self, exchange: Name, routing_key: Name, body: bytes | str = b'', vhost: str = '/', **properties: Any
    ) -> int:
        """Publish a message, as some other program would. Returns how many queues have got it.

        properties: by py-amqp's names, headers as ``application_headers``. It is not among ``published()``. Raises
        LookupError for an exchange that there is not, ValueError for properties that cannot be sent.
        """
        octets = body.encode() if isinstance(body, str) else bytes(body)
        with self._io.lock:
            host = self._host(vhost)
            found: Exchange | None = host.exchanges.get(exchange)
            if found is None:
                raise LookupError(f'there is no exchange {exchange!r}')
            message = made_locally(exchange, routing_key, octets, properties)
            taken = [queue.publish(message) for queue in host.route(found, message)]
            self._server.run_later()
        self._io.wake()
        return sum(taken)
