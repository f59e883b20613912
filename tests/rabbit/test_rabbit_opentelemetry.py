"""gamqp.opentelemetry across real brokers: one trace from publisher to handler, and no context leaks anywhere else."""

from __future__ import annotations

import contextlib
import importlib.metadata
import random
import sys
import types

import broker_tools
import greenlet
import greenlets
import inside
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

import gamqp
from gamqp import exceptions, opentelemetry
from gamqp.telemetry import opentelemetry_names, opentelemetry_publishes

SEED = 20260602
NOBODY = trace.INVALID_SPAN.get_span_context()


class Collected:
    """A tracer provider, and the spans that have ended."""

    def __init__(self):
        self.provider = TracerProvider()
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer('the program')

    @property
    def spans(self):
        return list(self._exporter.get_finished_spans())

    def of(self, kind):
        return [span for span in self.spans if span.kind is kind]

    def await_consumers(self, count):
        greenlets.wait_until(lambda: len(self.of(SpanKind.CONSUMER)) >= count, what=f'{count} consumer spans')
        return self.of(SpanKind.CONSUMER)

    def await_publishes(self, count):
        """The spans of publishes, in the order of publishing; each ends with its confirm."""
        greenlets.wait_until(lambda: len(self.of(SpanKind.PRODUCER)) >= count, what=f'{count} spans of publishes')
        return sorted(self.of(SpanKind.PRODUCER), key=lambda span: span.start_time)


@pytest.fixture
def collected():
    collected = Collected()
    yield collected
    collected.provider.shutdown()


@pytest.fixture
def traced(connection, collected):
    """The ``connection``, instrumented."""
    opentelemetry.instrument(connection, collected.provider)
    return connection


@pytest.fixture
def other(rabbit, collected):
    """Another connection, instrumented."""
    with rabbit.connect() as other:
        opentelemetry.instrument(other, collected.provider)
        yield other


def current():
    return trace.get_current_span().get_span_context()


def family(span):
    """(trace, span) of its parent, and its own."""
    parent = (span.parent.trace_id, span.parent.span_id) if span.parent else None
    return parent, (span.context.trace_id, span.context.span_id)


# -- one trace ---------------------------------------------------------------------------------------------


def test_publisher_and_handler_on_two_connections_share_a_trace(rabbit, traced, other, collected):
    channel, elsewhere = traced.channel(), other.channel()
    queue = broker_tools.shared_queue(channel)
    active = []
    consumer = elsewhere.subscribe(queue, lambda message: active.append(current()))
    with collected.tracer.start_as_current_span('request') as request:
        receipt = channel.publish(b'12345', routing_key=queue, message_id='m1', correlation_id='c1', headers={'a': 1})
        assert current() == request.get_span_context()
    receipt.wait()
    (processed,) = collected.await_consumers(1)
    (published,) = collected.await_publishes(1)
    assert family(published)[0] == (request.get_span_context().trace_id, request.get_span_context().span_id)
    assert family(processed)[0] == family(published)[1]
    assert processed.parent.is_remote
    assert [family(processed)[1]] == [(one.trace_id, one.span_id) for one in active]
    common = {
        'messaging.system': 'rabbitmq',
        'messaging.destination.name': queue,
        'messaging.rabbitmq.destination.routing_key': queue,
        'messaging.message.id': 'm1',
        'messaging.message.conversation_id': 'c1',
        'messaging.message.body.size': 5,
        'server.address': '127.0.0.1',
        'server.port': rabbit.node.port,
    }
    assert published.name == 'publish amq.default'
    assert dict(published.attributes) == {
        **common,
        'messaging.destination.template': 'amq.default',
        'messaging.operation.name': 'publish',
        'messaging.operation.type': 'send',
    }
    assert processed.name == f'process {queue}'
    assert dict(processed.attributes) == {
        **common,
        'messaging.destination.template': queue,
        'messaging.operation.name': 'process',
        'messaging.operation.type': 'process',
        'messaging.rabbitmq.message.delivery_tag': 1,
        'messaging.destination.subscription.name': queue,
    }
    assert {published.status.status_code, processed.status.status_code} == {StatusCode.UNSET}
    consumer.cancel()
    channel.queue_delete(queue)


def test_what_a_handler_publishes_continues_the_trace(traced, other, collected):
    first, second = (channel.queue_declare(exclusive=True).queue for channel in (traced.channel(), other.channel()))
    done = []
    passing = traced.channel()
    passing.subscribe(first, lambda message: passing.publish(message, routing_key=second))
    other.channel().subscribe(second, done.append)
    traced.channel().publish('x', routing_key=first).wait()
    collected.await_consumers(2)
    collected.await_publishes(2)
    by_parent = {family(span)[0]: span for span in collected.spans}
    span, names = by_parent[None], []
    while span is not None:
        names.append(span.name)
        span = by_parent.get(family(span)[1])
    assert names == ['publish amq.default', 'process (anonymous)', 'publish amq.default', 'process (anonymous)']
    assert len({span.context.trace_id for span in collected.spans}) == 1
    (message,) = done
    assert list(message.headers) == ['traceparent']  # that of the last publish, and not two


def test_py_amqps_calls_and_confirms_are_traced_as_well(rabbit, collected):
    with rabbit.connect(confirm_publish=True) as connection:
        opentelemetry.instrument(connection, collected.provider)
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        channel.queue_bind(queue, 'amq.topic', 'order.#')
        channel.basic_publish(gamqp.Message('x'), 'amq.topic', 'order.paid')
        got = []
        channel.basic_consume(queue, callback=lambda message: got.append((current(), message.ack())))
        broker_tools.drain_until(connection, lambda: got)
    (published,), (processed,) = collected.await_publishes(1), collected.await_consumers(1)
    assert (published.name, processed.name) == ('publish amq.topic', 'process (anonymous)')
    assert family(processed)[0] == family(published)[1]
    assert got[0][0] == processed.context
    assert current() == NOBODY


def test_a_call_over_rpc_is_one_trace(traced, other, collected):
    queue = broker_tools.shared_queue(other.channel())
    server = gamqp.RPCServer(other.channel(), queue, lambda message: message.body)
    client = gamqp.RPCClient(traced.channel())
    with collected.tracer.start_as_current_span('request'):
        client.call(b'x', routing_key=queue)
    collected.await_consumers(1)
    assert len({span.context.trace_id for span in collected.spans}) == 1
    client.close()
    server.close()
    other.channel().queue_delete(queue)


def test_headers_and_messages_of_the_program_stay_as_they_are(traced, collected):
    channel = traced.channel()
    queue = channel.queue_declare(exclusive=True).queue
    headers = {'a': 1, 'traceparent': 'of an earlier message', 'nested': {'b': 2}}
    message = gamqp.Message('x', application_headers=headers, message_id='m')
    properties = dict(message.properties)
    channel.publish(message, routing_key=queue).wait()
    channel.publish('y', routing_key=queue, headers=headers).wait()
    channel.basic_publish(message, '', queue)
    assert headers == {'a': 1, 'traceparent': 'of an earlier message', 'nested': {'b': 2}}
    assert message.properties == properties
    assert message.headers is headers
    channel.queue_declare(queue, passive=True)
    for got in broker_tools.get_all(channel, queue):
        assert got.headers['a'] == 1
        assert got.headers['nested'] == {'b': 2}
        assert got.headers['traceparent'].startswith('00-')


def test_a_traced_message_that_comes_back_is_known(traced, collected):
    channel = traced.channel()
    receipts = [channel.publish(b'x', routing_key='nowhere', mandatory=True, headers={'n': n}) for n in range(3)]
    for number, receipt in enumerate(receipts):
        with pytest.raises(exceptions.Returned) as info:
            receipt.wait()
        assert info.value.returned.headers['n'] == number
    greenlets.wait_until(lambda: len(collected.spans) == 3)
    assert {span.name for span in collected.spans} == {'publish amq.default'}
    assert {span.status.status_code for span in collected.spans} == {StatusCode.ERROR}
    assert {span.status.description for span in collected.spans} == {'returned: 312 NO_ROUTE'}
    assert {span.attributes['error.type'] for span in collected.spans} == {'312'}


@pytest.mark.parametrize('confirm', [True, False])
def test_a_message_that_comes_back_marks_its_span_whoever_published_it(rabbit, collected, confirm):
    with rabbit.connect() as connection:
        opentelemetry.instrument(connection, collected.provider)
        channel = connection.channel()
        if confirm:
            channel.confirm_select()
        queue = channel.queue_declare(exclusive=True).queue
        channel.basic_publish(gamqp.Message('x'), '', queue, mandatory=True)
        channel.basic_publish(gamqp.Message('x'), '', 'nowhere', mandatory=True)
        greenlets.wait_until(lambda: len(collected.spans) == 2)
        fine, returned = sorted(collected.spans, key=lambda span: span.status.status_code is StatusCode.ERROR)
        assert returned.attributes['messaging.rabbitmq.destination.routing_key'] == 'nowhere'
        assert returned.status.status_code is StatusCode.ERROR
        assert fine.status.status_code is StatusCode.UNSET
        if not confirm:
            assert fine.end_time < returned.end_time  # it has lasted no longer than the publish


def test_a_message_that_comes_back_when_its_span_has_ended_gets_another_that_says_so(traced, collected):
    channel = traced.channel()
    receipt = channel.publish(b'x', routing_key='nowhere', mandatory=True)
    inside.tracing(traced).end_all()  # the hub has had no turn: what comes back is not read yet
    with pytest.raises(exceptions.Returned):
        receipt.wait()
    first, second = greenlets.wait_until(lambda: len(collected.spans) > 1 and collected.spans)
    assert (first.name, second.name) == ('publish amq.default', 'return amq.default')
    assert family(second)[0] == family(first)[1]
    assert second.status.status_code is StatusCode.ERROR


def test_no_more_than_some_spans_are_kept_open(traced, collected, monkeypatch):
    monkeypatch.setattr(opentelemetry_publishes, 'MOST_OPEN', 3)
    channel = traced.channel()
    queue = channel.queue_declare(exclusive=True).queue
    for _ in range(10):
        channel.publish(b'x', routing_key=queue, mandatory=True)
    assert len(collected.spans) == 7
    inside.tracing(traced).end_all()
    assert len(collected.spans) == 10


def test_baggage_travels_too(traced, other, collected):
    channel, elsewhere = traced.channel(), other.channel()
    queue = broker_tools.shared_queue(channel)
    got = []
    consumer = elsewhere.subscribe(queue, lambda message: got.append(baggage.get_all()))
    token = context.attach(baggage.set_baggage('tenant', 'acme'))
    channel.publish(b'x', routing_key=queue)
    context.detach(token)
    channel.publish(b'x', routing_key=queue)
    collected.await_consumers(2)
    assert got == [{'tenant': 'acme'}, {}]
    consumer.cancel()
    channel.queue_delete(queue)


# -- and nothing else ----------------------------------------------------------------------------------------


def test_handlers_at_the_same_time_have_contexts_of_their_own(traced, other, collected):
    draw = random.Random(SEED)
    channel = traced.channel()
    queue = broker_tools.shared_queue(channel)
    wrong, plain = [], gamqp.Message(b'x', message_id='plain')

    def handle(message):
        mine = current()
        expected = message.headers.get('traceparent', '').split('-')
        if expected != [''] and f'{mine.trace_id:032x}' != expected[1]:
            wrong.append(message)
        for _ in range(3):
            with collected.tracer.start_as_current_span('step') as step:
                greenlets.sleep(draw.choice([0, 0.001, 0.005]))
                if current() != step.get_span_context() or step.parent.span_id != mine.span_id:
                    wrong.append(message)
            if current() != mine:
                wrong.append(message)
        if draw.random() < 0.2:
            raise ValueError('now and then')

    elsewhere = other.channel()
    consumer = elsewhere.subscribe(queue, handle, concurrency=10, on_error='reject')
    opentelemetry.uninstrument(traced)
    for number in range(100):
        if number % 4:
            with collected.tracer.start_as_current_span(f'request {number}') as request:
                headers = {'traceparent': f'00-{request.get_span_context().trace_id:032x}-00f067aa0ba902b7-01'}
                channel.publish(b'x', routing_key=queue, headers=headers)
        else:
            channel.publish(plain, routing_key=queue)
    spans = collected.await_consumers(100)
    assert not wrong
    roots = [span for span in spans if span.parent is None]
    assert len(roots) == 25  # nobody else's context for those that came without one
    assert all(span.attributes.get('messaging.message.id') == 'plain' for span in roots)
    assert len({span.context.trace_id for span in spans}) == 100
    assert current() == NOBODY
    consumer.cancel()
    channel.queue_delete(queue)


def test_a_message_without_a_context_gets_none_of_the_message_before(traced, collected):
    channel = traced.channel()
    queue = channel.queue_declare(exclusive=True).queue
    channel.publish(b'first', routing_key=queue).wait()
    opentelemetry.uninstrument(traced)
    channel.publish(b'second', routing_key=queue).wait()
    opentelemetry.instrument(traced, collected.provider)
    channel.subscribe(queue, lambda message: None)  # one worker handles both
    first, second = collected.await_consumers(2)
    assert first.parent is not None
    assert second.parent is None


def test_a_callback_runs_in_its_messages_context_and_links_what_surrounds_drain_events(traced, collected):
    channel = traced.channel()
    queue = channel.queue_declare(exclusive=True).queue
    channel.publish(b'x', routing_key=queue).wait()
    seen = []
    channel.basic_consume(queue, no_ack=True, callback=lambda message: seen.append(current()))
    with collected.tracer.start_as_current_span('main loop') as loop:
        broker_tools.drain_until(traced, lambda: seen)
        assert current() == loop.get_span_context()
    (processed,), (published,) = collected.of(SpanKind.CONSUMER), collected.await_publishes(1)
    assert seen == [processed.context]
    assert family(processed)[0] == family(published)[1]
    assert [link.context for link in processed.links] == [loop.get_span_context()]


def test_what_surrounds_drain_events_is_no_parent_of_a_message_without_a_context(traced, collected):
    channel = traced.channel()
    queue = channel.queue_declare(exclusive=True).queue
    opentelemetry.uninstrument(traced)
    channel.publish(b'x', routing_key=queue).wait()
    opentelemetry.instrument(traced, collected.provider)
    seen = []
    channel.basic_consume(queue, no_ack=True, callback=lambda message: seen.append(baggage.get_all()))
    token = context.attach(baggage.set_baggage('tenant', 'acme'))
    with collected.tracer.start_as_current_span('main loop') as loop:
        broker_tools.drain_until(traced, lambda: seen)
    assert baggage.get_all() == {'tenant': 'acme'}
    context.detach(token)
    (processed,) = collected.of(SpanKind.CONSUMER)
    assert processed.parent is None
    assert [link.context for link in processed.links] == [loop.get_span_context()]
    assert seen == [{}]


def test_the_context_of_who_connects_is_not_that_of_handlers(rabbit, collected):
    """A web request that opens the connection is not the parent of all that is handled later."""
    with collected.tracer.start_as_current_span('request'), rabbit.connect() as connection:
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        seen = []
        channel.subscribe(queue, lambda message: seen.append(current()))
        channel.publish(b'x', routing_key=queue).wait()
        greenlets.wait_until(lambda: seen)
    assert seen == [NOBODY]


def test_headers_of_others_that_make_no_sense_do_no_harm(connection, other, collected):
    channel = connection.channel()
    queue = broker_tools.shared_queue(channel)
    consumer = other.channel().subscribe(queue, lambda message: None)
    nonsense = [None, '', 'x', 5, b'\xff\xfe', {'a': 1}, [1, 2], True, '00-' + '0' * 32 + '-' + '0' * 16 + '-01']
    for value in nonsense:
        channel.publish(b'x', routing_key=queue, headers={'traceparent': value, 'tracestate': value, 'baggage': value})
    for span in collected.await_consumers(len(nonsense)):
        assert span.parent is None
        assert span.status.status_code is StatusCode.UNSET
    consumer.cancel()
    channel.queue_delete(queue)


# -- iterators ---------------------------------------------------------------------------------------------


def test_process_gives_a_loop_what_handlers_have(traced, other, collected):
    channel = traced.channel()
    queue = broker_tools.shared_queue(channel)
    for number in range(3):
        channel.publish(b'%d' % number, routing_key=queue)
    seen = []
    for message in other.channel().consume(queue, timeout=10):
        assert current() == NOBODY
        with contextlib.suppress(ValueError), opentelemetry.process(message) as span:
            assert current() == span.get_span_context()
            seen.append(current())
            message.ack()
            if len(seen) == 2:
                raise ValueError('not this one')
        assert current() == NOBODY
        if len(seen) == 3:
            break
    spans = collected.of(SpanKind.CONSUMER)
    assert [span.context for span in spans] == seen
    assert [family(span)[0] for span in spans] == [family(span)[1] for span in collected.await_publishes(3)]
    assert [span.status.status_code for span in spans] == [StatusCode.UNSET, StatusCode.ERROR, StatusCode.UNSET]
    channel.queue_delete(queue)


# -- what goes wrong ---------------------------------------------------------------------------------------


def test_a_publish_that_raises_ends_its_span_with_the_error(traced, collected):
    channel = traced.channel()
    with pytest.raises(exceptions.EncodeError):
        channel.publish(b'x', routing_key='k' * 300)
    with pytest.raises(exceptions.EncodeError):
        channel.publish(b'x', routing_key='k', headers=['no', 'dict'])
    channel.close()
    with pytest.raises(exceptions.RecoverableConnectionError):
        channel.publish(b'x', routing_key='k')
    assert [span.status.status_code for span in collected.spans] == [StatusCode.ERROR] * 3
    assert [span.attributes['error.type'] for span in collected.spans] == [
        'gamqp.exceptions.EncodeError',
        'gamqp.exceptions.EncodeError',
        'gamqp.exceptions.RecoverableConnectionError',
    ]
    assert [event.name for event in collected.spans[0].events] == ['exception']
    assert traced.stats()['published'] == 0


def test_a_handler_that_raises_or_is_killed_ends_its_span_with_the_error_and_its_policy_holds(traced, collected):
    channel = traced.channel()
    queue = channel.queue_declare(exclusive=True).queue
    failed, running = [], []

    def handle(message):
        if message.redelivered:
            return
        if message.body == b'raise':
            raise ValueError('no')
        if message.body == b'time out':
            with broker_tools.times_out(0.02):
                greenlets.sleep(10)
        running.append(greenlet.getcurrent())
        greenlets.sleep(10)

    channel.subscribe(queue, handle, on_error=lambda message, error: failed.append(error) or 'reject')
    for body in (b'raise', b'time out', b'kill'):
        channel.publish(body, routing_key=queue)
    greenlets.wait_until(lambda: running)
    greenlets.backend.kill(running[0])
    spans = collected.await_consumers(4)
    assert [type(error) for error in failed] == [ValueError, broker_tools.Interrupted]
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR] * 3 + [StatusCode.UNSET]
    assert spans[0].attributes['error.type'] == 'ValueError'
    assert spans[1].attributes['error.type'] == 'broker_tools.Interrupted'
    assert spans[2].attributes['error.type'].endswith('GreenletExit')
    assert spans[3].parent == spans[2].parent  # it came again


def test_a_span_that_is_not_sampled_is_told_as_the_propagators_would(connection, monkeypatch):
    """Without them, where they are the usual ones; by them, where there is anything else to tell."""
    provider = TracerProvider(sampler=ALWAYS_OFF)
    opentelemetry.instrument(connection, provider)
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True, auto_delete=False).queue
    state = trace.TraceState([('vendor', '1')])
    outer = trace.NonRecordingSpan(trace.SpanContext(2**120, 2**60, False, trace.TraceFlags(0), state))

    def sent():
        channel.publish(b'x', routing_key=queue, headers={'a': 1}).wait()
        headers = dict(channel.basic_get(queue, no_ack=True).headers)
        assert headers.pop('a') == 1
        return headers

    told = []
    for around in (trace.INVALID_SPAN, outer):
        for usual in (True, False):
            if not usual:
                inside.use_propagators(monkeypatch)
            with trace.use_span(around):
                told.append(sent())
            monkeypatch.undo()
    for plain, by_propagators in (told[:2], told[2:]):
        assert plain.keys() == by_propagators.keys()
        for headers in (plain, by_propagators):
            version, trace_id, span_id, flags = headers['traceparent'].split('-')
            assert (version, len(trace_id), len(span_id), int(flags, 16) & 1) == ('00', 32, 16, 0)
    assert told[2]['tracestate'] == told[3]['tracestate'] == 'vendor=1'
    assert told[2]['traceparent'].split('-')[1] == f'{2**120:032x}'
    token = context.attach(baggage.set_baggage('tenant', 'acme'))
    try:
        assert sent()['baggage'] == 'tenant=acme'
    finally:
        context.detach(token)
    provider.shutdown()


# -- what is not to be traced ------------------------------------------------------------------------------


def test_nothing_is_traced_where_instrumentation_is_suppressed(traced, collected):
    channel = traced.channel()
    queue = channel.queue_declare(exclusive=True, auto_delete=False).queue
    got = []
    for key in (context._SUPPRESS_INSTRUMENTATION_KEY, 'suppress_instrumentation'):
        token = context.attach(context.set_value(key, True))
        try:
            channel.publish(b'x', routing_key=queue).wait()
            tag = channel.basic_consume(queue, no_ack=True, callback=got.append)
            broker_tools.drain_until(traced, lambda: got)
            with opentelemetry.process(got[-1]) as span:
                assert not span.is_recording()
        finally:
            context.detach(token)
        channel.basic_cancel(tag)
        assert 'traceparent' not in got.pop().headers
    assert collected.spans == []
    channel.publish(b'x', routing_key=queue).wait()
    assert len(collected.await_publishes(1)) == 1


def test_a_filter_says_what_is_traced(connection, collected):
    asked = []

    def wanted(operation, exchange, routing_key, queue):
        asked.append((operation, exchange, routing_key, queue))
        return operation == 'publish' and exchange != ''

    opentelemetry.instrument(connection, collected.provider, wanted)
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True).queue
    channel.publish(b'x', routing_key=queue).wait()
    channel.publish(b'x', 'amq.topic', 'order.1').wait()
    got = []
    channel.basic_consume(queue, no_ack=True, callback=got.append)
    broker_tools.drain_until(connection, lambda: got)
    assert [span.name for span in collected.await_publishes(1)] == ['publish amq.topic']
    assert asked == [('publish', '', queue, ''), ('publish', 'amq.topic', 'order.1', ''), ('process', '', queue, queue)]


@pytest.mark.parametrize(
    ('exchange', 'routing_key', 'queue', 'traced'),
    [
        ('celeryev', 'worker.heartbeat', '', False),
        ('celeryev', 'worker.heartbeat', 'celeryev.5f1c', False),
        ('celery.pidbox', '', '', False),
        ('reply.celery.pidbox', '8d20', '8d20.reply.celery.pidbox', False),
        ('', '8d20.reply.celery.pidbox', '', False),
        ('celery', 'celery', 'celery', True),
        ('', 'jobs', '', True),
    ],
)
def test_the_talk_of_idle_workers_is_no_work(exchange, routing_key, queue, traced):
    assert opentelemetry.is_work('process' if queue else 'publish', exchange, routing_key, queue) is traced


def test_a_task_that_celerys_instrumentation_traces_has_no_second_span(traced, collected, monkeypatch):
    class CeleryInstrumentor:
        """As far as it is asked; the real one is a singleton, too."""

        is_instrumented_by_opentelemetry = True

    module = types.ModuleType('opentelemetry.instrumentation.celery')
    module.CeleryInstrumentor = CeleryInstrumentor
    monkeypatch.setitem(sys.modules, module.__name__, module)
    channel = traced.channel()
    queue = channel.queue_declare(exclusive=True).queue
    handled = []
    channel.subscribe(queue, handled.append)
    theirs = {'task': 'add', 'id': '1', 'traceparent': '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'}
    channel.publish(b'x', routing_key=queue, headers=theirs).wait()
    channel.publish(b'x', routing_key=queue).wait()
    greenlets.wait_until(lambda: len(handled) == 2)
    assert len(collected.await_consumers(1)) == len(collected.await_publishes(1)) == 1
    assert handled[0].headers == theirs
    CeleryInstrumentor.is_instrumented_by_opentelemetry = False
    channel.publish(b'x', routing_key=queue, headers=theirs).wait()
    assert len(collected.await_consumers(2)) == len(collected.await_publishes(2)) == 2


def test_names_of_spans_are_few(traced, collected):
    channel = traced.channel()
    for number in range(2000):
        channel.publish(b'x', 'amq.topic', f'order.{number}')
    greenlets.wait_until(lambda: len(collected.spans) == 2000)
    assert {span.name for span in collected.spans} == {'publish amq.topic'}
    assert len({span.attributes['messaging.destination.name'] for span in collected.spans}) == 2000
    assert len(inside.tracing(traced).places) <= opentelemetry_names.MOST_PLACES


def test_the_queue_of_a_fetched_message_can_be_told(traced, collected):
    channel = traced.channel()
    queue = broker_tools.shared_queue(channel)
    channel.publish(b'x', 'amq.direct', 'k')
    channel.queue_bind(queue, 'amq.direct', 'k')
    channel.publish(b'x', 'amq.direct', 'k').wait()
    with opentelemetry.process(channel.basic_get(queue, no_ack=True), queue):
        pass
    (processed,) = collected.of(SpanKind.CONSUMER)
    assert processed.name == f'process {queue}'
    assert processed.attributes['messaging.destination.name'] == f'amq.direct:k:{queue}'
    channel.queue_delete(queue)


@pytest.mark.parametrize('no_ack', [True, False])
def test_the_queue_is_known_for_what_is_handled_after_the_end_of_the_consumer(traced, collected, no_ack):
    channel = traced.channel()
    queue = broker_tools.shared_queue(channel)
    channel.publish(b'x', routing_key=queue).wait()
    loop = channel.consume(queue, no_ack=no_ack)
    message = next(loop)
    loop.close()
    with opentelemetry.process(message):
        pass
    (processed,) = collected.of(SpanKind.CONSUMER)
    assert processed.name == f'process {queue}'
    channel.queue_delete(queue)


def test_the_entry_point_is_what_the_agent_calls(rabbit, collected):
    (entry,) = importlib.metadata.entry_points(group='opentelemetry_instrumentor', name='gamqp')
    instrumentor = entry.load()()
    assert list(instrumentor.instrumentation_dependencies()) == []
    try:
        instrumentor.instrument(tracer_provider=collected.provider, skip_dep_check=True, meter_provider=None)
        assert instrumentor.is_instrumented_by_opentelemetry
        with rabbit.connect() as connection:
            connection.channel().publish(b'x', routing_key='nowhere').wait()
        assert len(collected.await_publishes(1)) == 1
    finally:
        instrumentor.uninstrument()
    assert not instrumentor.is_instrumented_by_opentelemetry
    assert not inside.traces(gamqp.Connection)


# -- metrics -----------------------------------------------------------------------------------------------


def measured(reader):
    """name -> [(attributes that are not of the connection, count)]."""
    data = reader.get_metrics_data()
    return {
        metric.name: [
            (
                {name: value for name, value in point.attributes.items() if not name.startswith('server.')},
                point.count if hasattr(point, 'count') else point.value,
            )
            for point in metric.data.data_points
        ]
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_messages_and_durations_are_measured_until_uninstrument(rabbit, collected):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    instrumentor = opentelemetry.Instrumentor()
    instrumentor.instrument(tracer_provider=collected.provider, meter_provider=provider)
    try:
        with rabbit.connect() as connection:
            channel = connection.channel()
            queue = broker_tools.shared_queue(channel)

            def handle(message):
                if message.body == b'bad':
                    raise ValueError('no')

            for body in (b'good', b'bad'):
                channel.publish(body, routing_key=queue).wait()
            consumer = channel.subscribe(queue, handle, on_error='reject')
            collected.await_consumers(2)
            consumer.cancel()
            channel.publish(b'x', routing_key=queue).wait()
            with opentelemetry.process(channel.basic_get(queue, no_ack=True), queue):
                pass
            instrumentor.uninstrument()
            channel.publish(b'x', routing_key=queue).wait()
            channel.queue_delete(queue)
    finally:
        instrumentor.uninstrument()
    published = {
        'messaging.system': 'rabbitmq',
        'messaging.operation.name': 'publish',
        'messaging.destination.template': 'amq.default',
    }
    processed = {
        **published,
        'messaging.operation.name': 'process',
        'messaging.destination.template': queue,
        'messaging.destination.subscription.name': queue,
    }
    timed = {**processed, 'messaging.operation.type': 'process'}
    found = measured(reader)
    assert found.pop('messaging.process.duration') == [(timed, 2), ({**timed, 'error.type': 'ValueError'}, 1)]
    assert found == {
        'messaging.client.operation.duration': [({**published, 'messaging.operation.type': 'send'}, 3)],
        'messaging.client.sent.messages': [(published, 3)],
        'messaging.client.consumed.messages': [(processed, 3)],
    }
    provider.shutdown()


def test_older_names_stand_beside_the_new_ones_where_they_are_asked_for(connection, collected, monkeypatch):
    monkeypatch.setenv('OTEL_SEMCONV_STABILITY_OPT_IN', 'http,messaging/dup')
    opentelemetry.instrument(connection, collected.provider)
    connection.channel().publish(b'x', routing_key='nowhere', message_id='m').wait()
    (span,) = collected.await_publishes(1)
    for name, older in opentelemetry_names.ATTRIBUTES.items():
        if older and name in span.attributes:
            assert older in span.attributes
    assert span.attributes['messaging.message_id'] == 'm'
    assert span.attributes['net.peer.port'] == span.attributes['server.port']


# -- on and off --------------------------------------------------------------------------------------------


def test_all_connections_or_one_and_off_again(rabbit, connection, collected):
    mine = connection.channel()
    queue = mine.queue_declare(exclusive=True).queue
    opentelemetry.instrument(tracer_provider=collected.provider)
    try:
        opentelemetry.instrument(tracer_provider=collected.provider)
        mine.publish(b'x', routing_key=queue).wait()
        assert len(collected.await_publishes(1)) == 1
        opentelemetry.uninstrument(connection)
        mine.publish(b'x', routing_key=queue).wait()
        assert len(collected.await_publishes(1)) == 1
        with rabbit.connect() as late:
            late.channel().publish(b'x', routing_key='nowhere').wait()
        assert len(collected.await_publishes(2)) == 2
    finally:
        opentelemetry.uninstrument()
    with rabbit.connect() as later:
        later.channel().publish(b'x', routing_key='nowhere').wait()
    assert len(collected.await_publishes(2)) == 2
    got = broker_tools.get_all(mine, queue)
    assert ['traceparent' in message.headers for message in got] == [True, False]


def test_without_an_sdk_nothing_is_sent_along_and_everything_works(connection):
    opentelemetry.instrument(connection, trace.NoOpTracerProvider())
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True).queue
    handled = []
    channel.subscribe(queue, handled.append)
    channel.publish(b'x', routing_key=queue).wait()
    greenlets.wait_until(lambda: handled)
    assert handled[0].properties == {}
