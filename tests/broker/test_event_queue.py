"""EventQueue by itself: order, who is in a callback, and what becomes of messages that nobody gets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import greenlets
import inside
import pytest

from gamqp import green
from gamqp.connection.event_queue import EventQueue
from gamqp.connection.flow_control import FlowControl
from gamqp.connection.receive_backpressure import ReceiveBackpressure
from gamqp.connection.thread_affinity import NOWHERE
from gamqp.connection.unfinished_handlers import UnfinishedHandlers
from gamqp.connection.work_in_turns import WorkInTurns
from gamqp.green.yielding import AT_ONCE
from gamqp.state.consumers import ConsumerRecord
from gamqp.state.counters import Counters
from gamqp.state.receive_budget import ReceiveBudget
from gamqp.state.void_deliveries import VoidDeliveries
from gamqp.telemetry import tracing


@pytest.fixture(autouse=True)
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another test may have installed a tracer, which asks a message for more than those here have."""
    monkeypatch.setattr(tracing, 'installed', False)


class Owner:
    """What these objects ask of a connection."""

    spool = False
    _affinity = NOWHERE

    def __init__(self) -> None:
        self.memory = ReceiveBackpressure(self, ReceiveBudget(10 * AT_ONCE, 0))
        self.flow = FlowControl(self, Counters(), self.memory)
        self.walks = WorkInTurns()
        self._event_queue = EventQueue(self, self.memory, self.walks)
        self._unfinished_handlers = UnfinishedHandlers(self, self._event_queue, self.flow)
        for part in (self.walks, self.memory, self.flow, self._event_queue):
            part.begin(green.backend())
        self.link = self.flow.link = self._event_queue.link = SimpleNamespace(reason=None)

    def _check_open(self, link: Any = None) -> None:
        pass


class Descriptor:
    """What a foreign event loop would poll."""

    is_shown = False

    def show(self, is_shown: bool) -> None:
        self.is_shown = is_shown


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def events(owner: Owner) -> EventQueue:
    return owner._event_queue


def consumer(tag: str, callback: Any) -> ConsumerRecord:
    return ConsumerRecord(tag, callback, None, False, None)


def message(number: int = 1) -> Any:
    return SimpleNamespace(_weight=10, number=number, channel=SimpleNamespace(doubtful=False), _channel_id=1)


def test_events_come_in_order_of_arrival_and_free_their_room(owner: Owner, events: EventQueue) -> None:
    got: list[Any] = []
    a, b = (consumer(tag, lambda message: got.append(message.number)) for tag in 'ab')
    events.on_delivery(a, message(1))
    events.on_notice(lambda: got.append('notice') or True)
    events.on_delivery(b, message(2))
    events.on_delivery(a, message(3))
    assert owner.memory.budget.messages == 3 and events.has_events and events.undelivered
    assert sorted(events.holders()) == [(1, 'a', 2), (1, 'b', 1)]
    while events.run_event():
        pass
    assert got == [1, 'notice', 2, 3]
    assert (owner.memory.budget.messages, owner.memory.budget.bytes) == (0, 0)
    assert not events.has_events and not events.undelivered


def test_without_notices_they_are_left_for_drain_events(events: EventQueue) -> None:
    got: list[Any] = []
    events.on_notice(lambda: got.append('notice') or True)
    events.on_delivery(consumer('a', got.append), message())
    assert events.run_event(notices=False) and len(got) == 1
    assert not events.run_event(notices=False)
    assert events.run_event() and got[1] == 'notice'


def test_each_greenlet_knows_how_many_callbacks_it_is_in(events: EventQueue) -> None:
    """Also when the callbacks of several greenlets end in another order than they have begun."""
    gates = {name: green.Gate(green.backend()) for name in 'abc'}
    seen: dict[str, list[int]] = {name: [] for name in 'abc'}

    def callback(message: Any) -> None:
        name, inner = message.number
        seen[name].append(events.callbacks_around())
        if inner:
            events.on_delivery(record, message_of(name, False))
            assert events.run_event()
            seen[name].append(events.callbacks_around())
        else:
            gates[name].wait(None)

    def message_of(name: str, inner: bool) -> Any:
        one = message()
        one.number = name, inner
        return one

    record = consumer('tag', callback)
    tasks = {}
    for name in 'abc':
        events.on_delivery(record, message_of(name, True))
        tasks[name] = greenlets.spawn(events.run_event)
        greenlets.wait_until(lambda name=name: len(gates[name]))
    assert events.handlers_running == 6 and events.callbacks_around() == 0
    for left, name in ((4, 'a'), (2, 'c'), (0, 'b')):  # the first one, the last one, the one between
        gates[name].wake_all()
        tasks[name].get()
        assert events.handlers_running == left
    assert seen == {name: [1, 2, 1] for name in 'abc'}


def test_a_callback_that_raises_is_left_all_the_same(events: EventQueue) -> None:
    def fail(message: Any) -> None:
        assert events.callbacks_around() == 1
        raise LookupError

    events.on_delivery(consumer('a', fail), message())
    with pytest.raises(LookupError):
        events.run_event()
    assert events.callbacks_around() == events.handlers_running == 0


def test_a_greenlet_that_waits_gets_the_next_event(events: EventQueue) -> None:
    got: list[Any] = []
    waiting = greenlets.spawn(events.wait, None)
    greenlets.wait_until(lambda: events.drainers_idle == 1)
    events.on_delivery(consumer('a', got.append), message())
    events.wake_drainers()
    waiting.get()
    assert events.drainers_idle == 0 and events.run_event() and len(got) == 1


def test_what_nobody_gets_frees_its_room_and_its_entries_are_removed(owner: Owner, events: EventQueue) -> None:
    got: list[Any] = []
    leaves, stays = consumer('leaves', got.append), consumer('stays', got.append)
    leaves.no_ack = True  # so that it is dropped, not given back
    for number in range(2 * AT_ONCE):
        events.on_delivery(leaves, message(number))
    events.on_delivery(stays, message(-1))
    assert events.has_some_of(leaves)
    events.withdraw(leaves)
    assert not events.has_some_of(leaves)
    greenlets.wait_until(lambda: owner.memory.budget.messages == 1)
    greenlets.wait_until(lambda: inside.waiting_events(events) == 1)
    assert events.run_event() and [one.number for one in got] == [-1]
    assert not events.run_event()


def test_void_entries_are_removed_also_of_a_consumer_that_gets_more(events: EventQueue) -> None:
    """As after basic.recover. While any stayed, the walk over all of them would begin again without end."""
    got: list[int] = []
    recovered = consumer('recovered', lambda message: got.append(message.number))
    other = consumer('other', lambda message: got.append(message.number))
    channel: Any = SimpleNamespace(_void=VoidDeliveries(), _incarnation=1)
    recovered.inbox = None

    def arrive(to: ConsumerRecord, number: int, incarnation: int) -> None:
        one = message(number)
        one.delivery_tag, one.channel = number, channel
        inside.set_incarnation(one, incarnation)
        events.on_delivery(to, one)

    for number in range(3 * AT_ONCE):
        arrive(recovered, number, 0)
    events.forget_unsettled(channel, [recovered])
    for number in range(1, 101):
        arrive(recovered if number % 2 else other, number, 1)
    greenlets.wait_until(lambda: inside.waiting_events(events) == 100)
    while events.run_event():
        pass
    assert got == list(range(1, 101))


def test_the_descriptor_shows_whether_there_is_something_to_do(events: EventQueue) -> None:
    descriptor: Any = Descriptor()
    events.link = SimpleNamespace(resuming=False, transport=SimpleNamespace(retire=lambda: None))
    events.descriptor = descriptor
    events.show()
    assert not descriptor.is_shown
    events.on_notice(lambda: True)
    assert descriptor.is_shown
    events.run_event()
    assert not descriptor.is_shown
    events.loss_unraised = True
    events.show()
    assert descriptor.is_shown
    events.check_drainable()  # drain_events has raised the loss
    assert events.descriptor is None and not events.loss_unraised


def test_whoever_waits_until_callbacks_have_finished_hands_out_itself(owner: Owner, events: EventQueue) -> None:
    got: list[Any] = []
    record = consumer('a', got.append)
    for number in range(3):
        events.on_delivery(record, message(number))
    assert owner._unfinished_handlers.wait_until(owner.link, lambda: not events.undelivered, green.Deadline(10))
    assert len(got) == 3 and events.finish_awaited == 0
    assert not owner._unfinished_handlers.wait_until(owner.link, lambda: False, green.Deadline(0))


def test_a_walk_that_is_gathered_is_done_at_the_start(owner: Owner) -> None:
    done: list[str] = []

    def walk(name: str) -> Any:
        for _ in range(AT_ONCE - 1):
            done.append(name)
            yield

    owner.walks.add(walk('at once'))
    assert len(done) == AT_ONCE - 1
    owner.walks.gather()
    owner.walks.add(walk('first'))
    owner.walks.add(walk('second'))
    assert 'first' not in done
    owner.walks.start()
    assert done.count('first') == AT_ONCE - 1 and done.count('second') == 1  # 1000 steps, the rest in later turns
    greenlets.wait_until(lambda: done.count('second') == AT_ONCE - 1)
