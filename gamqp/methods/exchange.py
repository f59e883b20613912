"""Class exchange: declare, delete, bind, unbind. Errors and switching: see ``gamqp.methods``."""

from __future__ import annotations

from typing import Any

from ..calls import Caller
from ..wire.spec import Exchange

__all__ = ('ExchangeMethods',)

Arguments = dict[str, Any] | None


class ExchangeMethods(Caller):
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
        argsig: Any = None,
    ) -> None:
        """Create an exchange unless it exists; with *passive* only check that it does.

        type: direct, fanout, topic, headers, or a plugin's. nowait: do not wait
        for the reply; an error then comes out of a later call or drain_events.
        """
        args = (0, exchange, type, passive, durable, auto_delete, False, nowait, arguments)
        self._request(Exchange.Declare, args, nowait)

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False, argsig: Any = None) -> None:
        """Delete an exchange and its bindings; with *if_unused* only when nothing is bound to it."""
        self._request(Exchange.Delete, (0, exchange, if_unused, nowait), nowait)

    def exchange_bind(
        self,
        destination: str,
        source: str = '',
        routing_key: str = '',
        nowait: bool = False,
        arguments: Arguments = None,
        argsig: Any = None,
    ) -> None:
        """Route what exchange *source* takes on to exchange *destination* too (a RabbitMQ extension)."""
        self._request(Exchange.Bind, (0, destination, source, routing_key, nowait, arguments), nowait)

    def exchange_unbind(
        self,
        destination: str,
        source: str = '',
        routing_key: str = '',
        nowait: bool = False,
        arguments: Arguments = None,
        argsig: Any = None,
    ) -> None:
        """Undo exchange_bind; the arguments must be the same."""
        self._request(Exchange.Unbind, (0, destination, source, routing_key, nowait, arguments), nowait)
