"""What the peer can make us hold: one budget for a connection, and the end of it beyond.

State, no I/O. Deliveries have a limit of their own that stops reading (``budget``). Everything else that
grows with what the peer sends is counted here, because nobody but the peer could make it shrink: contents of
which a part is missing, answers that it asks for and does not read. Returned messages, which wait until the
program comes for them, are no more than it has published. A broker never comes near these limits; one that
does is broken, or hostile.
"""

from __future__ import annotations

from .. import exceptions
from ..wire.assembly import CONTENTS
from ..wire.spec import Basic

__all__ = ('ANSWERS', 'ANSWER_SIZE', 'CONTENTS', 'LIMIT', 'PeerMemory', 'UnreadAnswers')

# Bytes of all kinds together, beside the one body that may be on its way. RabbitMQ sends the frames of a
# content without others between them, and answers of ours are twenty bytes.
LIMIT = 32 * 1024 * 1024

# What an answer takes until it is sent: the object, its place in the queue, and what goes with it, such as the
# channel.open behind a close-ok.
ANSWER_SIZE = 300

# Returned messages, and their bytes, that may come beyond what was published.
SPARE_RETURNS = 1000
SPARE_BYTES = 1024 * 1024

#: A kind, beside CONTENTS.
ANSWERS = 'answers that the broker does not read'


class PeerMemory:
    """Counts bytes by kind. max_body: the largest body accepted, which one unfinished content may have."""

    __slots__ = ('_contents', '_returned', '_returned_bytes', 'held', 'limit', 'max_body')

    def __init__(self, max_body: int, limit: int = LIMIT) -> None:
        self.max_body = max_body
        self.limit = limit
        self.held = 0  # of all kinds
        self._contents = 0
        self._returned = 0
        self._returned_bytes = 0

    def __repr__(self) -> str:
        return f'<PeerMemory {self.held} bytes held, limit {self.limit} and a body of {self.max_body}>'

    def hold(self, kind: str, size: int) -> None:
        """*size* bytes more are held. Raises ResourceError when that is too much."""
        self.held += size
        if kind is CONTENTS:
            self._contents += size
        if self.held - min(self._contents, self.max_body) > self.limit:
            raise exceptions.ResourceError(
                f'too much is held for the broker: {self.held} bytes, the latest are {kind}; the limit is {self.limit}'
            )

    def note_return(self, size: int, published: int, sent: int) -> None:
        """A message of *size* bytes came back. Raises UnexpectedFrame when so many cannot have been published.

        published: how many messages were. sent: bytes that went out.
        """
        self._returned += 1
        self._returned_bytes += size
        if self._returned > published + SPARE_RETURNS or self._returned_bytes > sent + SPARE_BYTES:
            raise exceptions.UnexpectedFrame(
                f'{self._returned} messages of {self._returned_bytes} bytes came back, and {published} were published',
                Basic.Return,
            )

    def release(self, kind: str, size: int) -> None:
        """*size* bytes are held no more."""
        self.held -= size
        if kind is CONTENTS:
            self._contents -= size


class UnreadAnswers:
    """How much of what waits in the send queue are answers to the peer: never too little, seldom too much.

    It knows positions in the stream of bytes only: what was handed over in front of a mark is out once so much
    was sent. So no note is kept for each answer.
    """

    __slots__ = ('_mark', '_memory', '_newer', '_older')

    def __init__(self, memory: PeerMemory) -> None:
        self._memory = memory
        self._mark = 0  # where the stream stood at the latest look
        self._older = 0  # bytes of answers handed over before that
        self._newer = 0

    def add(self, size: int, sent: int, queued: int) -> None:
        """An answer of *size* bytes is handed over; *sent* bytes are out, *queued* wait. Raises ResourceError."""
        if sent >= self._mark:
            self._memory.release(ANSWERS, self._older)
            self._older, self._newer = self._newer, 0
            self._mark = sent + queued
        self._newer += size
        self._memory.hold(ANSWERS, size)
