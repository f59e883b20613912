"""Keeps the transport when kombu goes on to the next broker of a list.

Layer 5. kombu takes the transport of the second and of every later broker from the scheme of its URL, also where the
program has named a transport: after the first failover ``amqp://`` would be py-amqp's. The way to keep it is a
scheme of ours in these URLs; a class of the program's own, derived from ours, gives way to ours there. Does not
belong here: which broker comes next.
"""

from __future__ import annotations

from typing import Any

from .registration import register

__all__ = ('keep_transport',)

OURS = {'amqp': 'gamqp', 'pyamqp': 'gamqp', 'amqps': 'gamqps'}
OURS_WITH_TLS = dict.fromkeys(OURS, 'gamqps')


def keep_transport(client: Any, tls: bool) -> None:
    """Have a kombu.Connection whose transport was given by name use it for all its brokers. Does not switch.

    tls: whether that transport is the one with TLS, which ``amqp://`` must not turn off.
    """
    name = client.transport_cls
    if isinstance(name, str) and ':' not in name and '.' not in name:
        return  # from a URL, where each broker has its own
    schemes = OURS_WITH_TLS if tls else OURS
    brokers = [_with_our_scheme(url, schemes) for url in client.alt]
    if brokers != client.alt:
        register()
        client.alt = brokers
        client.cycle = client.failover_strategy(brokers)
        next(client.cycle)  # as kombu does: the first is in use


def _with_our_scheme(url: Any, schemes: dict[str, str]) -> Any:
    scheme, separator, rest = url.partition('://') if isinstance(url, str) else (url, '', '')
    ours = schemes.get(scheme.lower()) if separator else None
    return f'{ours}://{rest}' if ours else url
