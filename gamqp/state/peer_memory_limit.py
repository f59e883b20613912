"""Memory that a broken or hostile peer can make a connection use, with a limit that ends the connection.

State, no I/O. Deliveries have a limit of their own, at which the reader stops (``receive_budget``). Counted here is
what only the peer can make smaller again: messages of which a part is still missing, and answers that the peer
does not read. Returned messages wait until the program takes them; there cannot be more of them than the program
has published. No broker in order comes near these limits. Does not belong here: how a connection ends.
"""

from __future__ import annotations

from .. import exceptions
from ..wire.assembly import CONTENTS
from ..wire.spec import Basic

__all__ = ('ANSWERS', 'ANSWER_SIZE', 'CONTENTS', 'LIMIT', 'PeerMemory', 'UnreadAnswers')

# Bytes of all kinds together, not counting one unfinished body. More is not needed: RabbitMQ sends the frames of one
# message without other frames between them, and an answer of ours has twenty bytes.
LIMIT = 32 * 1024 * 1024

# Bytes of memory for an answer until it is sent: the object, its place in the queue, and what is sent with it, such as
# the channel.open behind a close-ok.
ANSWER_SIZE = 300

# Returned messages, and their bytes, that are tolerated beyond what was published.
SPARE_RETURNS = 1000
SPARE_BYTES = 1024 * 1024

#: The second kind of memory; the first one is CONTENTS.
ANSWERS = 'answers that the broker does not read'


class PeerMemory:
    """Counts the bytes of one connection, by kind. max_body: the largest body accepted; one unfinished body is free."""

    __slots__ = ('_contents', '_returned', '_returned_bytes', 'held', 'limit', 'max_body')

    def __init__(self, max_body: int, limit: int = LIMIT) -> None:
        self.max_body = max_body
        self.limit = limit
        # ``held`` is the sum over all kinds, and ``_contents`` the part of the first kind. hold() and release() change
        # both.
        self.held = 0  # of all kinds
        self._contents = 0
        # These two are never reduced, as *published* and *sent* are not.
        self._returned = 0
        self._returned_bytes = 0

    def __repr__(self) -> str:
        return f'<PeerMemory {self.held} bytes held, limit {self.limit} and a body of {self.max_body}>'

    def hold(self, kind: str, size: int) -> None:
        """*size* bytes more are held. Raises ResourceError when that is too much."""
        self.held += size
        if kind is CONTENTS:
            self._contents += size
        # As much of the contents as one body may have is not counted.
        if self.held - min(self._contents, self.max_body) > self.limit:
            raise exceptions.ResourceError(
                f'too much is held for the broker: {self.held} bytes, the latest are {kind}; the limit is {self.limit}'
            )

    def note_return(self, size: int, published: int, sent: int) -> None:
        """A message of *size* bytes came back. Raises UnexpectedFrame when so many cannot have been published.

        published: how many messages were. sent: bytes that went out.
        """
        # *published* counts messages on earlier sockets, too. After a reconnection the check accepts more, never less.
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
    """Counts the bytes of answers in the send queue: never too few, seldom too many.

    It keeps no entry for each answer, only a position in the stream of sent bytes (the mark). When the connection
    has sent that many bytes, all answers that were queued before it are out.
    """

    __slots__ = ('_mark', '_memory', '_newer', '_older')

    def __init__(self, memory: PeerMemory) -> None:
        self._memory = memory
        self._mark = 0  # the end of the send queue when the mark was set
        self._older = 0  # bytes of answers queued before the mark was set
        self._newer = 0  # bytes of answers queued since

    def add(self, size: int, sent: int, queued: int) -> None:
        """An answer of *size* bytes is queued; *sent* bytes are out, *queued* are not. Raises ResourceError."""
        if sent >= self._mark:
            # What was queued before the mark has been sent. Of what was queued after it some may be sent, too; the next
            # mark shows that. Released before hold() below looks at the sum.
            self._memory.release(ANSWERS, self._older)
            self._older, self._newer = self._newer, 0
            self._mark = sent + queued
        self._newer += size
        self._memory.hold(ANSWERS, size)
