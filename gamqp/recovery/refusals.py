"""What follows when the broker refuses to restore a record: asked of the program, and kept for its report.

Layer 4. Of one outage, and of the time after it while some records are still tried. Does not belong here: what follows
where the program has no opinion (``state.restore_errors``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import greenlet

from .. import exceptions
from ..state.restore_errors import Answer, Blame, Treatment, treatment
from ..state.topology_records import Record, RecordedConsumer

__all__ = ('RecoveryStopped', 'Refusals')

# Reply codes from here on end the connection.
HARD_ERROR = 500

ANSWERS = ('skip', 'retry', 'stop', None)


class RecoveryStopped(exceptions.RecoverableConnectionError):
    """on_record_error has said that there shall be no further attempt."""


class Refusals:
    """ask: the program's on_record_error, or None. say_failed: takes a text, a record and what *ask* has raised.

    blame: which records may have cost a connection. noted: (record, error) of what was refused in this attempt.
    """

    __slots__ = ('_ask', '_costly', '_say_failed', 'blame', 'noted')

    def __init__(
        self,
        ask: Callable[[dict[str, Any], BaseException], str | None] | None,
        say_failed: Callable[[str, str, BaseException], None],
    ) -> None:
        self._ask = ask
        self._say_failed = say_failed
        self.blame = Blame()
        # Records over which the broker has closed the connection until they were left out -> its words.
        self._costly: dict[Record, BaseException] = {}
        self.noted: list[tuple[Record, BaseException]] = []

    def begin_attempt(self) -> None:
        self.noted = []

    def treat(self, record: Record, error: BaseException) -> Treatment:
        """What to do. Switches if the program's callback does. Raises RecoveryStopped."""
        chosen = treatment(record, error, self._answer(record, error))
        if chosen == 'stop':
            stopped = RecoveryStopped(f'on_record_error has stopped the recovery over {record!r}: {error}')
            raise stopped from error
        return chosen

    def _answer(self, record: Record, error: BaseException) -> Answer | None:
        if self._ask is None:
            return None
        try:
            answer = self._ask(record.as_dict(), error)
            if answer not in ANSWERS:
                raise ValueError(f"on_record_error returned {answer!r}, not 'skip', 'retry', 'stop' or None")
            return cast('Answer | None', answer)
        except greenlet.GreenletExit:
            raise
        except BaseException as exc:
            self._say_failed('on_record_error has failed on %s', repr(record), exc)
            return None

    def note(self, record: Record, error: BaseException) -> None:
        """It is not restored, for now."""
        self.noted.append((record, error.with_traceback(None)))

    def attempt_failed(self, error: BaseException, unanswered: Iterable[Record]) -> None:
        """The socket has ended, or no answer came, while these were asked for."""
        records = list(unanswered)
        if not records:
            return
        if isinstance(error, TimeoutError):
            self.blame.timed_out(records[0])
        elif isinstance(error, exceptions.ConnectionError) and error.reply_code >= HARD_ERROR:
            skipped = self.blame.connection_refused(records, error.method_sig or (0, 0))
            if skipped is not None:
                self._costly[skipped] = error.with_traceback(None)

    def costly_consumers(self) -> list[RecordedConsumer]:
        """Those over which the broker has closed the connection with 541, as for a quorum queue without a leader."""
        return [
            record
            for record, error in self._costly.items()
            if isinstance(record, RecordedConsumer) and isinstance(error, exceptions.InternalError)
        ]

    def end_outage(self) -> list[tuple[dict[str, Any], BaseException]]:
        """The connection is open again. Returns what was left out, for the program."""
        costly, self._costly = self._costly, {}
        self.blame.connection_opened()
        return [(record.as_dict(), error) for record, error in (*self.noted, *costly.items())]
