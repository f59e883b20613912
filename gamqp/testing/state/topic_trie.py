"""Topic patterns: words with '.' between them, where '*' is one word and '#' any number of words.

Layer 5, pure. Does not belong here: exchanges, queues.
"""

from __future__ import annotations

from typing import Any

__all__ = ('TopicTrie',)


class _Node:
    __slots__ = ('children', 'values')

    def __init__(self) -> None:
        self.children: dict[Any, _Node] = {}
        self.values: dict[Any, int] = {}  # value -> how many times it was added


class TopicTrie:
    """Patterns, each with any number of values; ``match`` finds the values of all patterns that match a key."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, pattern: str | bytes, value: Any) -> None:
        """Add *value* for a pattern; the same pair may be added several times."""
        node = self._root
        for word in _words(pattern):
            node = node.children.setdefault(word, _Node())
        node.values[value] = node.values.get(value, 0) + 1

    def discard(self, pattern: str | bytes, value: Any) -> None:
        """Take back one ``add`` of the pair."""
        path = [self._root]
        words = _words(pattern)
        for word in words:
            child = path[-1].children.get(word)
            if child is None:
                return
            path.append(child)
        left = path[-1].values.get(value, 0) - 1
        if left > 0:
            path[-1].values[value] = left
        else:
            path[-1].values.pop(value, None)
        for parent, word in zip(reversed(path[:-1]), reversed(words), strict=True):
            child = parent.children[word]
            if child.children or child.values:
                break
            del parent.children[word]

    def match(self, key: str | bytes) -> list[Any]:
        """The values of all patterns that match *key*, each once."""
        words = _words(key)
        found: dict[Any, None] = {}
        self._walk(self._root, words, 0, found, set())
        return list(found)

    def _walk(self, node: _Node, words: list[Any], at: int, found: dict[Any, None], seen: set[Any]) -> None:
        # Without the set, a pattern of many '#' would be walked an exponential number of times.
        place = (id(node), at)
        if place in seen:
            return
        seen.add(place)
        if at == len(words):
            found.update(node.values)
        else:
            for word in (words[at], '*'):
                child = node.children.get(word)
                if child is not None:
                    self._walk(child, words, at + 1, found, seen)
        rest = node.children.get('#')
        if rest is not None:
            for end in range(at, len(words) + 1):
                self._walk(rest, words, end, found, seen)


def _words(key: str | bytes) -> list[Any]:
    if isinstance(key, bytes):
        key = key.decode('utf-8', 'surrogateescape')
    return key.split('.') if key else []
