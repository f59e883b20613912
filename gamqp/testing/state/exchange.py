"""Exchanges: which destinations a message goes to.

Layer 5, pure. A destination is a queue or an exchange; that an exchange passes on is up to the virtual host.
Does not belong here: checks of names and permissions.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

from . import hashing, header_matching
from .errors import Refusal, exchange_label, precondition_failed, text_of
from .message import StoredMessage
from .topic_trie import TopicTrie
from .versions import Version

__all__ = ('TYPES', 'Binding', 'Exchange', 'check_type', 'make_exchange')

Name = str | bytes


class Binding(NamedTuple):
    """One binding. kind: 'queue' or 'exchange'. frozen: the arguments in a form that can be compared."""

    source: Name
    kind: str
    destination: Name
    routing_key: Name
    frozen: Any

    @property
    def target(self) -> tuple[str, Name]:
        """The destination, as the keys of routes are."""
        return (self.kind, self.destination)


def frozen(value: Any) -> Any:
    """Arguments as a value that can be a key."""
    if isinstance(value, dict):
        return tuple(sorted((text_of(key), frozen(one)) for key, one in value.items()))
    if isinstance(value, list):
        return tuple(frozen(one) for one in value)
    return (type(value).__name__, value if isinstance(value, (str, bytes, int, float, bool)) else repr(value))


class Exchange:
    """What all types have in common; a type overrides ``_added``, ``_removed`` and ``targets``."""

    type = ''
    #: Whether equal routing keys always have equal targets, whatever the message holds.
    by_key_alone = True

    def __init__(
        self, vhost: str, name: Name, durable: bool, auto_delete: bool, internal: bool, arguments: dict[Any, Any]
    ) -> None:
        self.vhost = vhost
        self.name = name
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments = arguments
        #: Whether headers are compared with their types, see ``versions``.
        self.typed_headers = False
        self.alternate: Name | None = arguments.get('alternate-exchange')
        #: With their arguments. An auto-delete exchange goes with its last one, not before its first.
        self.bindings: dict[Binding, dict[Any, Any]] = {}

    def __repr__(self) -> str:
        return f'<Exchange {self.name!r} {self.type}, {len(self.bindings)} bindings>'

    @property
    def label(self) -> str:
        """How errors name it."""
        return exchange_label(self.name, self.vhost)

    def apply_policy(self, policy: Mapping[str, Any]) -> None:
        """A policy holds; the argument of the declaration has the last word."""
        self.alternate = self.arguments.get('alternate-exchange', policy.get('alternate-exchange'))

    def bind(self, kind: str, destination: Name, routing_key: Name, arguments: dict[Any, Any]) -> bool:
        """Add a binding; False if it is there. ``check_binding`` comes before."""
        binding = Binding(self.name, kind, destination, routing_key, frozen(arguments))
        if binding in self.bindings:
            return False
        self.bindings[binding] = arguments
        self._added(binding, arguments)
        return True

    def unbind(self, binding: Binding) -> bool:
        """Take a binding away; False if it is not there."""
        if binding not in self.bindings:
            return False
        arguments = self.bindings.pop(binding)
        self._removed(binding, arguments)
        return True

    @classmethod
    def check_arguments(cls, arguments: dict[Any, Any]) -> None:
        """Raise a Refusal unless an exchange of this type may be declared with these arguments."""

    def check_binding(self, routing_key: Name, arguments: dict[Any, Any], queue: str) -> None:
        """Raise a Refusal unless such a binding is possible. queue: the kind of the destination, '' for an exchange."""

    def targets(self, routing_key: Name, message: StoredMessage) -> list[tuple[str, Name]]:
        """The destinations of a message that comes with *routing_key*."""
        raise NotImplementedError

    def _added(self, binding: Binding, arguments: dict[Any, Any]) -> None:
        raise NotImplementedError

    def _removed(self, binding: Binding, arguments: dict[Any, Any]) -> None:
        raise NotImplementedError


class _DirectExchange(Exchange):
    type = 'direct'

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._by_key: dict[Name, list[tuple[str, Name]]] = {}

    def targets(self, routing_key: Name, message: StoredMessage) -> list[tuple[str, Name]]:
        return self._by_key.get(routing_key, [])

    def _added(self, binding: Binding, arguments: dict[Any, Any]) -> None:
        self._by_key.setdefault(binding.routing_key, []).append(binding.target)

    def _removed(self, binding: Binding, arguments: dict[Any, Any]) -> None:
        targets = self._by_key[binding.routing_key]
        targets.remove(binding.target)
        if not targets:
            del self._by_key[binding.routing_key]


class _FanoutExchange(Exchange):
    type = 'fanout'

    def targets(self, routing_key: Name, message: StoredMessage) -> list[tuple[str, Name]]:
        return [binding.target for binding in self.bindings]

    def _added(self, binding: Binding, arguments: dict[Any, Any]) -> None:
        pass

    _removed = _added


class _TopicExchange(Exchange):
    type = 'topic'

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._trie = TopicTrie()

    def targets(self, routing_key: Name, message: StoredMessage) -> list[tuple[str, Name]]:
        return self._trie.match(routing_key)

    def _added(self, binding: Binding, arguments: dict[Any, Any]) -> None:
        self._trie.add(binding.routing_key, binding.target)

    def _removed(self, binding: Binding, arguments: dict[Any, Any]) -> None:
        self._trie.discard(binding.routing_key, binding.target)


class _HeadersExchange(_FanoutExchange):
    type = 'headers'
    by_key_alone = False

    def check_binding(self, routing_key: Name, arguments: dict[Any, Any], queue: str) -> None:
        header_matching.check_binding(arguments)

    def targets(self, routing_key: Name, message: StoredMessage) -> list[tuple[str, Name]]:
        headers = message.properties.get('application_headers') or {}
        typed = self.typed_headers
        found = self.bindings.items()
        return [one.target for one, arguments in found if header_matching.matches(arguments, headers, typed)]


class _ConsistentHash(_FanoutExchange):
    type = 'x-consistent-hash'
    by_key_alone = False

    def check_binding(self, routing_key: Name, arguments: dict[Any, Any], queue: str) -> None:
        if not text_of(routing_key).isdecimal():
            raise precondition_failed(f'The binding key must be an integer: <<"{text_of(routing_key)}">>')
        if not int(routing_key):
            raise precondition_failed('The binding key must be greater than 0')

    @classmethod
    def check_arguments(cls, arguments: dict[Any, Any]) -> None:
        if 'hash-header' in arguments and 'hash-property' in arguments:
            raise precondition_failed('hash-header and hash-property are mutually exclusive')
        name = arguments.get('hash-property', 'message_id')
        if name not in ('correlation_id', 'message_id', 'timestamp'):
            raise precondition_failed(f'Unsupported property: {text_of(name)}')

    def targets(self, routing_key: Name, message: StoredMessage) -> list[tuple[str, Name]]:
        choices = [(binding.target, int(binding.routing_key)) for binding in self.bindings]
        chosen = hashing.by_weight(self._key(routing_key, message), choices)
        return [chosen] if chosen is not None else []

    def _key(self, routing_key: Name, message: StoredMessage) -> bytes:
        header, name = self.arguments.get('hash-header'), self.arguments.get('hash-property')
        if header is not None:
            return repr((message.properties.get('application_headers') or {}).get(header)).encode()
        if name is not None:
            return repr(message.properties.get(name)).encode()
        return routing_key if isinstance(routing_key, bytes) else routing_key.encode()


class _ModulusHash(_FanoutExchange):
    type = 'x-modulus-hash'

    def targets(self, routing_key: Name, message: StoredMessage) -> list[tuple[str, Name]]:
        key = routing_key if isinstance(routing_key, bytes) else routing_key.encode()
        chosen = hashing.by_modulus(key, [binding.target for binding in self.bindings])
        return [chosen] if chosen is not None else []


class _LocalRandom(_FanoutExchange):
    """One of the queues, by chance; all count as local. Binding keys are empty, and routing keys mean nothing."""

    type = 'x-local-random'
    by_key_alone = False

    def check_binding(self, routing_key: Name, arguments: dict[Any, Any], queue: str) -> None:
        if routing_key:
            raise precondition_failed(f"Non empty binding '{text_of(routing_key)}' key not permitted")
        if not queue:
            raise precondition_failed('Destination not found')
        if queue != 'classic':
            raise precondition_failed(f'Queue type rabbit_{queue}_queue not valid for this exchange type')

    def targets(self, routing_key: Name, message: StoredMessage) -> list[tuple[str, Name]]:
        # A queue that is bound more than once, with other arguments, has no better chance.
        found = list(dict.fromkeys(binding.target for binding in self.bindings))
        return [random.choice(found)] if found else []


_ALL = (
    *(_DirectExchange, _FanoutExchange, _TopicExchange, _HeadersExchange),
    *(_ConsistentHash, _ModulusHash, _LocalRandom),
)
TYPES: dict[str, type[Exchange]] = {each.type: each for each in _ALL}


def make_exchange(
    vhost: str, name: Name, kind: Name, durable: bool, auto_delete: bool, internal: bool, arguments: dict[Any, Any]
) -> Exchange:
    """An exchange of type *kind*, one of ``TYPES``. Raises a Refusal for arguments that it may not have."""
    cls = TYPES[text_of(kind)]
    cls.check_arguments(arguments)
    return cls(vhost, name, durable, auto_delete, internal, arguments)


def check_type(kind: Name, version: Version) -> None:
    """Raise a Refusal for a type that is not known to this version."""
    if text_of(kind) not in TYPES or (kind == _LocalRandom.type and not version.local_random):
        word = 'unknown' if kind else 'invalid'
        raise Refusal(503, f"{word} exchange type '{text_of(kind)}'")
