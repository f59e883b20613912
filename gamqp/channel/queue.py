"""Class queue: declare, bind, unbind, purge, delete.

Layer 3. Errors and switching: see ``gamqp.channel``. Does not belong here: waiting for the reply (``request``).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, Literal, overload

from ..exceptions import AMQPDeprecationWarning
from ..protocol import queue_declare_ok_t
from ..state.name_arguments import name
from ..state.negotiation import rabbitmq_version
from ..wire.spec import Queue
from .open_state import OpenState
from .request import Arguments

__all__ = ('QueueMethods',)

_TRANSIENT = (
    'a queue that is neither durable nor exclusive: RabbitMQ 4.3 takes it only where its operator allows that, and '
    'else closes the connection; say durable=True, or exclusive=True'
)

_GOES_WITH_ITS_CONSUMER = (
    'queue_declare without auto_delete: this durable queue is deleted, with the messages in it, when its last consumer '
    'goes, since py-amqp has True for a default; say auto_delete=False to keep it, or True if that is what you want'
)


class _Unsaid(int):
    """py-amqp's default, True, that can be told from a True that was passed."""

    def __repr__(self) -> str:
        return 'True'


_UNSAID: Any = _Unsaid(True)


class QueueMethods(OpenState):
    """Mixin of Channel."""

    @overload
    def queue_declare(
        self,
        queue: str = '',
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = True,
        nowait: Literal[False] = False,
        arguments: Arguments = None,
        argsig: object = None,
        *,
        recover: bool = ...,
    ) -> queue_declare_ok_t: ...

    @overload
    def queue_declare(
        self,
        queue: str = '',
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = True,
        *,
        nowait: Literal[True],
        arguments: Arguments = None,
        argsig: object = None,
        recover: bool = ...,
    ) -> None: ...

    @overload
    def queue_declare(
        self,
        queue: str = '',
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = True,
        nowait: bool = False,
        arguments: Arguments = None,
        argsig: object = None,
        *,
        recover: bool = ...,
    ) -> queue_declare_ok_t | None: ...

    def queue_declare(
        self,
        queue: str = '',
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = _UNSAID,
        nowait: bool = False,
        arguments: Arguments = None,
        argsig: object = None,
        *,
        recover: bool = True,
    ) -> queue_declare_ok_t | None:
        """Create a queue unless it exists; with *passive* only check that it does.

        queue: '' lets the broker choose a name. auto_delete: delete it when its last
        consumer goes; that is py-amqp's default, and a UserWarning for a durable queue
        that is not exclusive unless it is said. Returns (queue, message_count,
        consumer_count), or None with *nowait*. RabbitMQ 4.3 refuses queues that
        are neither durable nor exclusive, and closes the connection (541), unless
        its operator allows them: with it they are an AMQPDeprecationWarning.
        recover: False to leave it out of what a connection with ``recover`` declares again
        after a loss, as it leaves out a queue that is declared by '' with *nowait*, whose name
        nobody knows.
        """
        if auto_delete is _UNSAID:
            auto_delete = True
            if durable and not (passive or exclusive):
                self._check(Queue.Declare)
                warnings.warn(_GOES_WITH_ITS_CONSUMER, UserWarning, stacklevel=2)
        if not (passive or durable or exclusive) and rabbitmq_version(self._connection.server_properties) >= (4, 3):
            self._check(Queue.Declare)  # what cannot be sent needs no advice
            warnings.warn(_TRANSIENT, AMQPDeprecationWarning, stacklevel=2)
        queue = name('queue', queue)
        args = (0, queue, passive, durable, exclusive, auto_delete, nowait, arguments)
        topology, noted = self._connection._topology, None
        if topology is not None and not passive:
            noted = topology.queue_declare(queue, durable, exclusive, auto_delete, arguments, recover)
        reply = self._request(Queue.Declare, args, nowait, functools.partial(self._on_declared, queue, noted))
        declared = queue if nowait else reply[0]
        if declared and not passive:  # which says nothing about the type
            self._connection._queue_types.declare(declared, arguments)
        return None if nowait else queue_declare_ok_t(*reply)

    def _on_declared(self, queue: str, noted: Callable[[Any], None] | None, reply: Any) -> None:
        """The broker has declared it, whatever has become of the caller."""
        self._declared = reply[0] if reply else queue
        if noted is not None:
            noted(reply)

    def queue_bind(
        self,
        queue: str,
        exchange: str = '',
        routing_key: str = '',
        nowait: bool = False,
        arguments: Arguments = None,
        argsig: object = None,
        *,
        recover: bool = True,
    ) -> None:
        """Route messages from an exchange to a queue ('': the one declared last on this channel).

        recover: as for ``queue_declare``.
        """
        names = self._names_of_binding(queue, exchange, routing_key, Queue.Bind)
        topology = self._connection._topology
        done = None if topology is None else topology.queue_bind(*names, arguments, recover)
        self._request(Queue.Bind, (0, *names, nowait, arguments), nowait, done)

    def queue_unbind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = '',
        nowait: bool = False,
        arguments: Arguments = None,
        argsig: object = None,
    ) -> None:
        """Undo queue_bind; the arguments must be the same. *nowait* has no meaning on the wire here."""
        names = self._names_of_binding(queue, exchange, routing_key, Queue.Unbind)
        topology = self._connection._topology
        done = None if topology is None else topology.queue_unbind(*names, arguments)
        self._call(Queue.Unbind, (0, *names, arguments), done)

    def _names_of_binding(
        self, queue: str, exchange: str, routing_key: str, sig: tuple[int, int]
    ) -> tuple[str, str, str]:
        names = name('queue', queue), name('exchange', exchange), name('routing_key', routing_key)
        sent = self._name_to_send(names[0], sig)
        # Where the queue is '', the broker takes '' for its name in the routing key, too.
        return sent, names[1], names[2] or ('' if names[0] else sent)

    @overload
    def queue_purge(self, queue: str = '', nowait: Literal[False] = False, argsig: object = None) -> int: ...

    @overload
    def queue_purge(self, queue: str = '', *, nowait: Literal[True], argsig: object = None) -> None: ...

    @overload
    def queue_purge(self, queue: str = '', nowait: bool = False, argsig: object = None) -> int | None: ...

    def queue_purge(self, queue: str = '', nowait: bool = False, argsig: object = None) -> int | None:
        """Drop all ready messages of a queue. Returns how many, or None with *nowait*.

        A stream cannot be purged: AMQPNotImplementedError, before anything is sent where it is known to be one.
        """
        queue = self._name_to_send(name('queue', queue), Queue.Purge)
        self._connection._queue_types.check_purge(queue or self._declared)
        reply = self._request(Queue.Purge, (0, queue, nowait), nowait)
        return None if nowait else reply[0]

    @overload
    def queue_delete(
        self,
        queue: str = '',
        if_unused: bool = False,
        if_empty: bool = False,
        nowait: Literal[False] = False,
        argsig: object = None,
    ) -> int: ...

    @overload
    def queue_delete(
        self,
        queue: str = '',
        if_unused: bool = False,
        if_empty: bool = False,
        *,
        nowait: Literal[True],
        argsig: object = None,
    ) -> None: ...

    @overload
    def queue_delete(
        self,
        queue: str = '',
        if_unused: bool = False,
        if_empty: bool = False,
        nowait: bool = False,
        argsig: object = None,
    ) -> int | None: ...

    def queue_delete(
        self,
        queue: str = '',
        if_unused: bool = False,
        if_empty: bool = False,
        nowait: bool = False,
        argsig: object = None,
    ) -> int | None:
        """Delete a queue. Returns how many messages went with it, or None with *nowait*.

        if_unused, if_empty: refuse (PreconditionFailed) when it has consumers, or messages.
        A quorum queue knows neither: AMQPNotImplementedError, before anything is sent
        where it is known to be one.
        """
        queue = self._name_to_send(name('queue', queue), Queue.Delete)
        known = queue or self._declared
        queue_types, topology = self._connection._queue_types, self._connection._topology
        queue_types.check_delete(known, if_unused, if_empty)
        done = None if topology is None else topology.queue_delete(known)
        reply = self._request(Queue.Delete, (0, queue, if_unused, if_empty, nowait), nowait, done)
        queue_types.forget(known)
        return None if nowait else reply[0]
