"""What the transport of gamqp.kombu does differently from kombu's own: every scenario below, in this process.

    kombu_transport.py gevent|eventlet URL VHOST [SCENARIO…]

GAMQP_TEST_NODES names the broker, which is asked to close connections.
"""

from __future__ import annotations

import json
import sys

LIBRARY, URL, VHOST = sys.argv[1:4]
if LIBRARY == 'gevent':
    from gevent import monkey

    monkey.patch_all()
else:
    import eventlet

    eventlet.monkey_patch()

import contextlib  # noqa: E402
import functools  # noqa: E402
import itertools  # noqa: E402
import os  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from typing import Any  # noqa: E402
from urllib.parse import quote  # noqa: E402

import amqp  # noqa: E402
import greenlet  # noqa: E402
import greenlets  # noqa: E402
import inside  # noqa: E402
import kombu  # noqa: E402
import kombu.exceptions  # noqa: E402
import scenarios  # noqa: E402
from kombu import pools  # noqa: E402
from kombu.common import itermessages  # noqa: E402
from kombu.transport import native_delayed_delivery, pyamqp  # noqa: E402
from node import Node  # noqa: E402
from script import ScriptedBroker  # noqa: E402

import gamqp  # noqa: E402
import gamqp.kombu  # noqa: E402
from gamqp import exceptions, green  # noqa: E402

backend = green.backend()
node = Node.attach(next(e for e in json.loads(os.environ['GAMQP_TEST_NODES']) if f':{e["port"]}/' in URL))
numbers = itertools.count()
RETRY = {'max_retries': 5, 'interval_start': 0, 'interval_step': 0.1, 'interval_max': 0.5}
NAME = 'gamqp.kombu:Transport'
NOBODY = 'amqp://guest:guest@127.0.0.1:1//'


def connect(url: str = URL, transport: str = NAME, **arguments: Any) -> kombu.Connection:
    return kombu.Connection(url, transport=transport, **{'connect_timeout': 60, **arguments})


@contextlib.contextmanager
def declared(connection: kombu.Connection, **arguments: Any) -> Iterator[Any]:
    """A durable queue bound to a channel of its own, deleted afterwards."""
    name = f'transport.{next(numbers)}'
    queue = kombu.Queue(name, kombu.Exchange(name, durable=True), routing_key=name, **arguments)
    with connect() as other:
        queue(other).declare()
    try:
        yield queue
    finally:
        with connect() as other:
            queue(other).delete()
            queue.exchange(other).delete()


def publish(connection: kombu.Connection, queue: Any, body: Any, **how: Any) -> None:
    connection.Producer().publish(body, exchange=queue.exchange, routing_key=queue.routing_key, **how)


def kill_connections(*connections: kombu.Connection) -> None:
    """The broker's operator closes all connections of our virtual host; waits until these have heard of it."""
    raw = [inside.of_kombu(connection) for connection in connections]
    node.close_connections(VHOST)
    wait_until(lambda: not any(one.is_open for one in raw))


def wait_until(condition: Any) -> None:
    deadline = green.Deadline(60)
    while not condition():
        assert not deadline.passed, condition
        backend.sleep(0.01)


def keep(bodies: list[Any], body: Any, message: Any) -> None:
    bodies.append(body)


def raised(errors: Any, call: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        call(*args, **kwargs)
    except errors as error:
        return error
    raise AssertionError('nothing was raised')


# -- what kombu and others ask of it --------------------------------------------------------------


def it_looks_like_kombus_own() -> None:
    with connect() as connection:
        transport = connection.transport
        assert type(transport) is gamqp.kombu.Transport
        assert (transport.driver_type, transport.driver_name) == ('amqp', 'py-amqp')
        assert transport.driver_version() == gamqp.__version__
        assert transport.implements.heartbeats and transport.implements.asynchronous
        assert 'fanout' in transport.implements.exchange_type
        assert transport.default_connection_params['port'] == 5672
        assert not connection.connected
        connection.connect()
        assert connection.connected and transport.verify_connection(connection.connection)
        assert type(connection.connection).__mro__[1] is gamqp.Connection
        assert connection.connection.client is connection
        assert connection.connection.confirm_publish
        assert connection.connection.heartbeat == 0  # kombu's default
        assert connection.get_manager is not None and callable(transport.get_manager)
        raised(ValueError, connect(transport_options={'gamqp': 'sometimes'}).connect)


def schemes() -> None:
    gamqp.kombu.register()
    plain, tls = kombu.Connection('gamqp://x'), kombu.Connection('gamqps://x')
    assert type(plain.transport) is gamqp.kombu.Transport and not plain.ssl
    assert type(tls.transport) is gamqp.kombu.SSLTransport and tls.ssl is True
    assert (plain._info(), tls._info())[1][4] == ('port', 5671)
    before = kombu.Connection('amqp://x')
    assert before.get_transport_cls() is kombu.transport.get_transport_cls('pyamqp')
    gamqp.kombu.register(replace_amqp=True)
    gamqp.kombu.register(replace_amqp=True)
    try:
        assert type(kombu.Connection('amqp://x').transport) is type(before.transport) is gamqp.kombu.Transport
        assert type(kombu.Connection('amqps://x').transport) is gamqp.kombu.SSLTransport
        assert kombu.Connection('pyamqp://x').get_transport_cls().__module__ == 'kombu.transport.pyamqp'
    finally:
        kombu.transport.TRANSPORT_ALIASES.update(
            amqp='kombu.transport.pyamqp:Transport', amqps='kombu.transport.pyamqp:SSLTransport'
        )
        kombu.transport._transport_cache.clear()


def errors_are_py_amqps_too() -> None:
    pairs = 0
    for name in exceptions.__all__:
        ours, theirs = getattr(exceptions, name), getattr(amqp.exceptions, name, None)
        if isinstance(ours, type) and issubclass(ours, exceptions.AMQPError) and theirs is not None:
            assert issubclass(ours, theirs) and ours('text').code == theirs.code
            pairs += 1
    assert pairs > 20
    assert issubclass(gamqp.MessageNacked, amqp.exceptions.MessageNacked)
    with connect() as connection:
        error = raised(amqp.NotFound, connection.default_channel.queue_declare, 'missing', passive=True)
        assert isinstance(error, gamqp.NotFound) and error.code == 404
        assert isinstance(error, kombu.exceptions.ChannelError) and isinstance(error, connection.channel_errors)
        channel = connection.default_channel
        kill_connections(connection)
        error = raised(kombu.exceptions.ConnectionError, channel.queue_declare, 'x', passive=True)
        assert isinstance(error, amqp.exceptions.RecoverableConnectionError)
        # What kombu raises by itself is py-amqp's.
        for kind in (amqp.RecoverableConnectionError, amqp.exceptions.MessageNacked, OSError):
            assert issubclass(kind, connection.recoverable_connection_errors)
        assert issubclass(amqp.RecoverableChannelError, connection.recoverable_channel_errors)


# -- connecting -----------------------------------------------------------------------------------


def a_callable_password_is_asked_at_each_connect() -> None:
    asked: list[int] = []

    def password() -> str:
        asked.append(1)
        return 'guest'

    host, port = URL.partition('@')[2].partition('/')[0].split(':')
    with connect(host, port=int(port), userid='guest', password=password, virtual_host=VHOST) as connection:
        connection.connect()
        assert len(asked) == 1
        kill_connections(connection)
        connection.default_channel.queue_declare(exclusive=True)
        assert len(asked) == 2


def arguments_reach_the_connection() -> None:
    options = {
        'confirm_publish': False,
        'confirm_timeout': 7,
        'name': 'mine',
        'visibility_timeout': 60,
        'max_retries': 3,
    }
    with connect(f'{URL}?heartbeat=9', transport_options=options) as connection:
        raw = connection.connection
        assert (raw.heartbeat, raw.confirm_timeout, raw.name, raw.confirm_publish) == (9, 7, 'mine', False)
        assert connection.get_heartbeat_interval() == 9
        connection.heartbeat_check()
    with connect(URL, heartbeat=None) as connection:
        assert connection.connection.heartbeat == 60, 'None is what the broker suggests'


def attributes_of(connection: kombu.Connection) -> dict[str, Any]:
    others = ('_initial_params', 'cycle', '_transport')
    return {name: value for name, value in vars(connection).items() if name not in others}


def a_url_means_what_it_means_to_kombu() -> None:
    """From the first moment on, with the password nowhere, and TLS where the scheme says so."""
    password = 'p@s/s%w:d'
    urls = (
        '',
        'localhost',
        f'me:{quote(password, safe="")}@broker.test/shop',
        f'me:{quote(password, safe="")}@broker.test:77/%2f?heartbeat=9.5&connect_timeout=3&login_method=EXTERNAL',
        '[::1]:5673//',
        '%2Ftmp%2Fsocket/shop',
        'broker.test?ssl_ca_certs=/ca.pem',
    )
    explicit: Any = {'userid': 'other', 'password': password, 'virtual_host': 'v', 'port': 99, 'heartbeat': 7}
    for rest, given in itertools.product(urls, ({}, explicit, {'ssl': True}, {'ssl': {'ca_certs': 'x'}})):
        for scheme in ('amqp', 'amqps', 'gamqps', 'AMQPS', 'pyamqp'):
            tls = scheme.lower().endswith('s')
            connection = kombu.Connection(f'{scheme}://{rest}', transport=NAME, **given)
            theirs = kombu.Connection(f'{"amqps" if tls else "amqp"}://{rest}', **given)
            assert connection._initial_params == {**theirs._initial_params, 'transport': NAME}
            said = attributes_of(connection)
            assert said == {**attributes_of(theirs), 'ssl': theirs.ssl or tls, 'transport_cls': NAME}, (scheme, rest)
            key = connection.__eqhash__()
            assert connection.info() == {**theirs.info(), 'transport': NAME, 'ssl': connection.ssl}
            ours, uri = connection.as_uri(), theirs.as_uri()
            assert ours.partition('://')[::2] == ('gamqps' if connection.ssl else 'gamqp', uri.partition('://')[2])
            full, whole = connection.as_uri(include_password=True), theirs.as_uri(include_password=True)
            assert full.partition('://')[::2] == ('amqps' if connection.ssl else 'amqp', whole.partition('://')[2])
            assert connection.as_uri(mask='').partition('://')[2] == theirs.as_uri(mask='').partition('://')[2]
            assert connection.clone().info() == connection.info()
            for secret in (password, quote(password, safe='')):
                assert secret not in repr(connection), repr(connection)
            assert connection.__eqhash__() == key and hash(connection.__eqhash__()) == hash(key)
    raised(TypeError, connect, 'amqps://localhost?unknown=1')


def other_transports_are_not_concerned() -> None:
    connect('amqps://x')
    assert kombu.Connection('sqla+mysql://u:p@h').hostname == 'mysql://u:p@h'
    assert kombu.Connection('amqps://x').hostname == 'x'
    assert kombu.Connection('memory://x').transport.driver_type == 'memory'
    assert str(connect(uri_prefix='some').as_uri()) == f'some+{connect().hostname}'
    gamqp.kombu.register()
    prefixed = kombu.Connection('gamqp+amqps://me:secret@h')
    assert 'secret' not in repr(prefixed)
    assert 'secret' not in str(raised(ValueError, prefixed.connect))


def the_transport_is_kept_at_failover() -> None:
    for brokers in (f'{NOBODY};{URL}', [NOBODY, URL]):
        with connect(brokers) as connection:
            connection.ensure_connection(**{**RETRY, 'interval_start': 0.01})
            assert isinstance(connection.connection, gamqp.Connection)
            assert [url.partition(':')[0] for url in connection.alt] == ['gamqp', 'gamqp']
            with connection.clone() as copy:
                copy.ensure_connection(**{**RETRY, 'interval_start': 0.01})
                assert isinstance(copy.connection, gamqp.Connection)
    # The one with TLS is not left either, which would be in the clear.
    secured = connect('amqp://a;amqps://b;pyamqp://c;redis://d', 'gamqp.kombu:SSLTransport')
    for _ in range(3):
        assert type(secured.transport) is gamqp.kombu.SSLTransport and secured.ssl is True, secured.hostname
        secured.maybe_switch_next()
    assert secured.alt == ['gamqps://a', 'gamqps://b', 'gamqps://c', 'redis://d']
    # Who writes a scheme for each has what it says.
    assert [*connect('amqps://a;redis://b;AMQP://c').transport.client.alt] == ['gamqps://a', 'redis://b', 'gamqp://c']
    assert kombu.Connection('gamqp://a;amqp://b').transport.client.alt == ['gamqp://a', 'amqp://b']


# -- publishing -----------------------------------------------------------------------------------


def publishes_are_confirmed_by_default() -> None:
    with connect() as connection:
        arguments = {'x-max-length': 1, 'x-overflow': 'reject-publish'}
        with declared(connection, queue_arguments=arguments) as queue:
            publish(connection, queue, 1)
            raised(amqp.exceptions.MessageNacked, publish, connection, queue, 2)


def many_greenlets_publish_on_one_pooled_connection() -> None:
    with connect() as connection, declared(connection) as queue:
        pool = pools.producers[connection]
        pool.limit = 1
        failed: list[Any] = []
        with pool.acquire(block=True) as producer:
            raw = producer.connection.connection

            def work(number: int) -> None:
                try:
                    for part in range(5):
                        producer.publish([number, part], exchange=queue.exchange, routing_key=queue.routing_key)
                except Exception as error:
                    failed.append(error)

            greenlets = [backend.spawn(work, number) for number in range(200)]
            wait_until(lambda: all(one.dead for one in greenlets))
            assert not failed, failed[:3]
            stats = raw.stats()
            assert stats['published'] == stats['confirmed'] == 1000, stats
        assert queue(connection).queue_declare(passive=True).message_count == 1000
        pools.reset()


def autoretry() -> None:
    with connect() as connection, declared(connection) as queue:
        channel = connection.default_channel
        kill_connections(connection)

        def count(*, channel: Any) -> int:
            return int(channel.queue_declare(queue.name, passive=True).message_count)

        counted, revived = connection.autoretry(count, channel=channel, **{**RETRY, 'interval_start': 0.01})()
        assert counted == 0 and revived is not channel


def quorum_queues_and_native_delayed_delivery() -> None:
    got: list[Any] = []
    with connect() as connection:
        name = f'delayed.{next(numbers)}'
        queue = kombu.Queue(
            name, kombu.Exchange(name, 'topic'), routing_key=name, queue_arguments={'x-queue-type': 'quorum'}
        )
        queue(connection).declare()
        native_delayed_delivery.declare_native_delayed_delivery_exchanges_and_queues(connection, 'quorum')
        native_delayed_delivery.bind_queue_to_native_delayed_delivery_exchange(connection, queue)
        key = native_delayed_delivery.calculate_routing_key(1, name)
        began = time.monotonic()
        connection.Producer().publish('late', exchange=native_delayed_delivery.level_name(27), routing_key=key)
        with connection.Consumer(
            queue, callbacks=[lambda body, message: (got.append(body), message.ack())]
        ) as consumer:
            consumer.qos(prefetch_count=1, apply_global=False)
            connection.drain_events(timeout=60)
        assert got == ['late'] and time.monotonic() - began > 0.9
        queue(connection).delete()


# -- a loss is heard of ----------------------------------------------------------------------------


def a_publisher_that_retries_cannot_hide_a_loss() -> None:
    """The consuming greenlet is elsewhere while another one finds the connection lost, and has it opened again."""
    # With a list kombu closes before it collects; and it drops a transport whose broker cannot be reached.
    for brokers in (URL, f'{URL};{URL}', f'{URL};{NOBODY};{URL}'):
        with connect(brokers) as connection, declared(connection) as queue:
            got: list[Any] = []
            take = functools.partial(keep, got)
            with connection.Consumer(queue, callbacks=[take], no_ack=True) as consumer:
                kill_connections(connection)
                publish(connection, queue, 'x', retry=True, retry_policy=RETRY)
                assert connection.connected and connection.connection.is_open
                error = raised(connection.recoverable_connection_errors, connection.drain_events, timeout=60)
                assert 'closed by a test' in str(error), error
                consumer.revive(connection.default_channel)
                consumer.consume()
                connection.drain_events(timeout=60)
                assert got == ['x']


def an_attempt_to_connect_that_fails_does_not_hide_a_loss() -> None:
    """As while a broker starts again: kombu keeps trying with one transport."""
    answers: list[Any] = ['guest', OSError('not yet'), greenlet.GreenletExit(), 'guest']
    host, port = URL.partition('@')[2].partition('/')[0].split(':')

    def password() -> str:
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return str(answer)

    given = connect(host, port=int(port), userid='guest', password=password, virtual_host=VHOST)
    with given as connection, declared(connection) as queue:
        connection.Consumer(queue, callbacks=[print], no_ack=True).consume()
        kill_connections(connection)
        connection.collect()
        raised(kombu.exceptions.OperationalError, connection.ensure_connection, max_retries=0)
        raised(greenlet.GreenletExit, connection.ensure_connection, max_retries=0)
        connection.ensure_connection(**RETRY)
        assert connection.connection.is_open and not answers
        error = raised(connection.recoverable_connection_errors, connection.drain_events, timeout=60)
        assert 'closed by a test' in str(error), error
        raised(TimeoutError, connection.drain_events, timeout=0.01)


def greenlets_that_need_a_connection_at_the_same_time_open_one() -> None:
    with ScriptedBroker() as peer:
        connection = connect(f'amqp://guest:guest@127.0.0.1:{peer.port}//')
        both = [greenlets.spawn(lambda: connection.connection) for _ in range(2)]
        peer.handshake()
        assert {task.get() for task in both} == {connection.connection}
        peer.expect_nothing_more(connection.connection)
        connection.collect()
    # A real one, with consumers of the greenlet that was first: the other one drains what they get.
    with connect() as connection, declared(connection) as queue:
        got: list[Any] = []

        def consume() -> None:
            connection.Consumer(queue, callbacks=[functools.partial(keep, got)], no_ack=True).consume()

        def drain() -> None:
            while not got:
                with contextlib.suppress(TimeoutError):
                    connection.drain_events(timeout=1)

        connection.collect()
        both = [greenlets.spawn(consume), greenlets.spawn(drain)]
        both[0].get()
        with connect() as other:
            publish(other, queue, 'x')
        both[1].get()
        assert got == ['x']


def an_attempt_that_fails_or_is_killed_is_known_to_all_who_wait_for_it() -> None:
    answers: list[Any] = []

    def password() -> str:
        backend.sleep(0.01)
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return str(answer)

    host, port = URL.partition('@')[2].partition('/')[0].split(':')
    connection = connect(host, port=int(port), userid='guest', password=password, virtual_host=VHOST)

    def attempt() -> Any:
        try:
            return connection.ensure_connection(max_retries=0).connection
        except (kombu.exceptions.OperationalError, greenlet.GreenletExit) as error:
            return str(error)

    def attempts(*told: Any) -> list[Any]:
        answers[:] = told
        both = [greenlets.spawn(attempt) for _ in range(2)]
        said = [task.get() for task in both]
        assert not answers
        return said

    with connection:
        assert attempts(OSError('no')) == ['no', 'no']
        assert attempts(greenlet.GreenletExit('killed'), 'guest') == ['killed', connection.connection]
        assert connection.connected


def a_silent_broker_is_waited_for_once() -> None:
    """kombu closes the default channel, and then the connection."""
    with ScriptedBroker() as peer:
        connection = connect(f'amqp://guest:guest@127.0.0.1:{peer.port}//', transport_options={'rpc_timeout': 30})
        opening = greenlets.spawn(lambda: connection.default_channel)
        peer.handshake()
        peer.expect('channel.open', 1)
        peer.send('channel.open-ok', 1)
        channel = opening.get()
        raised(TimeoutError, channel.close, timeout=0.01)
        began = time.monotonic()
        connection.release()
        assert time.monotonic() - began < 8
        peer.expect('channel.close', 1)
        peer.expect('connection.close')
        peer.expect_end()


def who_closes_a_connection_knows_of_its_loss() -> None:
    with connect() as connection, declared(connection) as queue:
        connection.Consumer(queue, callbacks=[print]).consume()
        kill_connections(connection)
        connection.close()
        connection.connect()
        raised(TimeoutError, connection.drain_events, timeout=0.01)


def an_ack_that_comes_too_late_harms_nobody() -> None:
    """The channel has ended by an error meanwhile, and is open again: the tag means nothing, or another message."""
    with connect() as connection, declared(connection) as queue:
        messages: list[Any] = []
        consumer = connection.Consumer(queue, on_message=messages.append)
        for number in range(3):
            publish(connection, queue, number)
        consumer.consume()
        for _ in range(3):
            connection.drain_events(timeout=60)
        channel = consumer.channel
        raised(amqp.NotFound, channel.queue_declare, 'missing', passive=True)
        messages[0].ack()
        messages[1].reject()
        messages[2].requeue()
        raised(kombu.exceptions.MessageStateError, messages[0].ack)
        assert channel.queue_declare(queue.name, passive=True).message_count == 3
        assert connection.connection.stats()['stale_settlements'] == 3


def a_message_is_acked_once_and_not_where_none_is_due() -> None:
    """Celery and kombu's mixins ack whatever comes; RabbitMQ closes a channel for an ack that is not due."""
    with connect() as connection, declared(connection) as queue:
        messages: list[Any] = []
        channel = connection.default_channel
        for no_ack in (True, False):
            publish(connection, queue, no_ack)
            consumer = kombu.Consumer(channel, [queue], on_message=messages.append, no_ack=no_ack)
            with consumer:
                connection.drain_events(timeout=60)
                messages[-1].ack()
        publish(connection, queue, 'got')
        messages.append(queue(channel).get())
        messages[-1].ack()
        assert [message.acknowledged for message in messages] == [False, True, True]
        for message in messages[1:]:
            raised(kombu.exceptions.MessageStateError, message.ack)
        messages[0].ack()
        assert channel.queue_declare(queue.name, passive=True).message_count == 0
        channel.basic_recover(requeue=True)
        assert channel.queue_declare(queue.name, passive=True).message_count == 0


def fields_of(message: Any) -> dict[str, Any]:
    names = {*kombu.Message.__slots__, *vars(message)} - {'__dict__'}
    return {name: getattr(message, name) for name in names}


def a_message_has_what_kombus_own_has() -> None:
    """And is made without kombu's constructors, which cost more than they do."""
    called: list[Any] = []
    with connect() as connection, declared(connection) as queue:
        channel = connection.default_channel
        channel.basic_publish(gamqp.Message(b'plain'), queue.exchange.name, queue.routing_key)
        publish(connection, queue, {'number': 1}, headers={'task': 'x'}, priority=3, correlation_id='c')
        publish(connection, queue, {'number': 2}, compression='zlib')
        for _ in range(3):
            raw = channel.basic_get(queue.name, no_ack=True)
            called.clear()
            sys.setprofile(lambda frame, event, _: called.append(frame.f_code) if event == 'call' else None)
            ours = channel.message_to_python(raw)
            sys.setprofile(None)
            theirs = pyamqp.Message(raw, channel=channel)
            assert fields_of(ours) == fields_of(theirs), (fields_of(ours), fields_of(theirs))
            assert ours.payload == theirs.payload
            by_kombu = pyamqp.Message.__init__.__code__ in called
            # Newer ones may have fields that are not known here.
            assert by_kombu is ('compression' in ours.headers) or kombu.VERSION[:2] > (5, 7)


# -- drain_events ----------------------------------------------------------------------------------


def fill(connection: kombu.Connection, queue: Any, consumer: Any, count: int) -> None:
    """Wait until so many messages have arrived for a consumer."""
    for number in range(count):
        publish(connection, queue, number)
    consumer.consume()
    raw = consumer.channel.connection
    wait_until(lambda: inside.waiting_events(raw) == count)


def one_event_a_call_for_who_drains_one_connection() -> None:
    """kombu's itermessages and the like count the calls: they would wait for what they have already."""
    with connect() as connection, declared(connection) as queue:
        got: list[Any] = []
        consumer = connection.Consumer(queue, callbacks=[lambda body, _: got.append(body)], no_ack=True)
        fill(connection, queue, consumer, 5)
        for number in range(5):
            connection.drain_events(timeout=60)
            assert got == list(range(number + 1))
        consumer.cancel()
        for number in range(3):
            publish(connection, queue, number)
        messages = itermessages(connection, connection.default_channel, queue, limit=3, timeout=60, no_ack=True)
        assert [body for body, _ in messages] == [0, 1, 2]


def who_drains_two_connections_waits_for_both() -> None:
    """As Celery's worker: one by which its tasks come, and one by which it sends events of its own."""
    with connect() as tasks, connect() as events, declared(tasks) as queue:
        got: list[Any] = []
        events.connect()
        consumer = tasks.Consumer(queue, callbacks=[lambda body, _: got.append(body)], no_ack=True)
        fill(tasks, queue, consumer, 50)
        tasks.drain_events(timeout=60)
        assert got == [0]
        # There is something to do: no wait.
        began = time.monotonic()
        raised(TimeoutError, events.drain_events, timeout=60)
        assert time.monotonic() - began < 30
        calls = 0
        while len(got) < 50:  # all that has arrived, as far as 10 ms suffice
            tasks.drain_events(timeout=60)
            calls += 1
        assert got == list(range(50)) and calls < 40
        # Nothing to do: it waits, until something comes or the time is over.
        raised(TimeoutError, events.drain_events, timeout=0.02)
        publish(events, queue, 'more')
        raised(TimeoutError, events.drain_events, timeout=60)
        tasks.drain_events(timeout=60)
        assert got[50:] == ['more']
        consumer.cancel()


def the_wait_beside_another_connection_ends_with_either() -> None:
    with connect() as tasks, connect() as events, declared(tasks) as queue:
        events.connect()
        consumer = tasks.Consumer(queue, callbacks=[print], no_ack=True)
        consumer.consume()
        raised(TimeoutError, tasks.drain_events, timeout=0.01)
        backend.call_later(0.02, lambda: backend.spawn(node.close_connections, VHOST))
        # Not by the other's loss, of which nobody would hear any more; its own is its own.
        error = raised((TimeoutError, gamqp.ConnectionForced), events.drain_events, timeout=60)
        assert isinstance(error, TimeoutError) or not events.connected
        assert 'closed by a test' in str(raised(tasks.connection_errors, tasks.drain_events, timeout=60))


def a_return_comes_out_of_a_connection_without_consumers() -> None:
    with connect() as tasks, connect() as events, declared(tasks) as queue:
        consumer = tasks.Consumer(queue, callbacks=[print], no_ack=True)
        consumer.consume()
        raised(TimeoutError, tasks.drain_events, timeout=0.01)
        returned: list[Any] = []
        events.default_channel.events['basic_return'].add(lambda *args: returned.append(args))
        message = events.default_channel.prepare_message('nowhere')
        backend.call_later(
            0.02, lambda: backend.spawn(events.default_channel.publish, message, routing_key='none', mandatory=True)
        )
        deadline = green.Deadline(60)
        while not returned and not deadline.passed:
            with contextlib.suppress(TimeoutError):
                events.drain_events(timeout=60)
        assert returned


SCENARIOS = (
    it_looks_like_kombus_own,
    schemes,
    errors_are_py_amqps_too,
    a_callable_password_is_asked_at_each_connect,
    arguments_reach_the_connection,
    a_url_means_what_it_means_to_kombu,
    other_transports_are_not_concerned,
    the_transport_is_kept_at_failover,
    publishes_are_confirmed_by_default,
    many_greenlets_publish_on_one_pooled_connection,
    autoretry,
    quorum_queues_and_native_delayed_delivery,
    a_publisher_that_retries_cannot_hide_a_loss,
    an_attempt_to_connect_that_fails_does_not_hide_a_loss,
    greenlets_that_need_a_connection_at_the_same_time_open_one,
    an_attempt_that_fails_or_is_killed_is_known_to_all_who_wait_for_it,
    a_silent_broker_is_waited_for_once,
    who_closes_a_connection_knows_of_its_loss,
    an_ack_that_comes_too_late_harms_nobody,
    a_message_is_acked_once_and_not_where_none_is_due,
    a_message_has_what_kombus_own_has,
    one_event_a_call_for_who_drains_one_connection,
    who_drains_two_connections_waits_for_both,
    the_wait_beside_another_connection_ends_with_either,
    a_return_comes_out_of_a_connection_without_consumers,
)


if __name__ == '__main__':
    scenarios.main(SCENARIOS, sys.argv[4:], green)
