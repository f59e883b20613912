"""Which publish a returned message belongs to.

State, no I/O. ``basic.return`` carries no number, so the message is compared with the mandatory publishes that have no
confirm yet. Their frames are kept until then. Does not belong here: numbers and confirms (``confirm_matching``);
returned messages that nobody takes (``returned_messages``).
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from ..wire import Content, Decoder

__all__ = ('Frames', 'Key', 'MandatoryPublishes')

HEADERS = 'application_headers'

Key = tuple[str, str, int]  # exchange, routing key, size of the body
Frames = bytes | bytearray | memoryview  # of one publish, as they were sent


class MandatoryPublishes:
    """The publishes of one channel that may come back, oldest first."""

    __slots__ = ('_by_key', '_keys')

    def __init__(self) -> None:
        # Both dicts have the same tags. A tag enters them in add() and leaves them in forget(). A key without tags is
        # removed. The size is a part of the key, so that publishes of other sizes are ruled out without decoding them.
        # Key -> delivery tag -> frames, or the Content that was decoded of them.
        self._by_key: dict[Key, dict[int, Frames | Content]] = {}
        self._keys: dict[int, Key] = {}  # where in _by_key a tag is

    def add(self, tag: int, exchange: str, routing_key: str, size: int, frames: Frames) -> None:
        """A mandatory message with a body of *size* bytes is published under this delivery tag."""
        key = self._keys[tag] = (exchange, routing_key, size)
        self._by_key.setdefault(key, {})[tag] = frames

    def key(self, tag: int) -> Key | None:
        """Exchange, routing key and size of this publish; None if it is none of these."""
        return self._keys.get(tag)

    def sort(self, tag: int) -> None:
        """This publish, if it is one of these, was added behind a later one."""
        key = self._keys.get(tag)
        if key is not None:
            # Only publishes with the same key are ever compared, so the order counts among those alone.
            self._by_key[key] = dict(sorted(self._by_key[key].items()))

    def take(self, exchange: str, routing_key: str, message: Content, settled_to: int) -> int:
        """Find the publish of a returned message, forget it, and return its tag; 0 when there is none.

        It is the most similar of the publishes with this exchange and routing key, and the oldest of several that are
        equally similar: returns come in the order of publishing. Identical ones may be exchanged without harm.
        settled_to: publishes up to this tag do not come back any more.
        """
        candidates = self._by_key.get((exchange, routing_key, message._size))
        if candidates and settled_to:
            # A list, since the loop removes what it goes over; tags ascend in each dict.
            for tag in list(takewhile(settled_to.__ge__, candidates)):
                self.forget(tag)
        # The loop above may have removed the last candidate. ``candidates`` is then an empty dict, and the result is 0.
        tag = _most_alike(candidates, message) if candidates else 0
        if tag:
            self.forget(tag)
        return tag

    def forget(self, tag: int) -> bool:
        """This publish does not come back any more. Returns whether none is left that may."""
        key = self._keys.pop(tag, None)
        if key is not None:
            candidates = self._by_key[key]
            del candidates[tag]
            if not candidates:
                del self._by_key[key]
        return not self._keys


def _most_alike(candidates: dict[int, Frames | Content], message: Content) -> int:
    """The tag of the publish that is most similar to the message, the oldest of several; 0 when none has its body.

    The frames that were sent are decoded to compare: the program may have changed its own objects since.
    """
    best, fewest = 0, -1
    body, properties = message.body, message.properties
    for tag, sent in candidates.items():
        if not isinstance(sent, Content):
            # Decoded once and kept: the next return with this key is compared with the same publishes. The value is
            # replaced and no key is added, so the loop over the dict can go on.
            sent = candidates[tag] = Decoder().feed(sent)[0]
        if sent.body != body:
            continue
        # The usual case, and the oldest of equals, since the dict is in order of publishing.
        if sent.properties == properties:
            return tag
        # They may differ although they belong together: RabbitMQ removes the header BCC, and its plugins may add some.
        different = _differences(sent.properties, properties)
        if fewest < 0 or different < fewest:
            best, fewest = tag, different
    return best


def _differences(sent: dict[str, Any], returned: dict[str, Any]) -> int:
    """How many properties and headers differ."""
    # The table of headers counts once as a property, and then each of its headers that differs counts.
    return _unequal(sent, returned) + _unequal(sent.get(HEADERS) or {}, returned.get(HEADERS) or {})


def _unequal(one: dict[str, Any], other: dict[str, Any]) -> int:
    return sum(one.get(name) != other.get(name) for name in one.keys() | other.keys())
