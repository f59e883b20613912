"""A topology in a file: exchanges, queues and bindings, as RabbitMQ exports its definitions.

Layer 5. JSON, or YAML where PyYAML is installed. What else an export holds (users, policies) is left out. Does not
belong here: brokers.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

from .exit_codes import UsageError
from .field_values import from_json

__all__ = ('BindingEntry', 'ExchangeEntry', 'QueueEntry', 'Topology', 'read_topology')


@dataclasses.dataclass(frozen=True)
class ExchangeEntry:
    """An exchange, with the arguments of its declaration."""

    name: str
    type: str = 'direct'
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class QueueEntry:
    """A queue. type: where it is given, it becomes the argument x-queue-type."""

    name: str
    durable: bool = True
    auto_delete: bool = False
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    type: str = ''

    @property
    def all_arguments(self) -> dict[str, Any]:
        """The arguments to declare it with."""
        return {'x-queue-type': self.type, **self.arguments} if self.type else self.arguments


@dataclasses.dataclass(frozen=True)
class BindingEntry:
    """A binding of a queue, or of an exchange, to the exchange *source*."""

    source: str
    destination: str
    destination_type: str = 'queue'
    routing_key: str = ''
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Topology:
    """What a file asks for, in the order in which it can be declared."""

    exchanges: list[ExchangeEntry]
    queues: list[QueueEntry]
    bindings: list[BindingEntry]


# Keys of an export that are not about topology.
_OTHERS = {
    *('rabbit_version', 'rabbitmq_version', 'product_name', 'product_version', 'rabbitmq_definition_format'),
    *('original_cluster_name', 'original_vhost_name', 'explanation', 'metadata', 'description', 'default_queue_type'),
    *('users', 'vhosts', 'permissions', 'topic_permissions', 'parameters', 'global_parameters', 'policies', 'limits'),
}


def read_topology(path: str, virtual_host: str) -> Topology:
    """The topology of a file ('-' is stdin). Raises UsageError for one that makes no sense, and OSError.

    virtual_host: of the broker; what the file says to be in another one is left out.
    """
    table = _parsed(path)
    if not isinstance(table, dict):
        raise UsageError(f'{path}: an object with exchanges, queues and bindings is wanted')
    unknown = sorted(str(key) for key in table.keys() - {'exchanges', 'queues', 'bindings'} - _OTHERS)
    if unknown:
        raise UsageError(f'{path}: unknown key {unknown[0]!r}; there are exchanges, queues, bindings')
    return Topology(
        [one for one in _all(path, table, 'exchanges', ExchangeEntry, virtual_host) if not one.name.startswith('amq.')],
        _all(path, table, 'queues', QueueEntry, virtual_host),
        _all(path, table, 'bindings', BindingEntry, virtual_host),
    )


def _parsed(path: str) -> Any:
    text = Path('/dev/stdin' if path == '-' else path).read_text(encoding='utf-8')
    if path.endswith(('.yaml', '.yml')):
        try:
            yaml = importlib.import_module('yaml')
        except ModuleNotFoundError:
            raise UsageError(f'{path}: YAML needs PyYAML: pip install gamqp[yaml]') from None
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as exc:
            raise UsageError(f'{path}: {exc}') from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise UsageError(f'{path}: {exc}') from None


def _all(path: str, table: dict[str, Any], key: str, kind: Any, virtual_host: str) -> list[Any]:
    entries = table.get(key)
    if entries is None:  # also of YAML with nothing behind the colon
        return []
    if not isinstance(entries, list):
        raise UsageError(f'{path}: {key} is a list')
    return [
        _made(f'{path}: {key}, number {number}', entry, kind)
        for number, entry in enumerate(entries, 1)
        if not isinstance(entry, dict) or entry.get('vhost', virtual_host) == virtual_host
    ]


def _made(where: str, entry: Any, kind: Any) -> Any:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if not isinstance(entry, dict):
        raise UsageError(f'{where}: an object is wanted')
    given = {key: value for key, value in entry.items() if key not in ('vhost', 'properties_key')}
    unknown = sorted(str(key) for key in given.keys() - fields.keys())
    if unknown:
        raise UsageError(f'{where}: unknown key {unknown[0]!r}; there are {", ".join(fields)}')
    for name, field in fields.items():
        wanted = {'str': str, 'bool': bool}.get(str(field.type), dict)
        if name in given and not isinstance(given[name], wanted):
            raise UsageError(f'{where}: {name} must be {wanted.__name__}')
    if 'arguments' in given:
        given['arguments'] = from_json(given['arguments'])
    try:
        return kind(**given)
    except TypeError:
        needed = [name for name, one in fields.items() if one.default is one.default_factory is dataclasses.MISSING]
        raise UsageError(f'{where}: {", ".join(needed)} must be given') from None
