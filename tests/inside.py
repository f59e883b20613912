"""What tests look at, or change, behind the public names of gamqp: the only file of the tests that knows such names.

Where there is a public way (``stats()``, an event, what the peer gets, what the broker's management says) tests take
that. What is here has none: a state that has to be reached before the next step, or that has to be empty at the end.
Does not belong here: what a test could ask the public interface. ``test_inside.py`` holds the tests to it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import greenlet

if TYPE_CHECKING:  # programs of the tests import gamqp when they are ready for it
    import gamqp
    from gamqp import testing
    from gamqp.connection.event_queue import EventQueue
    from gamqp.connection.flow_control import FlowControl
    from gamqp.connection.hosts import Hosts
    from gamqp.connection.receive_backpressure import ReceiveBackpressure
    from gamqp.connection.unfinished_handlers import UnfinishedHandlers
    from gamqp.io.hub_monitor import HubMonitor
    from gamqp.io.link import Link
    from gamqp.io.writer import Writer
    from gamqp.state.connection_settings import Settings
    from gamqp.state.host_order import HostOrder
    from gamqp.state.receive_budget import ReceiveBudget
    from gamqp.state.topology_registry import TopologyRegistry
    from gamqp.testing.state.server import Server
    from gamqp.testing.state.topic_trie import TopicTrie
    from gamqp.transport import TCPTransport

# -- a connection: what has arrived ------------------------------------------------------------------------------


def event_queue(connection: gamqp.Connection) -> EventQueue:
    """What waits for drain_events, and who is in it."""
    return connection._event_queue


def waiting_events(connection: Any) -> int:
    """How many entries wait for drain_events; void ones count. Of a connection, or an EventQueue by itself."""
    events = getattr(connection, '_event_queue', connection)
    return len(events._events) + len(events._older)


def unfinished_handlers(connection: gamqp.Connection) -> UnfinishedHandlers:
    """Who waits until handlers have finished: ``draining``, ``in_drain``, ``retiring``."""
    return connection._unfinished_handlers


def backpressure(connection: gamqp.Connection) -> ReceiveBackpressure:
    """The memory for what is undelivered."""
    return connection._backpressure


def budget(connection: gamqp.Connection) -> ReceiveBudget:
    """What is undelivered, and how much may be: of the present socket, so a test may keep it beyond the end."""
    return connection._backpressure.budget


def overflow(connection: gamqp.Connection) -> Any:
    """What is undelivered and on disk; None while nothing is."""
    return connection._backpressure.overflow


def waits_for_answers(memory: ReceiveBackpressure) -> int:
    """How many greenlets wait for something of the broker, for whose sake the connection is read on."""
    return memory.waits


def warn_of_full_memory_again(connection: gamqp.Connection) -> None:
    """As if the last warning were a minute old."""
    connection._backpressure._warn_at = 0.0


def reads(connection: gamqp.Connection) -> bool:
    """Whether the reader reads, and does not wait for room."""
    return connection._link.listening


def frame_is_unfinished(connection: gamqp.Connection) -> bool:
    """Whether a part of a frame has been read."""
    return bool(connection._link.decoder.pending)


def heartbeats_read(connection: gamqp.Connection) -> int:
    return int(connection._link.decoder.heartbeats)


def peer_memory(connection: gamqp.Connection) -> Any:
    """What the peer can make this connection hold: ``limit``, ``held``."""
    return connection._peer_memory


# -- a connection: its link ----------------------------------------------------------------------------------------


def link(connection: gamqp.Connection) -> Link:
    return connection._link


def transport(connection: gamqp.Connection) -> Any:
    """What reads and writes the socket."""
    return connection._link.transport


def writer(connection: gamqp.Connection) -> Writer:
    return connection._link.writer


def failure_of_writing(connection: gamqp.Connection) -> BaseException | None:
    """What the sending thread has met, and no call has raised yet."""
    return connection._link.writer._failure


def has_asked_sending_thread(connection: gamqp.Connection) -> bool:
    """Whether the sending thread is to look after what is queued."""
    return bool(connection._link.writer._hub_writers._listed)


def writers_of_sending_thread() -> int:
    """How many writers the sending thread looks after, of all connections."""
    from gamqp.io.send_thread import send_thread

    return len(send_thread._held)


def reader_greenlet(connection: gamqp.Connection) -> Any:
    return connection._link._reader


def heartbeat_greenlet(connection: gamqp.Connection) -> Any:
    return connection._link._heartbeat


def seem_idle(connection: gamqp.Connection, heard: float = 0, sent: float = 0) -> None:
    """As if nothing had come from the peer, or gone to it, for so many seconds more."""
    connection._link.heartbeat_clock.heard_at -= heard
    connection._link.heartbeat_clock.sent_at -= sent


def hub_monitor(connection: gamqp.Connection) -> HubMonitor:
    """What looks how late the hub is."""
    return connection._link.hub_monitor


def is_watching(monitor: HubMonitor) -> bool:
    return monitor._timer is not None


def blamed(monitor: HubMonitor) -> Any:
    """Where the thread of the hub was when the sending thread looked what holds it; None if it had no reason to."""
    return monitor._seen


def let_hub_seem_overdue(connection: gamqp.Connection, since: float) -> None:
    """As if the hub should have had a turn at *since*, of time.monotonic()."""
    connection._link.hub_monitor._due = since


# -- a connection: the rest ------------------------------------------------------------------------------------------


def flow_control(connection: gamqp.Connection) -> FlowControl:
    """When a publish has to wait, or to let the hub run."""
    return connection._flow_control


def calls_about_blocking(flow: FlowControl) -> list[Any]:
    """The greenlets in on_blocked and on_unblocked."""
    return list(flow._callers)


def closes_due(connection: gamqp.Connection) -> set[int]:
    """Numbers of channels that have ended without an answer to their close."""
    return connection._closes_due


def record_topology(connection: gamqp.Connection) -> TopologyRegistry:
    """Have the connection record what it declares, as one that recovers does. Returns the records."""
    from gamqp.state.topology_registry import TopologyRegistry

    connection._topology = TopologyRegistry()
    return connection._topology


def consumer_being_started(channel: gamqp.Channel, tag: str) -> Any:
    """What will be recorded of a consumer when its consume-ok has come."""
    (expected,) = channel._replies._tagged[tag]
    return expected.consumer


def ask(channel: gamqp.Channel, sig: tuple[int, int], args: tuple[Any, ...]) -> Any:
    """Send a method as it stands, and return the arguments of its reply."""
    return channel._call(sig, args)


def queue_types(connection: gamqp.Connection) -> Any:
    """What the connection knows of queues."""
    return connection._queue_types


def kill_recovery(connection: gamqp.Connection) -> None:
    """Kill the greenlet that opens the connection again, as a program might that kills all."""
    engine: Any = connection._recovery
    connection._green.kill(engine._greenlet)


def hosts(connection: gamqp.Connection) -> Hosts:
    """Where it connects to."""
    return connection._hosts


def connection_to(hosts: Hosts) -> gamqp.Connection:
    """One to these, not connected yet."""
    from gamqp.connection import by_uri

    return by_uri.connection_to(hosts)


def host_settings(connection: gamqp.Connection) -> Settings:
    """The arguments that go with the host that is in use."""
    return connection._host_settings


def addresses_in_order(transport: TCPTransport, deadline: Any) -> list[Any]:
    """Those of its host, as they would be tried."""
    return transport._resolve(deadline)


def remembered_failures(order: HostOrder) -> int:
    """Of how many hosts it knows that they have failed."""
    return len(order._failed)


def recoveries(connection: gamqp.Connection) -> int:
    """How many greenlets are at work to open this connection again: never more than one."""
    engine: Any = connection._recovery
    frames = (one.gr_frame for one in gc.get_objects() if isinstance(one, greenlet.greenlet) and not one.dead)
    code, count = type(engine)._run.__code__, 0
    for frame in frames:
        while frame is not None:
            if frame.f_code is code and frame.f_locals['self'] is engine:
                count += 1
                break
            frame = frame.f_back
    return count


def settings(connection: gamqp.Connection) -> Settings:
    """The arguments that it was made with."""
    return connection._settings


def thread_of(connection: gamqp.Connection) -> int | None:
    """Where it belongs."""
    return connection._affinity.thread


def heartbeat_needs_patching() -> bool:
    """Whether heartbeat=None means none in a process that is not patched."""
    import gamqp

    return gamqp.Connection._heartbeat_needs_patching


def tracing(connection: gamqp.Connection) -> Any:
    """What makes spans for this connection."""
    return connection._tracing


def traces(connections: type[gamqp.Connection]) -> bool:
    """Whether something makes spans for all connections of a class."""
    return connections._tracing is not None


def keeps_no_password(connection: gamqp.Connection) -> bool:
    """Whether nothing is left of what callable passwords gave."""
    return connection._passwords.is_empty


def renews_secret(connection: gamqp.Connection) -> bool:
    return connection._while_open.renewal is not None


def looks_for_unacked(connection: gamqp.Connection) -> bool:
    """Whether there is a consumer that may use its prefetch up."""
    return connection._while_open.unacked is not None


def look_for_unacked(connection: gamqp.Connection, now: float) -> None:
    """What the timer does every few seconds, at a time *now* of time.monotonic()."""
    watch = connection._while_open.unacked
    assert watch is not None
    for _ in watch._walk(connection, now):
        pass


def timer_of_unacked(connection: gamqp.Connection) -> Callable[[], Any]:
    """What returns the timer of those looks, also when the connection has ended."""
    watch: Any = connection._while_open.unacked
    return lambda: watch._timer


def timer_of_metrics(connection: gamqp.Connection) -> Callable[[], Any]:
    """What returns the timer of the metrics hook, and keeps no connection alive."""
    reporter = connection._while_open.reporter
    return lambda: reporter._timer


def metrics_names() -> list[str]:
    """The names of connections whose sums are remembered."""
    from gamqp.telemetry import stats

    return list(stats._names)


def forget_metrics_names() -> None:
    """As in a new process."""
    from gamqp.telemetry import stats

    stats._names.clear()


def make_ready(connection: gamqp.Connection, backend: Any) -> None:
    """Let a connection that is not open belong to this thread, as an open one does."""
    from gamqp.connection.thread_affinity import ThreadAffinity

    connection._affinity = ThreadAffinity(backend)
    connection._green = backend


def of_kombu(connection: Any) -> gamqp.Connection:
    """The connection of a kombu.Connection, whose attribute ``connection`` may connect again."""
    found: gamqp.Connection = connection._connection
    return found


# -- a channel ------------------------------------------------------------------------------------------------------


def unacked(channel: gamqp.Channel) -> Any:
    """Delivery tag -> (consumer tag, when it came) of what is to be settled."""
    return channel._unacked


def oldest_unacked(channel: gamqp.Channel) -> tuple[int, str] | None:
    """(delivery tag, consumer tag) of the delivery that waits longest."""
    oldest = channel._oldest_unsettled()
    return None if oldest is None else oldest[:2]


def can_be_settled(message: gamqp.Message) -> bool:
    return bool(message.channel._awaits_settlement(message))


def incarnation(one: gamqp.Channel | gamqp.Message) -> int:
    """How often a channel has made all its delivery tags void: reopened, or told to recover. Of a message: by then."""
    return one._incarnation


def set_incarnation(message: gamqp.Message, number: int) -> None:
    """As if it had come when its channel had that one."""
    message._incarnation = number


def consumers(channel: gamqp.Channel) -> Any:
    """Consumer tag -> what the channel knows of it."""
    return channel._consumers


def queue_of(channel: gamqp.Channel, consumer_tag: Any) -> str:
    return channel._queue_of(consumer_tag)


def last_declared(channel: gamqp.Channel) -> str:
    """The queue that a call without a name means."""
    return channel._declared


def prefetch(channel: gamqp.Channel) -> Any:
    return channel._prefetch


def unheard_ends(channel: Any) -> int:
    """How often a channel, or that of a receipt, has ended and some of its publishers have not got the reason yet."""
    return len(channel._confirms.endings)


def mandatory_publishes(channel: gamqp.Channel) -> list[Any]:
    """What the channel keeps of publishes that may come back."""
    outstanding = channel._outstanding
    mandatory = None if outstanding is None else outstanding._mandatory
    return [] if mandatory is None else list(mandatory._by_key)


def observed_publishes(channel: gamqp.Channel) -> int:
    """How many publishes have an observer that waits for their confirm."""
    outstanding = channel._outstanding
    return 0 if outstanding is None else len(outstanding._observers or ())


def waits_for_confirms(channel: gamqp.Channel) -> bool:
    """Whether a greenlet is in wait_for_confirms."""
    return bool(channel._confirms is not None and channel._confirms.has_barriers)


def has_unraised_error(channel: gamqp.Channel) -> bool:
    """Whether an error of the broker waits for the next call."""
    return channel._unraised is not None


def handler_calls(channel: gamqp.Channel) -> Any:
    """The due calls of event handlers, made where there are none yet."""
    return channel._due_calls


def has_no_handler_calls(channel: gamqp.Channel) -> bool:
    return channel._event_handler_calls is None


def consumer_is_waited_for(channel: gamqp.Channel) -> bool:
    """Whether a loop waits for its next message, or a greenlet for the end of a consumer of ``subscribe``."""
    return any(inbox.waiting if hasattr(inbox, 'waiting') else inbox._idle for inbox in channel._inboxes())


def purge(channel: gamqp.Channel, queue: str, timeout: float) -> Any:
    """queue.purge with a time limit of its own."""
    from gamqp.wire.spec import Queue

    return channel._call(Queue.Purge, (0, queue, False), timeout=timeout)


def method_arrives(channel: gamqp.Channel, sig: tuple[int, int], *args: Any) -> None:
    """What the reader does, now: a method of the broker."""
    channel._on_method(sig, args)


def message_arrives(channel: gamqp.Channel, message: gamqp.Message) -> None:
    """What the reader does, now: a delivery."""
    channel._on_content(message)


def looks_at_void(channel: gamqp.Channel, monkeypatch: Any) -> list[int]:
    """A list that gets an item for each look at whether a message has become void; some may have from now on."""
    from gamqp.state.void_deliveries import VoidDeliveries

    looks: list[int] = []
    covers = VoidDeliveries.covers

    def counted(*args: Any) -> bool:
        looks.append(1)
        return covers(*args)

    monkeypatch.setattr(VoidDeliveries, 'covers', counted)
    channel._doubt()
    return looks


def channel_noting_cancels(note: Callable[[], None]) -> type[gamqp.Channel]:
    """A class of channels that call *note* for each basic.cancel that goes out."""
    import gamqp

    class NotingChannel(gamqp.Channel):
        def _ask_to_cancel(self, tag: str, wait: bool = False) -> Any:
            note()
            return super()._ask_to_cancel(tag, wait)

    return NotingChannel


# -- consumers, pools, and what stands by itself ----------------------------------------------------------------------


def inbox(holder: gamqp.Consumer | gamqp.Deliveries) -> Any:
    """What the channel holds of it: ``messages``, ``spooled``, ``busy``, ``waiting`` of an iterator."""
    return holder._inbox


def has_ended(holder: gamqp.Consumer | gamqp.Deliveries) -> bool:
    """Whether nothing more will arrive for it."""
    return holder._inbox.over


def block_watch(consumer: gamqp.Consumer) -> Any:
    """What looks whether the handler blocks, where that may be; ``armed``: whether it looks at the next messages."""
    return consumer._inbox._blocking


def looks_whether_it_blocks(consumer: gamqp.Consumer) -> bool:
    """Whether the handler is called by what looks at it."""
    return consumer._inbox._run != consumer._inbox.connection._run_handler


def workers(consumer: gamqp.Consumer) -> dict[Any, str]:
    """Worker greenlet -> what it does."""
    return consumer._inbox._workers


def use_failures(consumer: gamqp.Consumer, failures: Any) -> None:
    """Let the consumer count failed deliveries in these."""
    consumer._inbox._failures = failures


def kept_for_requeue(consumer: gamqp.Consumer) -> list[Any]:
    """Takes the failed deliveries whose time to go back has not come."""
    kept = consumer._inbox._kept
    assert kept is not None
    return kept.take_all()


def note_returned_room(note: Callable[[], None], monkeypatch: Any) -> None:
    """Call *note* for each message of an iterator or consumer that frees its room, until the test ends."""
    from gamqp.consuming.inbox import Inbox

    give_back = Inbox._return_budget

    def counted(inbox: Any, size: int) -> None:
        note()
        give_back(inbox, size)

    monkeypatch.setattr(Inbox, '_return_budget', counted)


def waits_for_room(confirms: Any) -> int:
    """How many greenlets wait for room for one more publish."""
    return 0 if confirms._room is None else len(confirms._room)


def waits_for_pause(pause: Any) -> int:
    """How many greenlets wait for the end of a ChannelPause."""
    return len(pause._waiting or ())


def waiter(slot: Any) -> Any:
    """The greenlet that waits for a Slot."""
    return slot._waiter


def note_settled_slots(note: Callable[[Any], None], monkeypatch: Any) -> None:
    """Call *note* with each Slot that gets its result or error, before that, until the test ends."""
    from gamqp.channel.basic_publish import ConfirmSlot
    from gamqp.green.waiting import Slot

    plain_succeed, plain_fail = Slot.succeed, Slot.fail

    def succeed(slot: Slot, value: Any = None) -> None:
        note(slot)
        plain_succeed(slot, value)

    def fail(slot: Slot, make_error: Any) -> None:
        note(slot)
        plain_fail(slot, make_error)

    for cls, names in ((Slot, ('succeed', 'fail')), (ConfirmSlot, ('_settle', '_lose'))):
        for name, function in zip(names, (succeed, fail), strict=True):
            monkeypatch.setattr(cls, name, function)


def pool_tasks(pool: gamqp.Pool) -> list[Any]:
    """The greenlets that connect and open channels."""
    return list(pool._pool_connections._tasks)


def channels_being_settled(pool: gamqp.Pool) -> int:
    """Channels that came back, and of which the broker's last word is awaited."""
    return len(pool._pool_connections._settlements)


def forget_blocking_handlers(monkeypatch: Any) -> None:
    """As if the log had named no handler yet."""
    from gamqp.consuming import blocking_handlers

    monkeypatch.setattr(blocking_handlers, '_named', set())


def remembered_by(collector: Any) -> dict[str, int]:
    """Of a Prometheus collector: how many connections, sums and names it keeps."""
    return {name: len(getattr(collector, f'_{name}')) for name in ('fresh', 'known', 'exported', 'labels')}


def connection_opened(collector: Any, connection: gamqp.Connection) -> None:
    """A Prometheus collector learns of a connection."""
    collector._opened(connection)


def forget_spans() -> None:
    """What a forked child does."""
    from gamqp.telemetry import opentelemetry_spans

    opentelemetry_spans._forget_all()


def end_spans() -> None:
    """What the end of the process does."""
    from gamqp.telemetry import opentelemetry_spans

    opentelemetry_spans._end_all()


def use_propagators(monkeypatch: Any) -> None:
    """Let headers be written by the propagators of OpenTelemetry, as if they were not the default ones."""
    from gamqp.telemetry import opentelemetry_propagation

    monkeypatch.setattr(opentelemetry_propagation, '_propagates_plainly', lambda textmap: False)


def server(broker: testing.Broker | testing.Cluster) -> Server:
    """The state of a broker for tests."""
    return broker._server


def broker_lock(broker: testing.Broker | testing.Cluster) -> Any:
    """Under which the state of a broker for tests does not change."""
    return broker._io.lock


def is_empty(trie: TopicTrie) -> bool:
    """Whether nothing is left of the patterns that were added."""
    return not trie._root.children


def tls_contexts() -> list[Any]:
    """The options of which the TLS contexts are kept."""
    from gamqp.transport import tls_context

    return list(tls_context._made)


def spool_segments(spool_file: Any) -> list[Any]:
    return spool_file._segments


def resting_ids(ids: Any) -> int:
    """How many free channel numbers wait until they are used again."""
    return len(ids._rested)


def ends_of_ranges(tags: Any) -> list[int]:
    """Of TagRanges: how many ends each of its lists has."""
    return [len(ends) for ends in (tags._ends, *(tags._more or ()))]


def barriers(confirms: Any) -> int:
    """Of the state of confirms: how many wait for all."""
    return len(confirms._barriers)


def compacted_at(confirms: Any) -> int:
    """Of the state of confirms: how many were settled when it last made its dict anew."""
    return int(confirms._compact)


# -- what the bytes say of a message ---------------------------------------------------------------------------------


def channel_id_of(content: Any) -> int:
    """The number of the channel that it came by."""
    return int(content._channel_id)


def method_of(content: Any) -> Any:
    """The numbers of the method that brought it; None when it was made locally."""
    return content._method


def size_of(content: Any) -> int:
    """Bytes of the body."""
    return int(content._size)


def weight_of(content: Any) -> int:
    """What it counts against the memory limits."""
    return int(content._weight)


def auto_decode(content: Any) -> None:
    """Have a body that names its encoding given as text."""
    content._auto_decode = True


def header_of(content: Any) -> bytes:
    """The bytes of its properties as they arrived."""
    return bytes(content._header_payload)


def decodes(content: Any) -> bool:
    """Whether that is so."""
    return bool(content._auto_decode)


def without_format_of_acks(monkeypatch: Any, wire: Any) -> None:
    """Acks, nacks and rejects cannot be encoded by Python's ``struct`` any more."""
    monkeypatch.setattr(wire.methods, '_SETTLE', None)


def locks_between_threads(connection: gamqp.Connection, broker: testing.Broker, view: Any) -> dict[str, Any]:
    """The locks that a thread of the system and a hub both take, by what they guard."""
    from gamqp import prometheus
    from gamqp.io.send_thread import send_thread

    return {
        'send thread': send_thread._guard.lock,
        'prometheus': prometheus._guard.lock,
        'transport': transport(connection).guard,
        'broker': broker._io.lock,
        'view': view._lock,
    }
