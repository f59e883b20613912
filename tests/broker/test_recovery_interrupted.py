"""What the program does while a connection is opened again: it settles, closes, connects, drops, and cancels."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import greenlets
import inside
import pytest

import gamqp
from gamqp import Recovery, exceptions, green, testing
from gamqp.telemetry import stats

QUICK: dict[str, Any] = {'first_delay': 0, 'delay': 0.1, 'max_delay': 0.1}


@pytest.fixture
def broker() -> Iterator[testing.Broker]:
    with testing.Broker() as broker:
        yield broker


def opened(broker: testing.Broker, **arguments: Any) -> gamqp.Connection:
    """With the queue 'jobs', on channel 1."""
    connection = gamqp.connect(broker.url, **{'recover': Recovery(**QUICK), **arguments})
    connection.channel().queue_declare('jobs', durable=True, auto_delete=False)
    return connection


def lose(broker: testing.Broker, connection: gamqp.Connection) -> None:
    broker.cut()
    greenlets.wait_until(lambda: connection.state == 'recovering')


def test_a_loop_that_acks_before_everything_is_restored_waits_for_nothing(broker: testing.Broker) -> None:
    with opened(broker, rpc_timeout=0.2) as connection:
        deliveries = connection.channel(1).consume('jobs', prefetch=5)
        connection.channel(2).queue_declare('slow', durable=True, auto_delete=False)
        connection.channel(2).subscribe('slow', print)
        for body in (b'1', b'2'):
            broker.publish('', 'jobs', body)
        old = [next(deliveries), next(deliveries)]
        broker.drop_reply('basic.consume', queue='slow')
        lose(broker, connection)
        early = next(deliveries)
        assert connection.state == 'recovering'
        early.ack()
        assert connection.state == 'recovering'
        of_attempt = next(deliveries)
        connection.wait_open(greenlets.PATIENCE)
        assert connection.stats()['recovery_attempts'] == 2
        now = next(deliveries)
        assert now.delivery_tag > of_attempt.delivery_tag > early.delivery_tag > old[1].delivery_tag
        stale = connection.stats()['stale_settlements']
        connection.channel(1).basic_ack(of_attempt.delivery_tag)
        assert connection.stats()['stale_settlements'] == stale + 1
        now.ack()
        broker.wait_until(lambda: not broker.queue('jobs').unacked)


def test_connect_waits_for_the_end_of_an_outage(broker: testing.Broker) -> None:
    with opened(broker, recover=Recovery(first_delay=0.1), connect_timeout=greenlets.PATIENCE) as connection:
        lose(broker, connection)
        connection.connect()
        assert connection.state == 'open' and connection.stats()['outages'] == 1


def test_who_collects_and_connects_amid_an_attempt_has_a_new_connection(broker: testing.Broker) -> None:
    with opened(broker) as connection:
        broker.drop_reply('queue.declare')
        lose(broker, connection)
        greenlets.wait_until(lambda: broker.connections)
        greenlets.sleep(0.02)
        connection.collect()
        connection.connect()
        greenlets.sleep(0.02)  # the greenlet of the attempt has ended
        assert connection.state == 'open' and connection.recovery is None
        recoveries = connection.stats()['recoveries']
        broker.cut()
        greenlets.wait_until(lambda: connection.stats()['recoveries'] > recoveries)


def test_a_channel_that_is_closed_while_declarations_are_made_costs_no_attempt(broker: testing.Broker) -> None:
    reports: list[Any] = []
    with opened(broker, on_recovered=reports.append) as connection:
        other = connection.channel()
        other.basic_consume('jobs', callback=print)
        broker.delay('queue.declare', 0.2)
        lose(broker, connection)
        greenlets.wait_until(lambda: broker.connections)
        greenlets.sleep(0.02)
        other.close()
        greenlets.wait_until(lambda: reports)
        assert reports[0].attempts == 1


def test_a_drain_in_another_thread_stops_no_recovery(broker: testing.Broker) -> None:
    with opened(broker, recover=Recovery(first_delay=3600)) as connection:
        lose(broker, connection)
        raised: list[BaseException] = []

        def drain() -> None:
            try:
                connection.drain(1)
            except BaseException as exc:
                raised.append(exc)

        thread = threading.Thread(target=drain)
        thread.start()
        greenlets.wait_until(lambda: raised)
        thread.join()
        assert isinstance(raised[0], exceptions.WrongThread) and connection.recovery is not None


def test_a_connection_is_dropped_whose_consumer_waits_for_its_queue(broker: testing.Broker) -> None:
    connection = opened(broker)
    connection.channel(1).basic_consume('jobs', callback=print)
    connection.forget('queue', 'jobs')
    broker.restart(keep='nothing')
    while not connection.stats()['recoveries']:  # no function that would keep the connection
        greenlets.sleep(0.003)
    known = weakref.ref(connection)
    with pytest.warns(ResourceWarning, match='never closed'):
        del connection
        greenlets.wait_until(lambda: gc.collect() is None or known() is None)
    assert known() is None


class Observer:
    """Learns of opened connections, as a collector of metrics does, and raises once."""

    def __init__(self, error: BaseException) -> None:
        self.errors = [error]

    def opened(self, connection: object) -> None:
        if self.errors:
            raise self.errors.pop()


class Interruption(BaseException):
    """As a signal handler may raise it, wherever the program is."""


@pytest.mark.parametrize('error', [ValueError('of a collector'), Interruption()], ids=['error', 'interruption'])
def test_who_raises_when_it_is_open_again_costs_no_connection(
    broker: testing.Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    with opened(broker) as connection:
        got: list[bytes] = []
        connection.channel(1).subscribe('jobs', lambda message: got.append(message.body))
        observer = Observer(error)
        monkeypatch.setattr(stats, 'observers', [weakref.WeakMethod(observer.opened)])
        broker.cut()
        greenlets.wait_until(lambda: not observer.errors and connection.state == 'open')
        connection.channel(1).publish(b'x', routing_key='jobs').wait()
        greenlets.wait_until(lambda: got == [b'x'])
        numbers = connection.stats()
        assert numbers['recovering'] == 0 and numbers['recoveries'] == 1
        assert numbers['outages'] == 1 + isinstance(error, Interruption)
        assert ('the metrics learn nothing of' in caplog.text) == isinstance(error, ValueError)
        assert inside.recoveries(connection) == 0
    broker.wait_until(lambda: not broker.connections)


def test_a_filter_of_the_log_that_raises_ends_no_recovery(
    broker: testing.Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def raising(record: logging.LogRecord) -> bool:
        asked.append(record.levelname)
        raise ValueError('of a filter')

    logger = logging.getLogger('gamqp.recovery')
    level = logger.level
    logger.addFilter(raising)
    logger.setLevel(logging.INFO)
    try:
        with opened(broker) as connection:
            broker.refuse('connection.open', 530)
            broker.cut()
            greenlets.wait_until(lambda: connection.stats()['recoveries'])
    finally:
        logger.removeFilter(raising)
        logger.setLevel(level)
    assert asked == ['WARNING', 'INFO'] and capsys.readouterr().err.count('\nValueError: of a filter') == 2


class WaitingHandler(logging.Handler):
    """Of the log: each record waits until it is let go, as one that is sent to a server which does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.gate = green.Event(greenlets.backend)

    def handle(self, record: logging.LogRecord) -> bool:
        self.lines.append(record.getMessage())
        self.gate.wait()
        return True


@pytest.fixture
def waiting() -> Iterator[WaitingHandler]:
    handler, logger = WaitingHandler(), logging.getLogger('gamqp')
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    handler.gate.set()
    logger.removeHandler(handler)
    logger.setLevel(level)


def fail(*args: Any) -> Any:
    raise LookupError('no')


def test_a_log_handler_that_waits_holds_no_recovery(broker: testing.Broker, waiting: WaitingHandler) -> None:
    """All that is to be said is said in its order when it waits no more."""
    settings = Recovery(**QUICK, keep=fail, on_record_error=fail)
    with opened(broker, recover=settings) as connection:
        got: list[bytes] = []
        connection.channel(1).subscribe('jobs', lambda message: (got.append(message.body), message.ack()))
        broker.refuse('connection.open', 530)
        broker.refuse('basic.consume', 404, queue='jobs')  # it starts late, too
        lose(broker, connection)
        greenlets.wait_until(lambda: connection.state == 'open')
        connection.channel(1).publish(b'x', routing_key='jobs').wait()
        greenlets.wait_until(lambda: got == [b'x'])
        lose(broker, connection)
        greenlets.wait_until(lambda: connection.stats()['recoveries'] == 2)
        assert len(waiting.lines) == 1
        waiting.gate.set()
        wanted = 'was lost', 'attempt 1', 'keep has', 'keep has', 'on_record_error', 'open again', 'was lost'
        wanted += 'keep has', 'keep has', 'open again'
        greenlets.wait_until(lambda: len(waiting.lines) == len(wanted), what=str(waiting.lines))
        for text, line in zip(wanted, waiting.lines, strict=True):
            assert text in line
