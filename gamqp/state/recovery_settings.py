"""How a connection that was lost is opened again: the settings, checked.

State, no I/O. Does not belong here: when the next attempt is due (``recovery_attempts``), and what is done in one
(``gamqp.recovery``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import field
from typing import Any, Literal

from .argument_checks import Check, callable_or_none, one_of, seconds, shown, whole

__all__ = ('Recovery', 'Republish', 'TopologyWish', 'WhileDown', 'recovery_or_none')

TopologyWish = Literal['all', 'transient', 'consumers', 'none']
WhileDown = Literal['wait', 'raise']
Republish = Literal['none', 'unsent', 'all']


def _by(check: Check) -> dict[str, Check]:
    return {'check': check}


def _span(name: str, value: Any) -> tuple[float, float]:
    """A pair of seconds, or one number for both."""
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise ValueError(f'{name}: seconds or a pair of them are wanted, not {shown(value)}')
    check = seconds(zero=True)
    low, high = check(name, pair[0]), check(name, pair[1])
    if low > high:
        raise ValueError(f'{name}: the first of the pair is the smaller one, not {shown(value)}')
    return low, high


@dataclasses.dataclass(frozen=True)
class Recovery:
    """How a connection that was lost is opened again, for the argument *recover* of Connection and connect.

    * first_delay ((0, 1)): seconds before the first attempt, drawn at random from this range; or one number.
    * delay (1), max_delay (30): seconds; before attempt n, from 2 on, it waits from 0.1 up to delay * 2**n, drawn at
      random, and max_delay at most.
    * attempts (None: for ever): after so many failed attempts in a row it gives up.
    * give_up_after (None: never): seconds without a connection after which it gives up.
    * stable_after (60): seconds that a connection was open after which attempts are counted from one again.
    * topology ('all'): which exchanges, queues and bindings it declares again: 'all' that this connection has declared,
      'transient' for those that a restart of the broker or the end of the connection removes (exclusive and
      auto-delete ones and their bindings), 'consumers' for none, but consumers are started again, or 'none'.
    * keep (None: all): called with each record, as ``Connection.topology`` gives it; returns whether to restore it.
    * on_record_error (None): called with a record and the broker's error when it cannot be restored; returns 'skip',
      'retry' or 'stop'. None goes by the error.
    * cancelled ('leave'): what becomes of a consumer that the broker has cancelled: 'leave' as without recovery,
      'resume' to start it again as soon as its queue is there.
    * while_down ('wait'): what publishes, declarations and the like do meanwhile: 'wait' as long as they may, or
      'raise' Lost at once.
    * republish ('none'): which publishes go out again that had no confirm at the loss: 'none'; 'unsent' for those of
      which nothing had been sent, so that none is sent twice; 'all' for all that had confirm mode, so that some may be
      in a queue twice: each gets a message_id if it has none, and is kept in memory until it is confirmed. Never on
      channels with transactions, never a second time to a stream. What goes out again comes first, and in order.
    * locked_timeout (None: two heartbeats and 5 seconds): how long an exclusive queue of this connection may be
      locked, because the broker has not yet noticed that the old socket is gone.

    Never changes; one object may serve many connections. Raises TypeError or ValueError that names the argument.
    """

    first_delay: tuple[float, float] | float = field(default=(0.0, 1.0), metadata=_by(_span))
    delay: float = field(default=1.0, metadata=_by(seconds()))
    max_delay: float = field(default=30.0, metadata=_by(seconds()))
    attempts: int | None = field(default=None, metadata=_by(whole(1, none=None)))
    give_up_after: float | None = field(default=None, metadata=_by(seconds(none=None)))
    stable_after: float = field(default=60.0, metadata=_by(seconds(zero=True)))
    topology: TopologyWish = field(default='all', metadata=_by(one_of('all', 'transient', 'consumers', 'none')))
    keep: Callable[[dict[str, Any]], object] | None = field(default=None, metadata=_by(callable_or_none))
    on_record_error: Callable[[dict[str, Any], BaseException], str | None] | None = field(
        default=None, metadata=_by(callable_or_none)
    )
    cancelled: Literal['leave', 'resume'] = field(default='leave', metadata=_by(one_of('leave', 'resume')))
    while_down: WhileDown = field(default='wait', metadata=_by(one_of('wait', 'raise')))
    republish: Republish = field(default='none', metadata=_by(one_of('none', 'unsent', 'all')))
    locked_timeout: float | None = field(default=None, metadata=_by(seconds(zero=True, none=None)))

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            object.__setattr__(self, one.name, one.metadata['check'](one.name, getattr(self, one.name)))


def recovery_or_none(name: str, value: object) -> Recovery | None:
    """The check of the argument *recover*: False or None for none, True for the usual settings, or a Recovery."""
    if isinstance(value, Recovery):
        return value
    if value is None or value is False or value is True:
        return Recovery() if value else None
    raise TypeError(f'{name}: True, False or a gamqp.Recovery is wanted, not {shown(value)}')
