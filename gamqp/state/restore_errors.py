"""What follows when a record cannot be declared again, and which record has cost a connection.

State, no I/O. Does not belong here: the order of the records (``restore_plan``), and the program's callbacks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeVar

from .. import exceptions
from .topology_records import Record, RecordedConsumer, RecordedQueue

__all__ = ('Answer', 'Blame', 'Treatment', 'treatment')

#: What a program's ``on_record_error`` may say.
Answer = Literal['skip', 'retry', 'stop']

#: 'skip': go on without the record until the next outage. 'retry': go on, and try it again while the connection is
#: open. 'wait': try it again within this attempt, as long as ``locked_timeout`` allows. 'fail': this attempt has
#: failed. 'stop': give up.
Treatment = Literal['skip', 'retry', 'wait', 'fail', 'stop']

Any_ = TypeVar('Any_', bound=Record)


def treatment(record: Record, error: BaseException, answer: Answer | None = None) -> Treatment:
    """What to do when the broker refused *record* with *error*. answer: the program's, None to go by the error.

    An error that is no ChannelError (a timeout, a lost connection) says nothing of the record: the attempt has failed,
    whatever the answer, but for 'stop'.
    """
    if not isinstance(error, exceptions.ChannelError):
        return 'stop' if answer == 'stop' else 'fail'
    if answer is not None:
        return answer
    if isinstance(record, RecordedConsumer):
        # Its queue may come (404), the other exclusive consumer may go (403).
        return 'retry'
    if isinstance(record, RecordedQueue):
        if isinstance(error, exceptions.ResourceLocked):
            # The broker has not noticed yet that the connection before has ended; or another program has the queue.
            return 'wait' if record.exclusive else 'retry'
        if isinstance(error, exceptions.NotFound):
            return 'retry'  # its node is down
    return 'skip'


class Blame:
    """The records that may have cost a connection, for one outage.

    A broker that closes the connection does not say over which request, and its replies to earlier ones may be lost
    with it. So all that were unanswered are suspects: in the next attempt they come last and one at a time, so that the
    second time there is one culprit, which is skipped.
    """

    __slots__ = ('_times',)

    def __init__(self) -> None:
        self._times: dict[Record, int] = {}

    def __repr__(self) -> str:
        skipped = sum(times > 1 for times in self._times.values())
        return f'<{type(self).__name__} {len(self._times) - skipped} suspects, {skipped} skipped>'

    def connection_refused(self, unanswered: Iterable[Record], method_sig: tuple[int, int] = (0, 0)) -> Record | None:
        """The broker closed the connection with a code from 500 on while these waited for their replies.

        method_sig: the method that it names. Returns the record that is skipped from now on, if one is found.
        """
        suspects = list(unanswered)
        suspects = [record for record in suspects if record.request()[0] == method_sig] or suspects
        if len(suspects) != 1:
            for record in suspects:
                self._times[record] = max(1, self._times.get(record, 0))
            return None
        (record,) = suspects
        self._times[record] = self._times.get(record, 0) + 1
        return record if self._times[record] > 1 else None

    def timed_out(self, record: Record) -> None:
        """Its reply did not come in time. It comes last, and is never skipped for that: the broker may still do it."""
        self._times.setdefault(record, 0)

    def is_suspect(self, record: Record) -> bool:
        """Whether it comes last, alone."""
        return record in self._times

    def skips(self, record: Record) -> bool:
        return self._times.get(record, 0) > 1

    def split(self, records: Iterable[Any_]) -> tuple[list[Any_], list[Any_]]:
        """Those that nothing is known against, and the suspects; without those to be skipped."""
        clear: list[Any_] = []
        suspects: list[Any_] = []
        for record in records:
            times = self._times.get(record)
            if times is None:
                clear.append(record)
            elif times < 2:
                suspects.append(record)
        return clear, suspects

    def connection_opened(self) -> None:
        """The outage is over. What was skipped is tried once in the next one, last and alone."""
        self._times = {record: 1 for record, times in self._times.items() if times > 1}
