"""``gamqp consume``, as a process: what is printed is acked, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import broker_tools
import greenlets
import pytest
from commands import PATIENCE, finished, gamqp, started

from gamqp import Message

Take = Callable[[str], list[Message]]


@pytest.fixture
def publish(rabbit: Any) -> Callable[[str, list[bytes]], None]:
    def publish(queue: str, bodies: list[bytes]) -> None:
        with rabbit.connect() as connection:
            broker_tools.publish_all(connection.channel(), queue, bodies)

    return publish


def numbers(count: int, first: int = 0) -> list[bytes]:
    return [b'%d' % number for number in range(first, first + count)]


def bodies(messages: list[Message]) -> list[bytes]:
    return [bytes(one.body) for one in messages]


@pytest.mark.any_broker
def test_printed_looked_at_and_rejected(rabbit: Any, stock: str, messages: Take, publish: Any) -> None:
    publish(stock, numbers(10))
    assert gamqp('consume', stock, '--limit', '3', '--requeue', url=rabbit.url)[:2] == (0, '0\n1\n2\n')
    done = gamqp('consume', stock, '--limit', '2', '--json', url=rabbit.url)
    assert done.code == 0 and done.err == '2 messages\n'
    assert [(line['body'], line['routing_key'], line['redelivered']) for line in done.lines] == [
        ('0', stock, True),
        ('1', stock, True),
    ]
    reject = ('--limit', '4', '--prefetch', '2', '--reject', '-q')
    assert gamqp('consume', stock, *reject, url=rabbit.url) == (0, '2\n3\n4\n5\n', '')
    done = gamqp('consume', stock, '--idle-timeout', '0.5', '--no-ack', '--json', url=rabbit.url)
    # The limit before was exact: nothing was sent beyond it, and so came back as redelivered.
    assert [(line['body'], line['redelivered']) for line in done.lines] == [(f'{n}', False) for n in range(6, 10)]
    assert gamqp('consume', stock, '--idle-timeout', '0.1', url=rabbit.url) == (2, '', '0 messages\n')
    assert messages(stock) == []


@pytest.mark.any_broker
def test_a_pipe_keeps_all_of_a_message(rabbit: Any, stock: str, messages: Take, publish: Any) -> None:
    with rabbit.connect() as connection:
        channel = connection.channel()
        headers = {'b': b'\xff', 'n': 1, 'deep': {'list': [1, None]}}
        channel.publish(b'\x00\xff', routing_key=stock, headers=headers, priority=1, message_id='m').wait()
        printed = gamqp('consume', stock, '--json', '--limit', '1', url=rabbit.url).out
        assert gamqp('publish', '--json', url=rabbit.url, stdin=printed).code == 0
        (message,) = messages(stock)
        assert (message.body, message.headers, message.message_id) == (b'\x00\xff', headers, 'm')
        assert message.properties['priority'] == 1 and 'delivery_mode' not in printed
        elsewhere = broker_tools.shared_queue(channel)
        channel.queue_bind(elsewhere, 'amq.topic', stock)
        # What is said wins over the envelope: a queue, or only the exchange, and the key is that of the envelope.
        assert gamqp('publish', elsewhere, '--json', url=rabbit.url, stdin=printed).code == 0
        assert gamqp('publish', '-e', 'amq.topic', '--json', url=rabbit.url, stdin=printed).code == 0
        assert [one.delivery_info['routing_key'] for one in messages(elsewhere)] == [elsewhere, stock]
        channel.queue_delete(elsewhere)
    assert messages(stock) == []


@pytest.mark.any_broker
def test_signals_closed_pipes_and_what_is_not_there(rabbit: Any, stock: str, messages: Take, publish: Any) -> None:
    assert gamqp('consume', 'no.such.queue', url=rabbit.url).code == 2
    publish(stock, numbers(5))
    with started('consume', stock, '--requeue', url=rabbit.url) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b'0\n'
        process.send_signal(signal.SIGINT)
        done = finished(process)
    assert done.code == 130 and 'Traceback' not in done.err
    with started('consume', stock, url=rabbit.url) as process:  # as `| head -1`: all is printed, and then nobody reads
        assert process.stdout is not None and process.stderr is not None
        for number in range(5):
            assert process.stdout.readline() == b'%d\n' % number
        process.stdout.close()
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == b'5 messages\n'
    assert messages(stock) == []


@pytest.mark.any_broker
@pytest.mark.slow
def test_after_a_loss_it_goes_on_where_that_was_asked_for(
    rabbit: Any, stock: str, publish: Any, tmp_path: Path
) -> None:
    handled = tmp_path / 'handled'
    handled.touch()
    publish(stock, numbers(2))
    by_command = ('--exec', f'cat >> {handled}; echo >> {handled}', '--limit', '4', '--reconnect')
    with started('consume', stock, *by_command, url=rabbit.url) as process:
        greenlets.wait_until(lambda: handled.read_text() == '0\n1\n', PATIENCE)
        name = f'gamqp consume {platform.node()}:{process.pid}'

        def connections() -> list[str]:
            found = rabbit.node.connections(rabbit.vhost)
            return [one['name'] for one in found if one.get('user_provided_name') == name]

        greenlets.wait_until(connections, PATIENCE)
        rabbit.node.api(f'connections/{quote(connections()[0], "")}', 'DELETE')
        publish(stock, numbers(2, 2))
        done = broker_tools.in_thread(finished, process)
    assert done.code == 0 and 'gamqp consume: the connection is open again' in done.err, done
    assert handled.read_text() == '0\n1\n2\n3\n'


@pytest.mark.any_broker
def test_a_stream_from_an_offset(rabbit: Any, publish: Any) -> None:
    with rabbit.connect() as connection:
        channel = connection.channel()
        queue = broker_tools.shared_queue(channel, arguments={'x-queue-type': 'stream'})
        publish(queue, numbers(10))
        done = gamqp('consume', queue, '--offset', '7', '--idle-timeout', '1', url=rabbit.url)
        assert (done.code, done.out) == (0, '7\n8\n9\n'), done
        assert gamqp('consume', queue, '--offset', 'fourth', url=rabbit.url).code == 64
        done = gamqp('consume', queue, '--idle-timeout', '0.1', url=rabbit.url)
        assert done.code == 2 and 'is a stream: without --offset' in done.err
        channel.queue_delete(queue)


@pytest.mark.any_broker
def test_a_folder(rabbit: Any, stock: str, publish: Any, tmp_path: Path) -> None:
    publish(stock, [b'a', b'\xff'])
    for _ in range(2):
        done = gamqp('consume', stock, '--save', str(tmp_path / 'new'), '--limit', '1', url=rabbit.url)
        assert (done.code, done.out) == (0, ''), done
    files = sorted((tmp_path / 'new').iterdir())
    assert [file.name for file in files] == ['00000001.json', '00000002.json']
    first, second = (json.loads(file.read_text()) for file in files)
    assert first['body'] == 'a' and second['body_base64'] == '/w==' and first['received_at'] <= second['received_at']


HANDLER = """\
read number
case $AMQP_REDELIVERED$number in
    0*1) exit 1 ;;
    0*2) sleep 1000 ;;
    0*3) kill -9 $$ ;;
esac
echo $number >> "$HANDLED"
"""


@pytest.mark.any_broker
def test_a_command_that_fails_hangs_or_is_killed_loses_none(
    rabbit: Any, stock: str, messages: Take, publish: Any, tmp_path: Path
) -> None:
    publish(stock, numbers(20))
    handled = tmp_path / 'handled'
    done = gamqp(
        *('consume', stock, '--exec', HANDLER, '--concurrency', '5', '--exec-timeout', '0.5', '--idle-timeout', '2'),
        url=rabbit.url,
        env={'HANDLED': str(handled)},
    )
    assert done.code == 1  # commands have failed
    assert '20 messages handled, 6 failed' in done.err, done.err
    for text in ('exit code 1', 'took more than 0.5 s', 'ended by SIGKILL'):
        assert text in done.err
    assert sorted(int(line) for line in handled.read_text().split()) == list(range(20))
    assert messages(stock) == []


@pytest.mark.any_broker
def test_a_limit_rejects_and_what_cannot_be_run(rabbit: Any, stock: str, messages: Take, publish: Any) -> None:
    publish(stock, numbers(9))
    fails = ('--exec', 'read n; test $n != 1', '--on-failure', 'reject', '--concurrency', '3', '--limit', '4')
    done = gamqp('consume', stock, *fails, url=rabbit.url)
    assert done.code == 1 and '4 messages handled, 1 failed' in done.err
    done = gamqp('consume', stock, '--exec', 'no-such-program', url=rabbit.url)
    assert done.code == 1 and 'cannot be run (exit code 127)' in done.err
    env = ('--exec', 'cat; printf " $AMQP_ROUTING_KEY $AMQP_EXCHANGE."', '--json', '--limit', '1')
    done = gamqp('consume', stock, *env, url=rabbit.url)
    envelope, _, rest = done.out.partition('\n')
    assert json.loads(envelope)['body'] == '4' and rest == f' {stock} .'
    assert bodies(messages(stock)) == numbers(4, 5)


@pytest.mark.any_broker
def test_a_command_has_its_message_whole_although_its_parent_dies_at_once(
    rabbit: Any, stock: str, messages: Take, publish: Any, tmp_path: Path
) -> None:
    publish(stock, [b'x' * 500])
    got = tmp_path / 'got'
    killing = f'kill -9 $PPID; cat > {tmp_path / "part"}; mv {tmp_path / "part"} {got}'
    assert gamqp('consume', stock, '--exec', killing, url=rabbit.url).code == -signal.SIGKILL
    greenlets.wait_until(got.exists, PATIENCE)
    assert got.read_bytes() == b'x' * 500
    handled = gamqp('consume', stock, '--exec', 'cat; test $AMQP_REDELIVERED = 1', '--limit', '1', url=rabbit.url)
    assert (handled.code, handled.out) == (0, 'x' * 500)


@pytest.mark.any_broker
def test_signals_while_commands_run(rabbit: Any, stock: str, messages: Take, publish: Any, tmp_path: Path) -> None:
    """They may finish, for as long as --grace says; the others go back. A kill -9 loses none either."""
    publish(stock, numbers(6))
    with rabbit.connect() as connection:
        channel = connection.channel()
        pids = tmp_path / 'pids'
        waits = (
            '--exec',
            f'read n; echo $$ >> {pids}; test $n = 1 && exec sleep 1000; sleep 0.3',
            '--concurrency',
            '2',
        )
        with started('consume', stock, *waits, '--grace', '1', '--prefetch', '4', url=rabbit.url) as process:
            greenlets.wait_until(lambda: pids.exists() and len(pids.read_text().split()) >= 2, PATIENCE)
            process.send_signal(signal.SIGTERM)
            done = broker_tools.in_thread(finished, process)
        assert done.code == 130 and ' handled, 1 failed, 0 running' in done.err
        left = broker_tools.ready(channel, stock)
        assert 1 <= left <= 5
        pids.unlink()
        with started('consume', stock, '--exec', f'echo $$ >> {pids}; exec sleep 1000', url=rabbit.url) as process:
            greenlets.wait_until(pids.exists, PATIENCE)
            process.kill()
            process.wait()
        broker_tools.wait_ready(channel, stock, left)
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pids.read_text()), signal.SIGKILL)  # nobody else ends it
