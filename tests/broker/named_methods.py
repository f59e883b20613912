"""Methods by their names in the protocol, both ways: named arguments -> bytes, and events -> named arguments."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import inside

from gamqp.wire import METHODS, Content, encode_content, encode_method

__all__ = ('described', 'frames', 'octets', 'split')

_BY_NAME = {method.name: method for method in METHODS.values()}
_EMPTY: dict[str, Any] = {'s': '', 'S': b'', 'b': False, 'F': {}, 'B': 0, 'L': 0, 'l': 0, 'o': 0}


def frames(
    name: str, channel: int | None = None, body: bytes = b'', properties: Any = None, limit: int = 131072, **args: Any
) -> bytes:
    """The bytes of one method, with its content where it has one; arguments not given are empty or 0.

    channel: 1 where it is not said, 0 for the methods of class connection.
    """
    method = _BY_NAME[name]
    if channel is None:
        channel = 0 if name.startswith('connection.') else 1
    unknown = set(args) - {argument for argument, _ in method.args}
    assert not unknown, f'{name} has no {unknown}'
    values = tuple(args.get(argument, _EMPTY[letter]) for argument, letter in method.args)
    if method.content:
        return bytes(encode_content(channel, method.sig, values, properties or {}, body, limit))
    return bytes(encode_method(channel, method.sig, values))


def octets(value: Any) -> bytes:
    """A long string as bytes: the decoder gives it as str where it can."""
    return value.encode() if isinstance(value, str) else value


def split(data: bytes) -> list[bytes]:
    """Bytes of whole frames, cut between them."""
    cut = []
    while data:
        size = int.from_bytes(data[3:7], 'big') + 8
        cut.append(data[:size])
        data = data[size:]
    return cut


def described(event: Any) -> Any:
    """An event of the decoder as an object: ``name``, ``channel``, the arguments, ``body`` and ``properties``."""
    if isinstance(event, Content):
        method = METHODS[inside.method_of(event)]
        return SimpleNamespace(
            name=method.name,
            channel=inside.channel_id_of(event),
            body=event.body,
            properties=event.properties,
            **event.delivery_info,
        )
    channel, sig, args = event
    method = METHODS[sig]
    named = {name: value for (name, _), value in zip(method.args, args, strict=True)}
    return SimpleNamespace(name=method.name, channel=channel, **named)
