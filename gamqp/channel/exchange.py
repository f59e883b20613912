"""Class exchange: declare, delete, bind, unbind.

Layer 3. Errors and switching: see ``gamqp.channel``. Does not belong here: waiting for the reply (``request``).
"""

from __future__ import annotations

import warnings

from ..state.name_arguments import name
from ..wire.spec import Exchange
from .request import Arguments, Requester

__all__ = ('ExchangeMethods', 'VDeprecationWarning')

_AUTO_DELETE = 'exchange_declare: auto_delete is deprecated and on by default; pass auto_delete=False'


class VDeprecationWarning(DeprecationWarning):
    """Something of the protocol that new code should not use."""


class ExchangeMethods(Requester):
    """Mixin of Channel."""

    def exchange_declare(
        self,
        exchange: str,
        type: str,
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = True,
        nowait: bool = False,
        arguments: Arguments = None,
        argsig: object = None,
        *,
        recover: bool = True,
    ) -> None:
        """Create an exchange unless it exists; with *passive* only check that it does.

        type: direct, fanout, topic, headers, or a plugin's. auto_delete: delete it
        with its last binding; deprecated, with a VDeprecationWarning, and yet
        py-amqp's default: say False. nowait: do not wait for the reply; an error
        then comes out of a later call or drain_events. recover: False to leave it out of
        what a connection with ``recover`` declares again after a loss.
        """
        if auto_delete and not passive:
            warnings.warn(_AUTO_DELETE, VDeprecationWarning, stacklevel=2)
        exchange, type = name('exchange', exchange), name('type', type)
        args = (0, exchange, type, passive, durable, auto_delete, False, nowait, arguments)
        topology, done = self._connection._topology, None
        if topology is not None and not passive:
            done = topology.exchange_declare(exchange, type, durable, auto_delete, arguments, recover)
        self._request(Exchange.Declare, args, nowait, done)

    def exchange_delete(
        self, exchange: str, if_unused: bool = False, nowait: bool = False, argsig: object = None
    ) -> None:
        """Delete an exchange and its bindings; with *if_unused* only when nothing is bound to it."""
        exchange, topology = name('exchange', exchange), self._connection._topology
        done = None if topology is None else topology.exchange_delete(exchange)
        self._request(Exchange.Delete, (0, exchange, if_unused, nowait), nowait, done)

    def exchange_bind(
        self,
        destination: str,
        source: str = '',
        routing_key: str = '',
        nowait: bool = False,
        arguments: Arguments = None,
        argsig: object = None,
        *,
        recover: bool = True,
    ) -> None:
        """Route what exchange *source* takes on to exchange *destination* too (a RabbitMQ extension).

        recover: as for ``exchange_declare``.
        """
        names = name('destination', destination), name('source', source), name('routing_key', routing_key)
        topology = self._connection._topology
        done = None if topology is None else topology.exchange_bind(*names, arguments, recover)
        self._request(Exchange.Bind, (0, *names, nowait, arguments), nowait, done)

    def exchange_unbind(
        self,
        destination: str,
        source: str = '',
        routing_key: str = '',
        nowait: bool = False,
        arguments: Arguments = None,
        argsig: object = None,
    ) -> None:
        """Undo exchange_bind; the arguments must be the same."""
        names = name('destination', destination), name('source', source), name('routing_key', routing_key)
        topology = self._connection._topology
        done = None if topology is None else topology.exchange_unbind(*names, arguments)
        self._request(Exchange.Unbind, (0, *names, nowait, arguments), nowait, done)
