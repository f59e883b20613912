"""Assertions on what was published and what queues hold, with errors that show the difference.

Layer 5. Does not belong here: waiting for something; see ``Broker.wait_until``.
"""

from __future__ import annotations

from typing import Any

from .view import QueueView, SeenMessage

__all__ = ('Assertions',)

Name = str | bytes


class Assertions:
    """Mixin without state of its own."""

    def published(self, exchange: Name = '', routing_key: Name | None = None, vhost: str = '/') -> list[SeenMessage]:
        """See ``service``."""
        raise NotImplementedError

    def queue(self, name: Name, vhost: str = '/') -> QueueView:
        """See ``service``."""
        raise NotImplementedError

    def assert_published(
        self,
        exchange: Name = '',
        routing_key: Name | None = None,
        body: bytes | str | None = None,
        headers: dict[str, Any] | None = None,
        count: int | None = None,
        vhost: str = '/',
        **properties: Any,
    ) -> list[SeenMessage]:
        """Assert that such a message was published, or *count* of them. Returns them.

        What is None is not compared. headers, properties: those that must be there; others may be, too.
        """
        wanted = {'routing_key': routing_key, 'body': _octets(body), 'headers': headers, **properties}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        all_of_them = self.published(exchange, vhost=vhost)
        differences = [_differences(message, wanted) for message in all_of_them]
        found = [message for message, missing in zip(all_of_them, differences, strict=True) if not missing]
        if found if count is None else len(found) == count:
            return found
        asked = 'a message' if count is None else f'{count} messages'
        lines = [f'{asked} to exchange {exchange!r} with {wanted} expected, {len(found)} found']
        if not all_of_them:
            lines.append('nothing was published to it')
        for message, missing in list(zip(all_of_them, differences, strict=True))[-10:]:
            lines.append(f'  {message}')
            lines += [f'    {line}' for line in missing]
        raise AssertionError('\n'.join(lines))

    def assert_nothing_published(self, exchange: Name = '', vhost: str = '/') -> None:
        """Assert that nothing was published to an exchange."""
        messages = self.published(exchange, vhost=vhost)
        if messages:
            raise AssertionError(
                '\n'.join([f'nothing to exchange {exchange!r} expected, but:', *(f'  {one}' for one in messages[:10])])
            )

    def assert_messages(self, queue: Name, *bodies: bytes | str, vhost: str = '/') -> None:
        """Assert that exactly these bodies are ready in a queue, in this order."""
        expected = [_octets(body) for body in bodies]
        found = [message.body for message in self.queue(queue, vhost).messages]
        if found != expected:
            lines = [f'queue {queue!r} holds other messages than expected:']
            for at in range(max(len(found), len(expected))):
                here = found[at] if at < len(found) else None
                there = expected[at] if at < len(expected) else None
                mark = ' ' if here == there else '!'
                lines.append(f'{mark} {at}: expected {there!r}, found {here!r}')
            raise AssertionError('\n'.join(lines[:40]))

    def assert_drained(self, queue: Name, vhost: str = '/') -> None:
        """Assert that a queue holds nothing, and that nothing of it waits for an ack."""
        view = self.queue(queue, vhost)
        ready, unacked = view.messages, view.unacked
        if ready or unacked:
            lines = [f'queue {queue!r} has {len(ready)} messages ready and {len(unacked)} unacked:']
            lines += [f'  ready: {one}' for one in ready[:10]] + [f'  unacked: {one}' for one in unacked[:10]]
            raise AssertionError('\n'.join(lines))


def _octets(body: bytes | str | None) -> bytes | None:
    return body.encode() if isinstance(body, str) else body


def _differences(message: SeenMessage, wanted: dict[str, Any]) -> list[str]:
    """What a message lacks, a line each."""
    lines = []
    for name, value in wanted.items():
        if name == 'headers':
            lines += [
                f'header {key!r} is {message.headers.get(key)!r}, not {one!r}'
                for key, one in value.items()
                if key not in message.headers or message.headers[key] != one
            ]
            continue
        found = getattr(message, name) if name in ('routing_key', 'body') else message.properties.get(name)
        if found != value:
            lines.append(f'{name} is {found!r}, not {value!r}')
    return lines
