"""Other threads of the operating system: they are refused before anything has changed, or go through run_in_hub.

The tests' own process is not monkey-patched, so ``threading`` is the real thing here.
"""

from __future__ import annotations

import gc
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import broker_tools
import greenlet
import greenlets
import inside
import pytest
from script import ScriptedBroker

import gamqp
from gamqp import exceptions
from gamqp.connection.event_queue import EventQueue
from gamqp.connection.flow_control import FlowControl
from gamqp.connection.receive_backpressure import ReceiveBackpressure
from gamqp.connection.thread_affinity import NOWHERE, ThreadAffinity
from gamqp.connection.unfinished_handlers import UnfinishedHandlers
from gamqp.connection.work_in_turns import WorkInTurns
from gamqp.io.send_thread import send_thread


def refused(call: Callable[[], Any]) -> bool:
    """Whether a call from another thread is refused."""
    error = broker_tools.raised(broker_tools.in_thread, call)
    assert isinstance(error, exceptions.WrongThread), error
    assert 'run_in_hub' in str(error)
    assert '(MainThread)' in str(error)
    return True


OF_CHANNELS: dict[str, Callable[[Any], Any]] = {
    'basic_ack': lambda ch: ch.basic_ack(1),
    'basic_ack all': lambda ch: ch.basic_ack(0, multiple=True),
    'basic_nack': lambda ch: ch.basic_nack(1),
    'basic_reject': lambda ch: ch.basic_reject(1, True),
    'basic_recover': lambda ch: ch.basic_recover(True),
    'basic_recover_async': lambda ch: ch.basic_recover_async(True),
    'basic_publish': lambda ch: ch.basic_publish(gamqp.Message(b'x'), '', 'q'),
    'publish': lambda ch: ch.publish(b'x', routing_key='q'),
    'basic_publish_confirm': lambda ch: ch.basic_publish_confirm(gamqp.Message(b'x'), '', 'q'),
    'basic_publish text': lambda ch: ch.basic_publish(gamqp.Message('x'), '', 'q', timeout=1),
    'confirm_select': lambda ch: ch.confirm_select(),
    'confirm_select nowait': lambda ch: ch.confirm_select(nowait=True),
    'wait_for_confirms': lambda ch: ch.wait_for_confirms(),
    'basic_consume': lambda ch: ch.basic_consume('q', 'new', callback=print),
    'basic_consume nowait': lambda ch: ch.basic_consume('q', 'new', callback=print, nowait=True),
    'consume': lambda ch: next(iter(ch.consume('q', prefetch=3))),
    'subscribe': lambda ch: ch.subscribe('q', print, prefetch=3),
    'basic_cancel': lambda ch: ch.basic_cancel('tag'),
    'basic_get': lambda ch: ch.basic_get('q'),
    'basic_qos': lambda ch: ch.basic_qos(0, 7, False),
    'basic_qos global': lambda ch: ch.basic_qos(0, 7, True),
    'flow': lambda ch: ch.flow(True),
    'queue_declare': lambda ch: ch.queue_declare('q'),
    'queue_declare nowait': lambda ch: ch.queue_declare('q', nowait=True),
    'queue_bind': lambda ch: ch.queue_bind('q', 'x', 'k'),
    'queue_unbind': lambda ch: ch.queue_unbind('q', 'x', 'k'),
    'queue_purge': lambda ch: ch.queue_purge('q'),
    'queue_delete': lambda ch: ch.queue_delete('q'),
    'exchange_declare': lambda ch: ch.exchange_declare('x', 'direct', auto_delete=False),
    'exchange_delete': lambda ch: ch.exchange_delete('x'),
    'exchange_bind': lambda ch: ch.exchange_bind('a', 'b'),
    'exchange_unbind': lambda ch: ch.exchange_unbind('a', 'b'),
    'tx_select': lambda ch: ch.tx_select(),
    'tx_commit': lambda ch: ch.tx_commit(),
    'tx_rollback': lambda ch: ch.tx_rollback(),
    'open': lambda ch: ch.open(),
    'close': lambda ch: ch.close(),
    'close code': lambda ch: ch.close(1, 'x'),
    'collect': lambda ch: ch.collect(),
}

OF_CONNECTIONS: dict[str, Callable[[Any], Any]] = {
    'connect': lambda conn: conn.connect(),
    'channel': lambda conn: conn.channel(),
    'channel open': lambda conn: conn.channel(1),
    'Channel': lambda conn: conn.Channel(conn),
    'drain_events': lambda conn: conn.drain_events(timeout=0.1),
    'drain_events now': lambda conn: conn.drain_events(timeout=0),
    'drain': lambda conn: conn.drain(timeout=0.1),
    'heartbeat_tick': lambda conn: conn.heartbeat_tick(),
    'send_heartbeat': lambda conn: conn.send_heartbeat(),
    'flush': lambda conn: conn.flush(),
    'update_secret': lambda conn: conn.update_secret('new'),
    'close': lambda conn: conn.close(),
    'collect': lambda conn: conn.collect(),
}


#: The objects that a connection is made of, whose state is its own.
PARTS = (EventQueue, UnfinishedHandlers, FlowControl, WorkInTurns, ReceiveBackpressure)


def state_of(thing: Any) -> Any:
    """Everything that it and its parts hold, as text; what would differ anyway is left out."""
    held = vars(thing) if hasattr(thing, '__dict__') else {name: getattr(thing, name) for name in thing.__slots__}
    return {
        name: state_of(value) if isinstance(value, PARTS) else repr(value)
        for name, value in held.items()
        if name not in ('_looked_at', 'unlooked')
    }


@pytest.mark.parametrize('name', OF_CHANNELS)
def test_a_channel_refuses_another_thread_and_nothing_changes(peer: ScriptedBroker, name: str) -> None:
    client = peer.open()
    channel = peer.open_channel(client)
    before = state_of(channel)
    assert refused(lambda: OF_CHANNELS[name](channel))
    assert state_of(channel) == before
    peer.expect_nothing_more(client)


@pytest.mark.parametrize('name', OF_CONNECTIONS)
def test_a_connection_refuses_another_thread_and_nothing_changes(peer: ScriptedBroker, name: str) -> None:
    client = peer.open()
    peer.open_channel(client)
    before = state_of(client), sorted(client.channels)
    assert refused(lambda: OF_CONNECTIONS[name](client))
    assert (state_of(client), sorted(client.channels)) == before
    peer.expect_nothing_more(client)


def test_every_operation_is_asked() -> None:
    """One that is added needs a row."""
    classes = ('basic_', 'confirm_', 'exchange_', 'queue_', 'tx_')
    operations = {name for name in dir(gamqp.Channel) if name.startswith(classes)}
    assert operations <= {name.split()[0] for name in OF_CHANNELS}


def test_a_message_is_settled_in_its_own_thread_only(peer: ScriptedBroker) -> None:
    client = peer.open()
    channel = peer.open_channel(client)
    task = greenlets.spawn(channel.basic_get, 'q')
    peer.expect('basic.get')
    peer.send('basic.get-ok', delivery_tag=1, body=b'x')
    message = task.get()
    assert refused(message.ack)
    message.ack()
    assert peer.expect('basic.ack').delivery_tag == 1


def test_what_only_looks_may_be_asked_from_anywhere(peer: ScriptedBroker) -> None:
    client = peer.open()
    assert broker_tools.in_thread(
        lambda: (client.connected, client.is_alive(), repr(client), client.last_heartbeat_sent)
    )


def test_a_closed_connection_may_be_closed_by_anybody(peer: ScriptedBroker) -> None:
    client = peer.open()
    client.collect()
    broker_tools.in_thread(client.close)
    broker_tools.in_thread(client.collect)
    broker_tools.in_thread(gamqp.Connection('never-opened').close)


# -- run_in_hub ------------------------------------------------------------------------------


def test_a_thread_gets_the_result_of_what_ran_in_the_hub(peer: ScriptedBroker) -> None:
    client = peer.open()
    channel = peer.open_channel(client)

    def call() -> Any:
        return client.run_in_hub(channel.queue_declare, 'q')

    task = greenlets.spawn(broker_tools.in_thread, call)
    assert peer.expect('queue.declare').queue == 'q'
    peer.send('queue.declare-ok', queue='q', message_count=3)
    assert task.get().message_count == 3


def test_it_runs_in_a_greenlet_of_the_hub_and_others_run_meanwhile(peer: ScriptedBroker) -> None:
    client = peer.open()
    ticks: list[float] = []

    def tick() -> None:
        while len(ticks) < 20:
            ticks.append(time.monotonic())
            greenlets.sleep(0.005)

    def there() -> int:
        greenlets.sleep(0.15)
        return threading.get_ident()

    ticking = greenlets.spawn(tick)
    assert broker_tools.in_thread(client.run_in_hub, there) == threading.get_ident()
    ticking.get()
    assert len(ticks) == 20


def test_it_raises_what_the_function_raises(peer: ScriptedBroker) -> None:
    client = peer.open()
    with pytest.raises(ZeroDivisionError):
        broker_tools.in_thread(client.run_in_hub, lambda: 1 / 0)
    client.collect()
    with pytest.raises(exceptions.RecoverableConnectionError, match='closed by this program'):
        broker_tools.in_thread(client.run_in_hub, client.channel)


def test_in_the_own_thread_it_is_a_call(peer: ScriptedBroker) -> None:
    client = peer.open()
    assert client.run_in_hub(greenlet.getcurrent) is greenlet.getcurrent()


def test_before_it_is_connected_there_is_no_hub() -> None:
    with pytest.raises(exceptions.RecoverableConnectionError, match='before it is connected'):
        gamqp.Connection().run_in_hub(print)


def test_many_threads_at_once_each_get_their_own(peer: ScriptedBroker) -> None:
    client = peer.open()
    results: dict[int, list[int]] = {}

    def work(number: int) -> None:
        results[number] = [client.run_in_hub(pow, number, power) for power in range(30)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    greenlets.wait_until(lambda: len(results) == 8)
    for thread in threads:
        thread.join()
    assert results == {number: [number**power for power in range(30)] for number in range(8)}


def test_a_call_that_has_not_begun_in_time_never_does(peer: ScriptedBroker) -> None:
    client = peer.open()
    ran: list[int] = []
    outcome: list[Any] = []

    def call() -> None:
        outcome.append(broker_tools.raised(lambda: client.run_in_hub(ran.append, 1, timeout=0.1)))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(60)  # the hub is held up
    assert isinstance(outcome[0], TimeoutError)
    assert 'it goes on' not in str(outcome[0])
    for _ in range(5):
        greenlets.sleep(0.01)
    assert ran == []


def test_a_call_that_has_begun_goes_on(peer: ScriptedBroker) -> None:
    client = peer.open()
    gate, ran = gamqp.green.Slot(greenlets.backend), []

    def slow() -> None:
        gate.wait(10)
        ran.append(1)

    error = broker_tools.raised(broker_tools.in_thread, lambda: client.run_in_hub(slow, timeout=0.1))
    assert isinstance(error, TimeoutError)
    assert 'it goes on' in str(error)
    gate.succeed()
    greenlets.wait_until(lambda: ran)


def test_a_call_whose_greenlet_is_killed_is_an_error(peer: ScriptedBroker) -> None:
    client = peer.open()
    begun: list[Any] = []

    def slow() -> None:
        begun.append(greenlet.getcurrent())
        greenlets.sleep(10)

    task = greenlets.spawn(lambda: broker_tools.raised(broker_tools.in_thread, client.run_in_hub, slow))
    greenlets.wait_until(lambda: begun)
    greenlets.backend.kill(begun[0])
    assert isinstance(task.get(), greenlet.GreenletExit)


def test_a_hub_that_is_gone_is_an_error_and_not_a_wait() -> None:
    """The connection's thread ends while another one waits for its hub."""
    with Quiet() as quiet:
        client = gamqp.Connection(quiet.host, connect_timeout=0.2)
        tried, asked = threading.Event(), threading.Event()
        outcome: list[Any] = []

        def home() -> None:
            broker_tools.raised(client.connect)  # nobody answers; it has its hub all the same
            tried.set()
            asked.wait(10)

        def call() -> None:
            asked.set()
            outcome.append(broker_tools.raised(lambda: client.run_in_hub(print)))

        threads = [threading.Thread(target=home), threading.Thread(target=call)]
        threads[0].start()
        greenlets.wait_until(tried.is_set)
        threads[1].start()
        greenlets.wait_until(lambda: not any(thread.is_alive() for thread in threads))
        assert isinstance(outcome[0], exceptions.RecoverableConnectionError)
        assert 'has ended' in str(outcome[0])


class Quiet:
    """Takes connections and says nothing."""

    def __enter__(self) -> Quiet:
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.host = f'127.0.0.1:{self._listener.getsockname()[1]}'
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.close()


# -- connections of other threads --------------------------------------------------------------


def test_a_connection_that_is_dropped_in_another_thread_says_goodbye(peer: ScriptedBroker) -> None:
    """It is collected where somebody else's allocation happens to trigger it; its hub notices."""
    held = [peer.open((10, 131072, 1), heartbeat_thread=True)]
    gone = weakref.ref(held[0])
    drop_elsewhere(peer, held)
    assert gone() is None
    peer.agree_to_close()
    greenlets.wait_until(lambda: not send_thread.beats)


@pytest.mark.parametrize('heartbeat', [0, 600])
def test_its_hub_hears_at_once_that_it_was_dropped_heartbeats_or_not(peer: ScriptedBroker, heartbeat: int) -> None:
    held = [peer.open((10, 131072, heartbeat), heartbeat=heartbeat)]
    link = inside.link(held[0])
    drop_elsewhere(peer, held)
    assert link.owner() is None
    assert peer.agree_to_close().reply_text == 'abandoned'
    greenlets.wait_until(lambda: link.reason is not None)


def drop_elsewhere(peer: ScriptedBroker, held: list[Any]) -> None:
    """Have another thread drop and collect the connection, of which *held* is the last reference."""
    peer.let_go()

    def drop() -> None:
        held.clear()
        gc.collect()

    with pytest.warns(ResourceWarning, match='never closed'):
        broker_tools.in_thread(drop)


def test_a_connection_may_be_opened_again_in_another_thread(peer: ScriptedBroker) -> None:
    client = peer.open()
    first = inside.thread_of(client)
    client.collect()
    client.connect_timeout = 0.2
    broker_tools.raised(broker_tools.in_thread, client.connect)  # the peer does not answer, but it has a new home now
    assert inside.thread_of(client) != first


# -- the object by itself -----------------------------------------------------------------------


def test_a_connection_that_was_never_connected_belongs_to_no_thread() -> None:
    NOWHERE.check()
    assert not NOWHERE.is_here()
    NOWHERE.call_later(lambda: pytest.fail('there is no hub to call it'))
    with pytest.raises(exceptions.RecoverableConnectionError, match='no hub before it is connected'):
        NOWHERE.run(print, (), None)


def test_it_belongs_to_the_thread_that_made_it_for_good() -> None:
    affinity = ThreadAffinity(greenlets.backend)
    affinity.check()
    assert affinity.is_here()
    assert affinity.run(lambda one: one + 1, (1,), None) == 2
    assert refused(affinity.check)
    assert broker_tools.in_thread(affinity.is_here) is False
    assert affinity.thread == threading.get_ident()


def test_a_call_for_later_is_made_in_the_hub() -> None:
    affinity, called = ThreadAffinity(greenlets.backend), []
    broker_tools.in_thread(lambda: affinity.call_later(lambda: called.append(threading.get_ident())))
    greenlets.wait_until(lambda: called)
    assert called == [affinity.thread]
