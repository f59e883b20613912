"""When the span of a publish ends, and what is measured: with its confirm, or, without confirms, when it is sent."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import greenlet
import greenlets
import inside
import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import StatusCode
from script import ScriptedBroker

import gamqp
from gamqp import exceptions, green, opentelemetry
from gamqp.telemetry import opentelemetry_names as names
from gamqp.telemetry import opentelemetry_publishes


class Recorder(SpanProcessor):
    """A span processor, with the spans that have ended. on_end may be given something to do first."""

    def __init__(self) -> None:
        self.ended: list[ReadableSpan] = []
        self.first: Callable[[], Any] = lambda: None

    def on_end(self, span: ReadableSpan) -> None:
        self.first()
        self.ended.append(span)

    def outcomes(self) -> list[Any]:
        """error.type of each span that has ended, None where there is none."""
        return [(span.attributes or {}).get('error.type') for span in self.ended]


class Meter:
    """A meter provider, and what was recorded."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])

    def points(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        found: dict[str, list[Any]] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                assert (scope.scope.name, scope.schema_url) == ('gamqp', names.SCHEMA_URL)
                for metric in scope.metrics:
                    assert (metric.unit, metric.description) == names.METRICS[metric.name]
                    found[metric.name] = list(metric.data.data_points)
        return found

    def counts(self, name: str) -> dict[Any, int]:
        """error.type, None where there is none -> how many."""
        return {
            point.attributes.get('error.type'): getattr(point, 'count', None) or point.value
            for point in self.points().get(name, ())
        }


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def meter() -> Iterator[Meter]:
    meter = Meter()
    yield meter
    meter.provider.shutdown()


@pytest.fixture
def instrumented(client: gamqp.Connection, recorder: Recorder, meter: Meter) -> gamqp.Connection:
    provider = TracerProvider()
    provider.add_span_processor(recorder)
    opentelemetry.instrument(client, provider, meter_provider=meter.provider)
    return client


def publish(peer: ScriptedBroker, channel: gamqp.Channel, count: int = 1, **options: Any) -> list[gamqp.Receipt]:
    receipts = [channel.publish(b'x', 'orders', 'k', **options) for _ in range(count)]
    for _ in receipts:
        peer.expect('basic.publish')
    return receipts


def start_consumer(peer: ScriptedBroker, channel: gamqp.Channel, callback: Callable[[gamqp.Message], Any]) -> None:
    """Consume without acks, as consumer 'c'."""
    consuming = greenlets.spawn(lambda: channel.basic_consume('q', consumer_tag='c', no_ack=True, callback=callback))
    peer.expect('basic.consume')
    peer.send('basic.consume-ok', 1, consumer_tag='c')
    consuming.get()


def wait_for(receipts: list[gamqp.Receipt]) -> list[str]:
    """The outcome of each."""
    greenlets.wait_until(lambda: all(receipt.done for receipt in receipts))
    return [receipt.state for receipt in receipts]


def test_it_lasts_until_the_confirm(
    peer: ScriptedBroker, confirming: gamqp.Channel, instrumented: gamqp.Connection, recorder: Recorder, meter: Meter
) -> None:
    receipts = publish(peer, confirming, 4)
    assert recorder.ended == []
    assert meter.points() == {}
    peer.send('basic.ack', delivery_tag=2)
    greenlets.wait_until(lambda: len(recorder.ended) == 1)
    peer.send('basic.nack', delivery_tag=1)
    peer.send('basic.ack', delivery_tag=4, multiple=True)
    assert wait_for(receipts) == ['nacked', 'acked', 'acked', 'acked']
    greenlets.wait_until(lambda: len(recorder.ended) == 4)
    assert recorder.outcomes() == [None, names.NACKED, None, None]
    assert recorder.ended[1].status.status_code is StatusCode.ERROR
    assert f'{exceptions.MessageNacked.__module__}.{exceptions.MessageNacked.__name__}' == names.NACKED
    for name in (names.SENT_MESSAGES, names.OPERATION_DURATION):
        assert meter.counts(name) == {None: 3, names.NACKED: 1}
    point = next(point for point in meter.points()[names.OPERATION_DURATION] if 'error.type' not in point.attributes)
    assert point.explicit_bounds == names.BUCKETS
    assert dict(point.attributes) == {
        'messaging.system': 'rabbitmq',
        'messaging.operation.name': 'publish',
        'messaging.operation.type': 'send',
        'messaging.destination.template': 'orders',
        'server.address': '127.0.0.1',
        'server.port': peer.port,
    }
    lasted = sum((span.end_time or 0) - (span.start_time or 0) for span in recorder.ended) / 1e9
    measured = sum(point.sum for point in meter.points()[names.OPERATION_DURATION])
    assert measured == pytest.approx(lasted, abs=0.05)


def test_what_comes_back_is_told_once(
    peer: ScriptedBroker, confirming: gamqp.Channel, instrumented: gamqp.Connection, recorder: Recorder, meter: Meter
) -> None:
    (receipt,) = publish(peer, confirming, mandatory=True)
    headers = {'traceparent': '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'}
    peer.send(
        'basic.return', reply_code=312, reply_text='NO_ROUTE', exchange='orders', routing_key='k', body=b'x',
        properties={'application_headers': headers},
    )  # fmt: skip
    peer.send('basic.ack', delivery_tag=1)
    assert wait_for([receipt]) == ['returned']
    greenlets.wait_until(lambda: recorder.ended)
    assert recorder.outcomes()[-1] == '312'
    assert meter.counts(names.SENT_MESSAGES) == {'312': 1}


def test_what_comes_back_may_have_names_that_are_no_text(
    peer: ScriptedBroker, channel: gamqp.Channel, instrumented: gamqp.Connection, recorder: Recorder
) -> None:
    headers = {'traceparent': '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'}
    peer.send(
        'basic.return', 1, reply_code=312, reply_text='NO_ROUTE', exchange=b'\xff', routing_key=b'\xfe', body=b'x',
        properties={'application_headers': headers},
    )  # fmt: skip
    greenlets.wait_until(lambda: recorder.ended)
    assert recorder.outcomes() == ['312']
    assert recorder.ended[0].name == r"return b'\xff'"


def test_the_end_of_the_channel_is_the_outcome_of_what_has_no_confirm(
    peer: ScriptedBroker, confirming: gamqp.Channel, instrumented: gamqp.Connection, recorder: Recorder, meter: Meter
) -> None:
    receipts = publish(peer, confirming, 3)
    peer.send('basic.ack', delivery_tag=1)
    peer.send('channel.close', 1, reply_code=404, reply_text='NOT_FOUND', class_id=60, method_id=40)
    peer.expect('channel.close-ok')
    assert wait_for(receipts) == ['acked', 'lost', 'lost']
    greenlets.wait_until(lambda: len(recorder.ended) == 3)
    assert recorder.outcomes() == [None, 'gamqp.exceptions.NotFound', 'gamqp.exceptions.NotFound']
    assert meter.counts(names.SENT_MESSAGES) == {None: 1, 'gamqp.exceptions.NotFound': 2}


def test_without_confirms_it_lasts_until_it_is_handed_over(
    peer: ScriptedBroker, channel: gamqp.Channel, instrumented: gamqp.Connection, recorder: Recorder, meter: Meter
) -> None:
    channel.basic_publish(gamqp.Message('x'), 'orders', 'k')
    assert recorder.outcomes() == [None]
    channel.basic_publish(gamqp.Message('x'), 'orders', 'k', mandatory=True)  # this span waits for a return
    assert meter.counts(names.SENT_MESSAGES) == {None: 2}
    with pytest.raises(exceptions.EncodeError):
        channel.basic_publish(gamqp.Message('x'), 'orders', 'k' * 300)
    assert recorder.outcomes() == [None, 'gamqp.exceptions.EncodeError']
    assert meter.counts(names.SENT_MESSAGES) == {None: 2}
    assert meter.counts(names.OPERATION_DURATION) == {None: 2, 'gamqp.exceptions.EncodeError': 1}


def test_a_span_processor_that_waits_keeps_nobody_else_waiting(
    peer: ScriptedBroker, confirming: gamqp.Channel, instrumented: gamqp.Connection, recorder: Recorder
) -> None:
    gate = green.Event(greenlets.backend)
    recorder.first = gate.wait
    receipts = publish(peer, confirming, 2)
    for tag in (1, 2):
        peer.send('basic.ack', delivery_tag=tag)
    assert wait_for(receipts) == ['acked', 'acked']
    assert recorder.ended == []
    gate.set()
    greenlets.wait_until(lambda: len(recorder.ended) == 2)


def test_a_span_processor_that_raises_keeps_no_other_outcome_back(
    peer: ScriptedBroker, confirming: gamqp.Channel, instrumented: gamqp.Connection, recorder: Recorder
) -> None:
    def fail_once() -> None:
        recorder.first = lambda: None
        raise RuntimeError('the program cannot export this one')

    recorder.first = fail_once
    receipts = publish(peer, confirming, 3)
    peer.send('basic.ack', delivery_tag=3, multiple=True)
    assert wait_for(receipts) == ['acked'] * 3
    greenlets.wait_until(lambda: len(recorder.ended) == 2)


def test_a_span_processor_that_waits_does_so_in_one_greenlet(
    peer: ScriptedBroker, confirming: gamqp.Channel, instrumented: gamqp.Connection, recorder: Recorder
) -> None:
    gate, entered = green.Event(greenlets.backend), []

    def wait() -> None:
        entered.append(None)
        gate.wait()

    recorder.first = wait
    receipts = publish(peer, confirming, 5)
    for tag in range(1, 6):
        peer.send('basic.ack', delivery_tag=tag)
        wait_for(receipts[:tag])
        greenlets.sleep(0)
    assert len(entered) == 1
    gate.set()
    greenlets.wait_until(lambda: len(recorder.ended) == 5)


def test_a_publish_records_some_outcomes_where_too_many_wait(
    peer: ScriptedBroker,
    confirming: gamqp.Channel,
    instrumented: gamqp.Connection,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opentelemetry_publishes, 'MOST_WAITING', 3)
    gate = green.Event(greenlets.backend)

    def wait_once() -> None:
        recorder.first = lambda: None
        gate.wait()

    recorder.first = wait_once
    receipts = publish(peer, confirming, 6)
    peer.send('basic.ack', delivery_tag=6, multiple=True)
    wait_for(receipts)
    greenlets.wait_until(lambda: recorder.first is not wait_once)  # one is being recorded, and five wait
    assert recorder.ended == []
    for left in (3, 3, 3):
        publish(peer, confirming, 1)
        assert len(recorder.ended) == 5 - left
    gate.set()
    greenlets.wait_until(lambda: len(recorder.ended) == 6)


def test_a_span_that_ends_early_ends_once_though_its_confirm_comes_meanwhile(
    peer: ScriptedBroker,
    confirming: gamqp.Channel,
    instrumented: gamqp.Connection,
    recorder: Recorder,
    meter: Meter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(opentelemetry_publishes, 'MOST_OPEN', 0)
    gate = green.Event(greenlets.backend)
    recorder.first = gate.wait
    with caplog.at_level(logging.WARNING):  # the SDK warns about what is done to a span after its end
        publishing = greenlets.spawn(lambda: confirming.publish(b'x', 'orders', 'k'))
        peer.expect('basic.publish')
        assert not publishing.done
        peer.send('basic.nack', delivery_tag=1)
        greenlets.wait_until(lambda: meter.counts(names.SENT_MESSAGES) == {names.NACKED: 1})
        gate.set()
        assert publishing.get().state == 'nacked'
    assert caplog.records == []
    assert recorder.outcomes() == [None]


def test_one_greenlet_ends_the_spans_of_messages_that_may_come_back(
    peer: ScriptedBroker, channel: gamqp.Channel, instrumented: gamqp.Connection, recorder: Recorder
) -> None:
    alive = []
    for number in range(1, 7):
        channel.basic_publish(gamqp.Message('x'), 'orders', 'k', mandatory=True)
        headers = peer.expect('basic.publish').properties['application_headers']
        peer.send(
            'basic.return', 1, reply_code=312, reply_text='NO_ROUTE', exchange='orders', routing_key='k', body=b'x',
            properties={'application_headers': headers},
        )  # fmt: skip
        greenlets.wait_until(lambda number=number: len(recorder.ended) == number)
        alive.append(len(greenlets.living_greenlets()))
    assert recorder.outcomes() == ['312'] * 6
    assert max(alive) <= alive[0] + 1  # on a busy machine it may have ended meanwhile, and another one begun


class InterruptedCounter(metrics.Counter):
    """Counting may wait, and whoever waits may be killed."""

    def __init__(self) -> None:
        super().__init__('interrupted')

    def add(self, amount: float, attributes: Any = None, context: Any = None) -> None:
        raise greenlet.GreenletExit


class InterruptedMeterProvider(metrics.NoOpMeterProvider):
    def get_meter(self, name: str, *args: Any, **options: Any) -> metrics.Meter:
        meter = metrics.NoOpMeter(name)
        meter.create_counter = lambda *args: InterruptedCounter()  # type: ignore[method-assign]
        return meter


def test_whoever_is_killed_while_a_delivery_is_counted_has_its_own_context_again(
    peer: ScriptedBroker, channel: gamqp.Channel, client: gamqp.Connection, recorder: Recorder
) -> None:
    provider = TracerProvider()
    provider.add_span_processor(recorder)
    opentelemetry.instrument(client, provider, meter_provider=InterruptedMeterProvider())
    got: list[Any] = []
    start_consumer(peer, channel, got.append)
    peer.send('basic.deliver', 1, consumer_tag='c', delivery_tag=1, exchange='', routing_key='q', body=b'x')
    with pytest.raises(greenlet.GreenletExit):
        client.drain_events(timeout=greenlets.PATIENCE)
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert len(recorder.ended) == 1
    assert recorder.outcomes()[0].endswith('GreenletExit')
    assert got == []


def test_whoever_is_killed_while_a_publish_is_measured_leaves_its_span_to_be_ended(
    peer: ScriptedBroker, channel: gamqp.Channel, client: gamqp.Connection, recorder: Recorder
) -> None:
    provider = TracerProvider()
    provider.add_span_processor(recorder)
    opentelemetry.instrument(client, provider, meter_provider=InterruptedMeterProvider())
    with pytest.raises(greenlet.GreenletExit):
        channel.basic_publish(gamqp.Message('x'), 'orders', 'k', mandatory=True)
    peer.expect('basic.publish')
    assert recorder.ended == []  # it waits for a return
    inside.end_spans()
    assert recorder.outcomes() == [None]


def test_a_message_whose_callback_failed_is_not_kept(
    peer: ScriptedBroker, channel: gamqp.Channel, instrumented: gamqp.Connection, recorder: Recorder
) -> None:
    seen: list[weakref.ref[gamqp.Message]] = []

    def fail(message: gamqp.Message) -> None:
        seen.append(weakref.ref(message))
        raise ValueError('no')

    start_consumer(peer, channel, fail)
    peer.send('basic.deliver', 1, consumer_tag='c', delivery_tag=1, exchange='', routing_key='q', body=b'x')
    try:
        instrumented.drain_events(timeout=greenlets.PATIENCE)
    except ValueError:  # not by pytest.raises, which keeps the traceback, and so the message
        pass
    gc.collect()
    assert recorder.outcomes() == ['ValueError']
    assert [ref() for ref in seen] == [None]


def test_the_failure_of_a_handler_is_logged_in_its_span(
    peer: ScriptedBroker,
    channel: gamqp.Channel,
    instrumented: gamqp.Connection,
    recorder: Recorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where the logging instrumentation of a tracer looks for the ids that it adds to each record."""
    active: list[Any] = []

    def note(record: logging.LogRecord) -> bool:
        active.append(trace.get_current_span().get_span_context())
        return True

    def fail(message: Any) -> None:
        raise ValueError('no')

    subscribing = greenlets.spawn(lambda: channel.subscribe('q', fail, prefetch=0, on_error='reject', consumer_tag='c'))
    peer.expect('basic.consume')
    peer.send('basic.consume-ok', 1, consumer_tag='c')
    subscribing.get()
    caplog.handler.addFilter(note)
    try:
        for tag in (1, 2):
            peer.send('basic.deliver', 1, consumer_tag='c', delivery_tag=tag, exchange='', routing_key='q', body=b'x')
            peer.expect('basic.reject')
            greenlets.wait_until(lambda tag=tag: len(active) == tag)
    finally:
        caplog.handler.removeFilter(note)
    assert active == [span.get_span_context() for span in recorder.ended]
    assert active[0].span_id != active[1].span_id
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_what_has_no_confirm_yet_is_traced_and_measured_beyond_uninstrument(
    peer: ScriptedBroker, confirming: gamqp.Channel, instrumented: gamqp.Connection, recorder: Recorder, meter: Meter
) -> None:
    publish(peer, confirming, 1)
    opentelemetry.uninstrument(instrumented)
    gc.collect()
    publish(peer, confirming, 1)
    peer.send('basic.nack', delivery_tag=2, multiple=True)
    greenlets.wait_until(lambda: meter.counts(names.SENT_MESSAGES) == {names.NACKED: 1})
    assert recorder.outcomes() == [names.NACKED]


def test_a_forked_child_ends_no_span_of_its_parent(
    peer: ScriptedBroker,
    confirming: gamqp.Channel,
    instrumented: gamqp.Connection,
    recorder: Recorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publish(peer, confirming, 2)
    inside.forget_spans()
    inside.end_spans()
    assert recorder.ended == []
    publish(peer, confirming, 1)
    inside.end_spans()
    assert len(recorder.ended) == 1
    with caplog.at_level(logging.WARNING):  # the SDK warns about what is done to a span after its end
        peer.send('basic.ack', delivery_tag=3, multiple=True)
        greenlets.wait_until(lambda: not confirming.unconfirmed)
        greenlets.sleep(0)
    assert caplog.records == []


def test_a_forked_child_hears_nothing_of_publishes_of_its_parent(
    peer: ScriptedBroker, confirming: gamqp.Channel, instrumented: gamqp.Connection, recorder: Recorder, meter: Meter
) -> None:
    """Whose channels end in the child over some turns of the hub."""
    receipts = publish(peer, confirming, 3)
    inside.forget_spans()
    peer.send('basic.ack', delivery_tag=1)
    peer.send('channel.close', 1, reply_code=404, reply_text='NOT_FOUND', class_id=60, method_id=40)
    peer.expect('channel.close-ok')
    assert wait_for(receipts) == ['acked', 'lost', 'lost']
    for _ in range(5):
        greenlets.sleep(0)
    assert recorder.ended == []
    assert meter.points() == {}


def test_nothing_is_followed_where_nothing_is_recorded(peer: ScriptedBroker, confirming: gamqp.Channel) -> None:
    """Providers that record nothing, and the global ones, which nobody has set."""
    connection = confirming.connection
    assert connection is not None
    for tracing, measuring in ((trace.NoOpTracerProvider(), metrics.NoOpMeterProvider()), (None, None)):
        opentelemetry.instrument(connection, tracing, meter_provider=measuring)
        assert not inside.tracing(connection).metrics.wanted
        publish(peer, confirming, 2)
        assert not inside.observed_publishes(confirming)


def test_metrics_alone(peer: ScriptedBroker, confirming: gamqp.Channel, meter: Meter) -> None:
    connection = confirming.connection
    assert connection is not None
    opentelemetry.instrument(connection, trace.NoOpTracerProvider(), meter_provider=meter.provider)
    publish(peer, confirming, 2)
    peer.send('basic.ack', delivery_tag=2, multiple=True)
    greenlets.wait_until(lambda: meter.counts(names.SENT_MESSAGES) == {None: 2})
    opentelemetry.uninstrument(connection)
    publish(peer, confirming, 1)
    peer.send('basic.ack', delivery_tag=3)
    greenlets.wait_until(lambda: not confirming.unconfirmed)
    greenlets.sleep(0)
    assert meter.counts(names.SENT_MESSAGES) == {None: 2}


def test_destinations_are_few_in_metrics(meter: Meter) -> None:
    places = names.Places(older=False)
    templates = [places.of(None, f'exchange {number}', 'k', None).timed['messaging.destination.template']
                 for number in range(names.MOST_DESTINATIONS + 5)]  # fmt: skip
    assert templates[names.MOST_DESTINATIONS - 1] == f'exchange {names.MOST_DESTINATIONS - 1}'
    assert set(templates[names.MOST_DESTINATIONS :]) == {names.OTHERS}
    assert 'exchange 204' in places.of(None, 'exchange 204', 'k', None).name  # spans tell them apart


def test_older_names_are_added_where_the_environment_asks_for_them() -> None:
    assert not names.also_older_names({})
    assert not names.also_older_names({'OTEL_SEMCONV_STABILITY_OPT_IN': 'http/dup, messaging'})
    assert names.also_older_names({'OTEL_SEMCONV_STABILITY_OPT_IN': 'http, messaging/dup,messaging'})
    now = names.Places(older=False).of(None, 'orders', 'k', 'q').attributes
    both = names.Places(older=True).of(None, 'orders', 'k', 'q').attributes
    assert both == {
        **now,
        'messaging.operation': 'process',
        'messaging.destination': 'orders',
        'messaging.rabbitmq.routing_key': 'k',
    }
    assert names.Places(older=True).of(None, 'orders', 'k', None).attributes['messaging.operation'] == 'publish'
    message = names.message_attributes({'message_id': 'm', 'correlation_id': 'c'}, 5, 1, True)
    assert message == {
        'messaging.message.body.size': 5,
        'messaging.rabbitmq.message.delivery_tag': 1,
        'messaging.message.id': 'm',
        'messaging.message.conversation_id': 'c',
        'messaging.message_payload_size_bytes': 5,
        'messaging.message_id': 'm',
        'messaging.conversation_id': 'c',
    }
