"""A broker's life: start, stop, restart, maintenance; threads and hubs; errors of arguments."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
import time
from typing import Any

import inside
import pytest
from conversations import BrokerTalker

import gamqp
from gamqp import testing


def talker(broker: testing.Broker, *channels: int) -> BrokerTalker:
    talk = BrokerTalker(broker, '')
    talk.open(*channels)
    return talk


def test_it_starts_and_stops_at_once() -> None:
    begun = time.process_time()
    for _ in range(20):
        with testing.Broker():
            pass
    assert time.process_time() - begun < 20 * 0.01


def test_each_has_a_port_of_its_own_and_the_next_may_have_it_again() -> None:
    with testing.Broker() as one, testing.Broker() as other:
        assert one.port != other.port
        assert one.url == f'amqp://guest:guest@127.0.0.1:{one.port}/%2F'
        with pytest.raises(OSError):
            testing.Broker(port=one.port).start()
    with testing.Broker(port=one.port):
        pass


def test_wrong_arguments_are_named() -> None:
    for arguments, text in (({'like': 'rabbitmq-2'}, "like: one of 'rabbitmq-4.3', 'rabbitmq-3.10' is expected"),):
        with pytest.raises(ValueError, match=text):
            testing.Broker(**arguments)  # type: ignore[arg-type]
    broker = testing.Broker()
    for call, text in (
        (lambda: broker.restart(keep='some'), "keep: 'durable', 'all' or 'nothing' is expected"),
        (lambda: broker.cut(after=-1), 'after: a number of bytes'),
        (lambda: broker.refuse('queue.nonsense', 406), "method: a name such as 'queue.declare'"),
        (lambda: broker.refuse('queue.declare', 406, times=0), 'times: a number from 1 on'),
        (lambda: broker.delay('queue.declare', -1), 'seconds: a number from 0 on'),
        (lambda: broker.nack_next(-1), 'count: a number from 0 on'),
        (lambda: broker.clock.advance(-1), 'seconds: a clock goes forward only'),
        (lambda: testing.Cluster(0), 'size: a number from 1 on'),
    ):
        with pytest.raises(ValueError, match=text):
            call()
    with pytest.raises(LookupError, match="no queue 'q' in virtual host '/'; there are: none"):
        broker.queue('q')
    with broker, pytest.raises(RuntimeError, match='was started already'):
        broker.start()
    broker.stop()


@pytest.mark.parametrize(
    ('like', 'permitted', 'answer'),
    [
        ('4.3', True, 'queue.declare-ok'),
        ('4.3', False, 'connection.close'),
        ('3.10', False, 'queue.declare-ok'),
    ],
)
def test_deprecated_features_may_be_forbidden(like: str, permitted: bool, answer: str) -> None:
    with testing.Broker(like, deprecated_features=permitted) as broker, contextlib.closing(talker(broker, 1)) as talk:
        _, name, values = talk.ask('queue.declare', queue='neither-durable-nor-exclusive')[0]
        assert name == answer
        if name == 'connection.close':
            assert values['reply_code'] == 541 and 'transient_nonexcl_queues' in values['reply_text']


def test_stop_closes_what_is_open(broker: testing.Broker) -> None:
    talk = talker(broker, 1)
    broker.stop()
    assert talk.read(5) == [(0, 'the end', {})]
    talk.close()


def test_a_restart_keeps_what_is_durable(broker: testing.Broker) -> None:
    talk = talker(broker, 1)
    talk.ask('queue.declare', queue='durable', durable=True)
    talk.ask('queue.declare', queue='mine', exclusive=True)
    talk.ask('exchange.declare', exchange='kept', type='topic', durable=True)
    talk.ask('exchange.declare', exchange='gone', type='topic')
    talk.ask('queue.bind', queue='durable', exchange='kept', routing_key='#')
    talk.publish('kept', 'k', b'persistent', delivery_mode=2)
    talk.publish('kept', 'k', b'transient')
    talk.ask('basic.get', queue='durable')
    broker.restart()
    closes = [values for _, name, values in talk.settle() if name == 'connection.close']
    assert closes[0]['reply_code'] == 320
    assert closes[0]['reply_text'] == "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
    assert set(broker.queues()) == {'durable'}
    assert 'kept' in broker.exchanges() and 'gone' not in broker.exchanges()
    broker.assert_messages('durable', b'persistent')
    again = talker(broker, 1)
    again.publish('kept', 'k', b'after')
    again.settle()
    broker.assert_messages('durable', b'persistent', b'after')
    talk.close(), again.close()


@pytest.mark.parametrize(('keep', 'left'), [('all', {'durable', 'transient'}), ('nothing', set())])
def test_a_restart_keeps_all_or_nothing(keep: str, left: set[str]) -> None:
    with testing.Broker('3.10') as broker:
        talk = talker(broker, 1)
        talk.ask('queue.declare', queue='durable', durable=True)
        talk.ask('queue.declare', queue='transient')
        broker.restart(keep=keep, abrupt=True)
        assert set(broker.queues()) == left
        talk.settle()
        talk.close()


def test_maintenance_lets_nobody_in(broker: testing.Broker) -> None:
    talk = talker(broker)
    broker.maintenance()
    assert any('maintenance mode' in str(values) for _, _, values in talk.settle())
    with pytest.raises(OSError):
        BrokerTalker(broker, '')
    broker.revive()
    with contextlib.closing(talker(broker, 1)):
        assert len(broker.connections) == 1
    talk.close()


def test_an_error_of_ours_is_raised_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = testing.Broker().start()

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(inside.server(broker), 'opened', fail)
    talk = BrokerTalker(broker, '')
    talk.open()
    talk.close()
    with contextlib.closing(BrokerTalker(broker, '')):  # others are still served
        pass
    with pytest.raises(ZeroDivisionError):
        broker.stop()


def test_waiting_shows_what_there_is(broker: testing.Broker) -> None:
    with contextlib.closing(talker(broker, 1)) as talk:
        talk.ask('queue.declare', queue='here', durable=True)
        with pytest.raises(
            AssertionError, match=r"(?s)not within 0 s.*classic queue 'here', 0 ready, 0 unacked"
        ) as caught:
            broker.wait_until(lambda: broker.queue('there').messages, timeout=0)
        assert isinstance(caught.value.__cause__, LookupError)


def test_waiting_lets_the_client_go_on(broker: testing.Broker) -> None:
    with gamqp.connect(broker.url) as connection:
        channel = connection.channel()
        channel.queue_declare('q', durable=True, auto_delete=False)
        subscription = channel.subscribe('q', lambda message: message.ack())
        broker.publish('', 'q', b'x')
        broker.wait_until(lambda: not broker.queue('q').messages and not broker.queue('q').unacked)
        subscription.cancel()


PROGRAM = """
    import sys
    {patch}
    import gamqp
    from gamqp import testing

    with testing.Broker() as broker, gamqp.connect(broker.url) as connection:
        channel = connection.channel()
        channel.queue_declare('q', durable=True, auto_delete=False)
        channel.confirm_select()
        channel.publish(b'x', routing_key='q').wait(10)
        broker.assert_messages('q', b'x')
        broker.cut()
        broker.wait_until(lambda: not broker.connections)
    print('done')
"""
PATCHES = {
    'not patched': '',
    'gevent': 'from gevent import monkey; monkey.patch_all()',
    'eventlet': 'import warnings; warnings.simplefilter("ignore"); import eventlet; eventlet.monkey_patch()',
    'gevent, late': 'import gamqp.testing; from gevent import monkey; monkey.patch_all()',
}


@pytest.mark.parametrize('patch', PATCHES)
def test_it_runs_in_patched_programs(patch: str) -> None:
    program = textwrap.dedent(PROGRAM).replace('{patch}', PATCHES[patch])
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == 'done\n', done.stderr
