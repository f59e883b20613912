"""Whole programs in processes of their own: patched or not, interrupted, forked, ended without closing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import greenlets
import pytest
from installed import is_installed
from program_output import printed_line
from script import ScriptedBroker

PROGRAMS = Path(__file__).parent / 'programs'
# Each program once: with the greenlet library of this run.
every_library = pytest.mark.parametrize('library', [greenlets.GREEN])
# Seconds that a program may take; it takes one or two.
PATIENCE = 120

# Patched after gamqp is imported: these programs take seconds each.
late = pytest.param('late', marks=pytest.mark.slow)


def start(*command: str) -> subprocess.Popen[str]:
    """Run Python with these arguments, so that it finds what this process finds, and the programs."""
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(PROGRAMS), *filter(None, sys.path)])}
    return subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def program(name: str, *args: str) -> subprocess.Popen[str]:
    return start(str(PROGRAMS / name), *args)


def outcome(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return code, output and errors of a program; a stuck one is ended and fails the test."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f'the program did not end within {PATIENCE} s:\n{out}\n{err}')
    return process.returncode, out, err


def successful(process: subprocess.Popen[str]) -> str:
    """What a program printed that must end well."""
    code, out, err = outcome(process)
    assert code == 0, err
    return out


@every_library
@pytest.mark.parametrize('when', ['early', late, 'not'])
def test_a_program_ticks_on_while_it_waits(rabbit: Any, library: str, when: str) -> None:
    told = json.loads(successful(program('ticking.py', library, when, rabbit.url)))
    assert told['backend'] == library
    # Confirms, then 0.3 s without an event; a tick is due every 5 ms, a tenth of that is plenty.
    for confirms, waiting in zip(told['ticks'][::2], told['ticks'][1::2], strict=False):
        assert confirms >= 1
        assert waiting >= 6


CHOICES = [
    ('import gamqp', 'gevent'),
    ('import gevent.monkey; gevent.monkey.patch_all(); import gamqp', 'gevent'),
    pytest.param('import gamqp; import eventlet', 'gevent', marks=pytest.mark.slow),
    ('import eventlet; eventlet.monkey_patch(); import gamqp', 'eventlet'),
    pytest.param('import gamqp; import eventlet; eventlet.monkey_patch()', 'eventlet', marks=pytest.mark.slow),
    ('import eventlet; eventlet.monkey_patch(thread=False); import gamqp', 'eventlet'),
    ('import gamqp.green; gamqp.green.use("eventlet")', 'eventlet'),
]


@pytest.mark.parametrize(('first', 'chosen'), CHOICES)
def test_the_library_is_chosen_at_first_use(first: str, chosen: str) -> None:
    if not is_installed('eventlet') or not is_installed('gevent'):
        pytest.skip('one of the two libraries is not here')
    code = f'{first}; from gamqp import green; print(green.backend().NAME)'
    assert successful(start('-W', 'ignore', '-c', code)).strip() == chosen


def test_importing_gamqp_imports_no_greenlet_library() -> None:
    """Importing one has effects: which, and when, is the program's decision."""
    code = 'import sys, gamqp; print([name for name in ("gevent", "eventlet") if name in sys.modules])'
    assert successful(start('-c', code)).strip() == '[]'


def test_a_library_that_does_not_exist_is_refused() -> None:
    from gamqp import green

    before = green.backend()
    with pytest.raises(ValueError, match="'gevent' or 'eventlet', not 'nonsense'"):
        green.use('nonsense')
    assert green.backend() is before


# -- the end of a program ---------------------------------------------------------------


@pytest.fixture
def lasting_queue(rabbit: Any) -> Iterator[str]:
    """The name of a queue that outlives the program which declares it."""
    name = f'leaving.{uuid.uuid4()}'
    yield name
    with rabbit.connect() as connection:
        connection.channel().queue_delete(name)


@every_library
@pytest.mark.parametrize('how', ['end', 'error'])
def test_what_was_published_before_the_end_arrives(rabbit: Any, lasting_queue: str, library: str, how: str) -> None:
    code, _, err = outcome(program('leaving.py', library, 'not', rabbit.url, lasting_queue, '8000', how))
    assert code == (1 if how == 'error' else 0), err
    assert count(rabbit, lasting_queue, 8000) == 8000


@every_library
@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_what_a_child_of_multiprocessing_published_arrives(
    rabbit: Any, lasting_queue: str, library: str, method: str
) -> None:
    """It ends by os._exit, which knows nothing of atexit."""
    successful(program('child_leaving.py', library, rabbit.url, lasting_queue, '100', method))
    assert count(rabbit, lasting_queue, 100) == 100


@every_library
@pytest.mark.parametrize(('how', 'state'), [('collect', 'lost'), ('confirmed', 'acked')])
def test_a_program_ends_while_thousands_are_told_of_their_publishes(library: str, how: str, state: str) -> None:
    with ScriptedBroker() as peer:
        process = program('turns_leaving.py', library, peer.host, how)
        try:
            peer.handshake(patience=PATIENCE)
            peer.expect('channel.open', 1)
            peer.send('channel.open-ok', 1)
            peer.expect('confirm.select', 1)
            for _ in range(5000):
                peer.expect('basic.publish', 1)
            assert printed_line(process) == 'ready\n'
            if how == 'confirmed':
                peer.send('basic.ack', 1, delivery_tag=5000, multiple=True)
                peer.expect('connection.close')
                peer.send('connection.close-ok')
            peer.hang_up()
            assert successful(process) == f'{[(state, 5000)]}\n'
        finally:
            process.kill()
            process.communicate()


@every_library
def test_a_program_that_ends_says_goodbye_and_hangs_up(library: str) -> None:
    """RabbitMQ answers a close and waits for the client to hang up; a client that waited as well would end late."""
    with ScriptedBroker() as peer:
        process = program('waiting.py', library, peer.host)
        try:
            peer.handshake(patience=PATIENCE)
            assert peer.expect('connection.close').reply_text == 'the program has ended'
            peer.send('connection.close-ok')
            peer.expect_end()  # one that waited as well would wait for longer than this
            peer.hang_up()
            assert successful(process) == ''
        finally:
            process.kill()
            process.communicate()


def count(rabbit: Any, queue: str, expected: int) -> int:
    """All messages of a queue, fetched: the count that declare tells may lag behind, and so may the messages."""
    got: list[Any] = []
    with rabbit.connect() as connection:
        channel = connection.channel()
        channel.basic_consume(queue, no_ack=True, callback=got.append)
        with contextlib.suppress(TimeoutError):
            while len(got) < expected:
                connection.drain_events(timeout=greenlets.PATIENCE)
            while True:  # and no more than that
                connection.drain_events(timeout=0.5)
    return len(got)


@every_library
def test_a_forked_child_leaves_the_connection_to_its_parent(rabbit: Any, lasting_queue: str, library: str) -> None:
    out = successful(program('leaving.py', library, 'not', rabbit.url, lasting_queue, '2000', 'fork'))
    child, parent = out.splitlines()
    assert 'fork' in child
    assert int(parent) > 0
    assert count(rabbit, lasting_queue, 2000) == 2000


@every_library
@pytest.mark.parametrize('when', ['early', 'not'])
def test_an_interrupt_ends_a_waiting_program(rabbit: Any, library: str, when: str) -> None:
    process = program('interrupted.py', library, when, rabbit.url, 'unhandled')
    assert printed_line(process) == 'ready\n'
    process.send_signal(signal.SIGINT)
    code, _, err = outcome(process)
    assert code in (-signal.SIGINT, 130, 1)
    assert 'KeyboardInterrupt' in err


@every_library
def test_a_program_may_handle_an_interrupt_and_go_on(rabbit: Any, library: str) -> None:
    process = program('interrupted.py', library, 'not', rabbit.url, 'handled')
    assert printed_line(process) == 'ready\n'
    process.send_signal(signal.SIGINT)
    code, out, err = outcome(process)
    assert (code, out) == (0, '0\nclosed\n'), err


# -- a hub that is held up, and other threads -------------------------------------------


@pytest.mark.skipif(greenlets.GREEN != 'eventlet', reason='gevent leaves locks as they are')
def test_a_late_patch_leaves_the_locks_between_threads_as_they_are() -> None:
    """A thread of the system that waits for a lock of greenlets would wait in a hub of its own, or for ever."""
    assert successful(program('late_locks.py')) == '[]\n'


@pytest.mark.any_broker
@every_library
@pytest.mark.parametrize('when', ['early', late])
def test_the_heartbeat_thread_is_a_real_one_whatever_is_patched(rabbit: Any, library: str, when: str) -> None:
    """And the program ends although the thread and the connection are still there."""
    code, out, err = outcome(program('beating.py', library, when, rabbit.url, 'held'))
    assert (code, out) == (0, 'held\n'), err
    assert 'Exception' not in err
    assert 'burn (' in err  # the log, without a handler of the program's, goes there


@pytest.mark.any_broker
@every_library
def test_a_forked_child_has_a_heartbeat_thread_of_its_own(rabbit: Any, library: str) -> None:
    out = successful(program('beating.py', library, 'not', rabbit.url, 'fork'))
    assert sorted(out.splitlines()) == ['child', 'parent 0']


@every_library
def test_a_thread_that_waits_for_the_hub_of_a_program_that_is_over_is_told(rabbit: Any, library: str) -> None:
    out = successful(program('beating.py', library, 'not', rabbit.url, 'over'))
    assert out.startswith('over: run_in_hub: the thread of the connection')


@every_library
@pytest.mark.parametrize('patched', [True, False])
def test_what_blocks_the_thread_is_known(library: str, patched: bool) -> None:
    patch = {
        'gevent': 'import gevent.monkey; gevent.monkey.patch_all()',
        'eventlet': 'import eventlet; eventlet.monkey_patch()',
    }
    code = f'from gamqp import green; green.use({library!r}); print(green.backend().unpatched())'
    out = successful(start('-W', 'ignore', '-c', f'{patch[library]}; {code}' if patched else code))
    assert out.strip() == ('[]' if patched else "['time.sleep', 'socket']")


@every_library
def test_a_refused_publish_is_told_at_the_end_of_a_program_that_has_not_looked(rabbit: Any, library: str) -> None:
    code, _, err = outcome(start('-W', 'ignore', str(PROGRAMS / 'unnoticed_leaving.py'), library, rabbit.url))
    assert code == 0
    assert 'was refused by the broker and nobody has looked at its receipt' in err
    assert 'Traceback' not in err


@every_library
def test_the_span_of_a_publish_without_a_confirm_ends_before_its_provider_and_once(rabbit: Any, library: str) -> None:
    """A forked child has the span, too."""
    pytest.importorskip('opentelemetry.sdk')
    out = successful(start('-W', 'ignore', str(PROGRAMS / 'traced_leaving.py'), library, rabbit.url))
    assert out.splitlines() == ['shut down', 'ended True', 'shut down']
