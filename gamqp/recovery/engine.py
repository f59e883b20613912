"""What opens a lost connection again: one greenlet for each outage, which tries until it is open or given up.

Layer 4. The greenlet waits, has a socket opened, has everything restored on it, and only then is the connection open.
An attempt that fails at any point ends its own socket, and the next one begins anew. Each wait of an attempt may be
interrupted by ``stop``. Does not belong here: how long the pauses are (``state.recovery_attempts``), what becomes of
calls and channels at a loss (``loss``), and how channels and consumers are restored (``restoring``).
"""

from __future__ import annotations

import logging
import random
import time
import weakref
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

from greenlet import GreenletExit, getcurrent

from .. import exceptions, green
from ..green.forking import at_fork
from ..state import lifecycle
from ..state.connection_settings import Settings
from ..state.durations import in_seconds
from ..state.lifecycle import Reason
from ..state.recovery_attempts import RecoveryAttempts
from ..state.recovery_settings import Recovery
from ..state.return_matching import Frames
from ..state.topology_records import RecordedConsumer
from ..state.topology_registry import TopologyRegistry
from ..state.unsent_publishes import publishes_by_channel
from ..telemetry.log_lines import say
from . import loss, restoring
from .callbacks import OrderedCallbacks
from .late_starts import LateStarts
from .outage import Outage, RecoveryReport
from .refusals import RecoveryStopped, Refusals

if TYPE_CHECKING:
    from ..connection.connection import Connection

__all__ = ('OpeningSteps', 'RecoveryEngine')

logger = logging.getLogger('gamqp.recovery')

# Engines of connections that are lost and not open again yet.
_recovering: weakref.WeakSet[RecoveryEngine] = weakref.WeakSet()

# What will be the same for a while: credentials, virtual host, certificate.
_FIRM = (exceptions.AccessRefused, exceptions.NotAllowed, exceptions.CertificateRefused)

# Seconds that close waits for the greenlet to end, which it has interrupted.
LAST_PATIENCE = 1.0


class OpeningSteps(Protocol):
    """How a connection is opened; the module ``gamqp.connection.connecting``."""

    def open_again(self, connection: Connection, avoid: Settings | None) -> None:
        """Open a socket for a connection that recovers, up to open-ok. avoid: the host to be tried last.

        Switches. Raises why it could not.
        """

    def note_opened(self, connection: Connection) -> None:
        """The connection is open: its state, and what goes on as long as that lasts. Does not switch."""


class RecoveryEngine:
    """Of one connection. connection: held weakly. steps: how it is opened.

    outage: the present one, None while the connection is open or closed. topology: what it declares again.
    """

    def __init__(self, connection: Connection, settings: Recovery, steps: OpeningSteps) -> None:
        self._connection = weakref.ref(connection)
        self._settings = settings
        self._steps = steps
        self._attempts = _attempts(settings)
        self._opened_at = 0.0
        self._is_firm = False  # the last attempt was refused in a way that will not change soon
        self._callbacks = OrderedCallbacks()
        self._refusals = Refusals(settings.on_record_error, self._say_failed)
        self.topology = TopologyRegistry(resume=settings.cancelled == 'resume')
        self._later = LateStarts(settings, self.topology, self._refusals)
        self.outage: Outage | None = None
        # Channel -> the publishes on it of which nothing was sent, while they are being looked at.
        self.unsent: dict[int, list[Frames]] = {}
        self._avoid: Settings | None = None  # the host that the next attempt tries last
        # A loss is taken over only while this is False. Set before anything else when the program closes the
        # connection, so that an attempt that wakes after that changes nothing more.
        self._is_over = False
        self._greenlet: Any = None  # while there is an outage; there is never more than one
        self._pause: green.Slot | None = None  # where it waits between two attempts
        self._gone: green.Event | None = None  # set when the greenlet of the latest outage has ended
        self._opened: green.Gate | None = None  # where calls wait until the connection is open

    @property
    def republish(self) -> str:
        """The setting."""
        return self._settings.republish

    # -- a loss --------------------------------------------------------------------------------

    def take_over(self, reason: Reason) -> bool:
        """The connection ends for this reason. Returns whether it is opened again; then its sockets' things have ended.

        Does not switch, never raises.
        """
        connection = self._connection()
        if connection is None or reason.clean or self._is_over:
            return False
        state = connection._life.state
        if state not in (lifecycle.OPEN, lifecycle.RECOVERING):
            return False  # the first connect, or a close that is under way
        if state == lifecycle.OPEN:
            self._begin_outage(connection, reason)
        loss.end_socket(connection, reason, in_use=state == lifecycle.OPEN)
        self.unsent = {}
        return True

    def _begin_outage(self, connection: Connection, reason: Reason) -> None:
        self._later.stop()
        error = _without_frames(reason.make_error())
        self.unsent = publishes_by_channel(connection._link.writer.take_unsent())
        error.lost = loss.count_lost(connection, self.unsent)  # type: ignore[attr-defined]
        connection._life.move('lose')
        # Before the channels: what is not restored must not take with it what is.
        self.topology.connection_lost()
        # One that is told to go, as by a node that is drained, finds another node first.
        self._avoid = connection._host_settings if isinstance(error, exceptions.ConnectionForced) else None
        backend = connection._green
        outage = self.outage = Outage(error)
        now = time.monotonic()
        self._attempts.lost(now, now - self._opened_at)
        self._is_firm = False
        connection._counts.outages += 1
        self._gone = green.Event(backend)
        self._opened = self._opened or green.Gate(backend)
        connection._report('%s: the connection was lost and is opened again: %s', repr(connection), str(error))
        self._callbacks.add(backend, connection.on_lost, error)
        self._greenlet = backend.spawn(self._run, backend, outage, self._gone)
        _recovering.add(self)

    # -- the greenlet ------------------------------------------------------------------------------

    def _run(self, backend: Any, outage: Outage, gone: green.Event) -> None:
        """Body of the greenlet. Switches."""
        try:
            while self.outage is outage and not self._try_once(backend, outage):
                pass
        finally:
            # Killed by somebody else than ``stop``, or ended by a fault of ours: nobody would try any more.
            if self.outage is outage:
                self._give_up(outage, exceptions.RecoverableConnectionError('the recovery was killed'))
            if self._gone is gone:  # else the next outage has begun
                self._greenlet = None
                _recovering.discard(self)
            gone.set()

    def _try_once(self, backend: Any, outage: Outage) -> bool:
        """Wait, and try. Returns whether it is over, one way or the other. Switches."""
        pause = self._attempts.pause(time.monotonic(), random.random(), self._is_firm)
        if pause is None:
            self._give_up(outage, outage.error)
            return True
        connection = self._connection()
        if connection is None:
            return True  # the program has dropped it
        outage._wait_for(pause)
        self._callbacks.add(backend, connection.on_recovering, outage.attempt, pause, outage.error, droppable=True)
        # The program may drop the connection while this greenlet waits.
        del connection
        self._wait(backend, pause)
        connection = self._connection()
        if connection is None or self.outage is not outage:
            return True
        try:
            restored = self._attempt(connection, outage)
        except GreenletExit:
            raise
        except BaseException as exc:  # also a gevent.Timeout, of a password that took too long
            if self.outage is outage:
                self._note_failure(connection, outage, _without_frames(exc))
            return self.outage is not outage
        self._end_outage(connection, outage, restored)
        return True

    def _wait(self, backend: Any, seconds: float) -> None:
        self._pause = green.Slot(backend)
        try:
            self._pause.wait(seconds)
        finally:
            self._pause = None

    def _attempt(self, connection: Connection, outage: Outage) -> restoring.Restored:
        """One attempt. Returns what was restored. Switches. Raises why it has failed; no socket is open then."""
        connection._counts.recovery_attempts += 1
        self._attempts.begin()
        self._steps.open_again(connection, self._avoid)
        link = connection._link  # the program may close the connection meanwhile, and connect it again
        try:
            self._avoid = None
            restored = restoring.restore(connection, self.topology, self._settings, self._refusals)
            # Nothing switches from here on until the state is OPEN. The link may have ended in the last switch.
            if link.reason is not None:
                link.reason.throw()
            if self.outage is not outage:
                raise RecoveryStopped('the connection was closed')
            for channel in channels_of(connection):
                channel._resume()
            self._steps.note_opened(connection)
        except BaseException as exc:
            # Does nothing where it has ended by itself. Where it is open already, and a signal handler for example has
            # raised, this is the next loss, which has an outage of its own.
            link.lose(exc)
            raise
        return restored

    def _note_failure(self, connection: Connection, outage: Outage, error: BaseException) -> None:
        """The attempt has failed. Does not switch."""
        outage.error = error
        outage.attempt += 1
        self._is_firm = isinstance(error, _FIRM)
        garbled = isinstance(error, exceptions.FrameError) and self._attempts.garbled(time.monotonic())
        if garbled or isinstance(error, RecoveryStopped):
            self._give_up(outage, error)
        elif self._attempts.is_news(error):
            text, number = '%s: attempt %s to open it again has failed: %s', outage.attempt - 1
            say(connection, logger, logging.WARNING, text, repr(connection), number, str(error))

    def _end_outage(self, connection: Connection, outage: Outage, restored: restoring.Restored) -> None:
        """The connection is open again. Does not switch."""
        self.outage = None
        if self._opened is not None:
            self._opened.wake_all()
        costly, skipped = self._refusals.costly_consumers(), self._refusals.end_outage()
        report = RecoveryReport(
            outage.attempt, outage.since, connection.host, restored.consumers, restored.renamed, skipped
        )
        connection._counts.recovery_skipped += len(skipped)
        self._later.begin(connection, restored.later, costly)
        self._opened_at = time.monotonic()
        connection._counts.recoveries += 1
        connection._counts.last_recovery_seconds = report.seconds
        self._callbacks.add(connection._green, connection.on_recovered, report)
        for channel in channels_of(connection):
            channel._send_kept()
        say(
            connection,
            logger,
            logging.INFO,
            '%s: open again after %s, %s attempts, %s consumers started, %s records skipped',
            repr(connection),
            in_seconds(round(report.seconds, 3)),
            report.attempts,
            report.consumers,
            len(report.skipped),
        )

    def _give_up(self, outage: Outage, error: BaseException) -> None:
        """End the connection: everybody who waits gets the error. Does not switch."""
        connection = self._connection()
        self._is_over = True
        self.outage = None
        if connection is None:
            return
        final = exceptions.RecoverableConnectionError(f'the connection was lost, and recovery was given up: {error}')
        if isinstance(error, exceptions.AMQPError):
            final = error  # type: ignore[assignment]  # the program looks at its class
        if final is not outage._first_error:
            final.__cause__ = outage._first_error
        reason = Reason(final)
        self._callbacks.add(connection._green, connection.on_given_up, reason.make_error())
        connection._report('%s: not opened again: %s', repr(connection), str(error))
        connection._end(reason)
        if self._opened is not None:
            self._opened.wake_all()

    def _say_failed(self, text: str, record: str, error: BaseException) -> None:
        """A callback of the program has failed on a record. Does not switch."""
        connection = self._connection()
        if connection is not None:
            say(connection, logger, logging.ERROR, text, record, error=error)

    # -- the program -------------------------------------------------------------------------------

    def wait(self, deadline: green.Deadline, patient: bool = False) -> None:
        """Wait while the connection is opened again; the caller looks at its state afterwards. Switches.

        patient: wait also where while_down is 'raise'; without it Lost is raised then, at once. Raises TimeoutError.
        """
        connection = self._connection()
        assert connection is not None  # it is in use
        while connection._life.state == lifecycle.RECOVERING:
            outage, opened = self.outage, self._opened
            if outage is None or opened is None:  # it is being closed
                raise exceptions.RecoverableConnectionError('the connection is lost, and is not opened again')
            if self._settings.while_down == 'raise' and not patient:
                self._raise_lost(outage)
            if not opened.wait(deadline.left()) and connection._life.state == lifecycle.RECOVERING:
                raise TimeoutError(
                    f'the connection has been lost for {in_seconds(round(outage.since, 1))}, and is not open again '
                    f'within {in_seconds(deadline.seconds)}: {outage.error}'
                )

    def _raise_lost(self, outage: Outage) -> NoReturn:
        error = exceptions.Lost(f'the connection is lost, and is being opened again: {outage.error}')
        error.sent = False
        raise error from outage._first_error

    def resumes(self, consumer: RecordedConsumer) -> bool:
        """Whether this consumer, which the broker has cancelled, is to be started again. Does not switch."""
        return self._settings.cancelled == 'resume' and consumer.recover and not self._is_over

    def start_later(self, consumer: RecordedConsumer) -> None:
        """Start it as soon as the broker lets it. Does not switch."""
        connection = self._connection()
        if connection is not None:
            self._later.add(connection, consumer)

    def stop(self) -> None:
        """The program closes the connection: no more attempts, and no socket of one that is under way. Does not switch.

        To be called before the connection ends.
        """
        self._is_over = True
        self.outage = None
        self._later.stop()
        if self._greenlet is not None and self._greenlet is not getcurrent():
            connection = self._connection()
            assert connection is not None  # it is being closed
            connection._green.kill(self._greenlet)
        if self._opened is not None:
            self._opened.wake_all()

    def wait_until_stopped(self) -> None:
        """Wait for the end of the greenlet that ``stop`` has interrupted, for a second at most. Switches."""
        if self._gone is not None and self._greenlet is not None and self._greenlet is not getcurrent():
            self._gone.wait(LAST_PATIENCE)

    def begin(self) -> None:
        """The program connects: losses are taken over again. Does not switch."""
        self._is_over = False
        self._attempts = _attempts(self._settings)
        self._opened_at = time.monotonic()


def _without_frames(error: BaseException) -> BaseException:
    """The same, without what would keep the connection, and much else, as long as the error is kept."""
    due: list[BaseException | None] = [error]
    seen: set[int] = set()
    while due:
        one = due.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            due += one.__cause__, one.__context__
    return error


def _end_all_after_fork() -> None:
    """In a forked child: the sockets, and the greenlet that opens the next one, are the parent's. Does not switch."""
    text = 'the connection belongs to the process that forked this one'
    with green.waking_nobody():
        for engine in list(_recovering):
            connection = engine._connection()
            engine._is_over, engine.outage, engine._greenlet = True, None, None
            if connection is not None:
                connection._end(Reason(exceptions.RecoverableConnectionError(text), clean=True))


at_fork('recoveries', in_child=_end_all_after_fork)


def channels_of(connection: Connection) -> list[Any]:
    """Those of the program, which are all of the class RecoveringChannel."""
    return list(connection.channels.values())


def _attempts(settings: Recovery) -> RecoveryAttempts:
    span = cast('tuple[float, float]', settings.first_delay)  # by its check
    rest = settings.delay, settings.max_delay, settings.attempts, settings.give_up_after, settings.stable_after
    return RecoveryAttempts(span, *rest)
