"""A client of the application in ``celery_app.py`` with a worker under way: every scenario below, in this process.

celery_client.py gevent|eventlet FOLDER [SCENARIO…]
"""

from __future__ import annotations

import sys

LIBRARY, FOLDER = sys.argv[1:3]
if LIBRARY == 'gevent':
    from gevent import monkey

    monkey.patch_all()
else:
    import eventlet

    eventlet.monkey_patch()

import contextlib  # noqa: E402
import os  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

import scenarios  # noqa: E402
from celery import chain, chord, group  # noqa: E402
from celery.exceptions import TaskRevokedError, TimeLimitExceeded  # noqa: E402
from celery_app import about, add, app, flaky, note, pause, total  # noqa: E402

import gamqp.kombu  # noqa: E402
from gamqp import green  # noqa: E402

backend = green.backend()
PATIENCE = 60
control = app.control


def wait_until(condition: Any) -> Any:
    deadline = green.Deadline(PATIENCE)
    while not (found := condition()):
        assert not deadline.passed, condition
        backend.sleep(0.02)
    return found


def lines(file: str) -> set[str]:
    with contextlib.suppress(FileNotFoundError), open(file, encoding='utf-8') as stream:
        return set(stream.read().splitlines())
    return set()


def file(name: str) -> str:
    return os.path.join(FOLDER, name)


def answer(method: str, *args: Any, **kwargs: Any) -> Any:
    """What the one worker says to a remote control command."""
    replies = getattr(control, method)(*args, reply=True, timeout=PATIENCE, limit=1, **kwargs)
    return next(iter(replies[0].values()))


def ask(method: str) -> Any:
    """The same to a question."""
    replies = getattr(control.inspect(timeout=PATIENCE, limit=1), method)()
    return next(iter(replies.values()))


def worker_and_client_are_on_gamqp() -> None:
    told = about.delay().get(timeout=PATIENCE)
    wanted = {'class': 'gamqp.kombu.channel.Connection', 'amqp': 'amqp', 'confirms': True, 'patched': [LIBRARY]}
    assert told == wanted, told
    with app.producer_pool.acquire(block=True) as producer:
        assert isinstance(producer.connection.connection, gamqp.Connection)


def results_come_back_to_many_greenlets() -> None:
    got: list[Any] = []

    def ask_for(number: int) -> None:
        try:
            got.append(add.delay(number, 1000).get(timeout=PATIENCE))
        except Exception as error:
            got.append(repr(error))

    greenlets = [backend.spawn(ask_for, number) for number in range(50)]
    wait_until(lambda: all(one.dead for one in greenlets))
    assert not [one for one in got if not isinstance(one, int)], got
    assert sorted(got) == list(range(1000, 1050))


def results_for_greenlets_that_come_and_go() -> None:
    """As requests of a web application: with one backend for all of them nothing is left of each."""
    if not app.conf.get('result_backend_thread_safe'):
        return
    got: list[int] = []
    descriptors: list[int] = []

    def request(number: int) -> None:
        got.append(add.delay(number, 1000).get(timeout=PATIENCE))

    for first in range(0, 200, 40):
        greenlets = [backend.spawn(request, number) for number in range(first, first + 40)]
        wait_until(lambda greenlets=greenlets: all(one.dead for one in greenlets))
        descriptors.append(len(os.listdir('/proc/self/fd')))
    assert sorted(got) == list(range(1000, 1200))
    assert descriptors[-1] - descriptors[0] < 40, descriptors


def the_default_options_do_not_hold_a_worker_up() -> None:
    """At ten tasks a second they would take 60 s, however fast the machine is."""
    tasks = [add.s(number, 1) for number in range(600)]
    began = time.monotonic()
    results = group(tasks).apply_async()
    assert sum(results.get(timeout=PATIENCE)) == sum(range(1, 601))
    assert time.monotonic() - began < 55


def canvas() -> None:
    assert chain(add.s(1, 2), add.s(4), add.s(8))().get(timeout=PATIENCE) == 15
    assert group(add.s(n, n) for n in range(10))().get(timeout=PATIENCE) == [2 * n for n in range(10)]
    if app.conf.result_backend.startswith('redis'):
        assert chord((add.s(n, n) for n in range(10)), total.s())().get(timeout=PATIENCE) == 90


def countdown_and_eta() -> None:
    target = file('countdown')
    note.apply_async((target, 'late'), countdown=1)  # by native delayed delivery only whole seconds
    note.apply_async((target, 'now'))
    wait_until(lambda: 'done now' in lines(target))
    assert 'begun late' not in lines(target)
    wait_until(lambda: 'done late' in lines(target))


def retries() -> None:
    assert flaky.delay(file('flaky')).get(timeout=PATIENCE) == 2


def a_hard_time_limit_ends_a_task_and_leaves_the_others() -> None:
    other = pause.delay(0.3)
    if LIBRARY == 'gevent':  # Celery has none with eventlet
        try:
            pause.apply_async((60,), time_limit=0.2).get(timeout=PATIENCE)
        except TimeLimitExceeded:
            pass
        else:
            raise AssertionError('it ran on')
    assert other.get(timeout=PATIENCE) == 0.3
    assert add.delay(1, 1).get(timeout=PATIENCE) == 2


def remote_control() -> None:
    replies = control.broadcast('ping', reply=True, timeout=PATIENCE, limit=1)
    assert [*replies[0].values()] == [{'ok': 'pong'}]
    assert 'ok' in answer('rate_limit', 'total', '100/s')
    assert total.delay([1, 2]).get(timeout=PATIENCE) == 3
    size = ask('stats')['pool']['max-concurrency']
    assert 'ok' in answer('pool_grow', 3)
    assert ask('stats')['pool']['max-concurrency'] == size + 3


def consumers_come_and_go() -> None:
    extra = f'{app.conf.task_default_queue}.extra'
    assert 'ok' in answer('add_consumer', extra)
    assert add.apply_async((2, 2), queue=extra).get(timeout=PATIENCE) == 4
    assert extra in {queue['name'] for queue in ask('active_queues')}
    assert 'ok' in answer('cancel_consumer', extra)
    wait_until(lambda: extra not in {queue['name'] for queue in ask('active_queues')})
    with app.connection_for_write() as connection:
        assert connection.default_channel.queue_declare(extra, passive=True).consumer_count == 0
        connection.default_channel.queue_delete(extra)


def revoked_and_terminated() -> None:
    later = pause.apply_async((0,), countdown=0.5)
    control.revoke(later.id)
    target = file('terminated')
    running = note.apply_async((target, 'x', 60))
    wait_until(lambda: 'begun x' in lines(target))
    control.revoke(running.id, terminate=True)
    for result in (later, running):
        try:
            result.get(timeout=PATIENCE)
        except TaskRevokedError:
            pass
        else:
            raise AssertionError(result)
    assert lines(target) == {'begun x'}
    assert add.delay(1, 1).get(timeout=PATIENCE) == 2


def events_reach_a_receiver() -> None:
    seen: list[str] = []

    def capture() -> None:
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={'*': lambda event: seen.append(event['type'])})
            receiver.capture(limit=None, timeout=PATIENCE, wakeup=True)

    watcher = backend.spawn(capture)
    wait_until(lambda: 'worker-heartbeat' in seen)
    assert add.delay(5, 5).get(timeout=PATIENCE) == 10
    wait_until(lambda: {'task-received', 'task-started', 'task-succeeded'} <= set(seen))
    backend.kill(watcher)


def a_task_is_acked_when_it_is_done() -> None:
    with app.connection_for_write() as connection:
        wait_until(lambda: not connection.default_channel.queue_declare(app.conf.task_default_queue, passive=True)[1])


SCENARIOS = (
    worker_and_client_are_on_gamqp,
    results_come_back_to_many_greenlets,
    results_for_greenlets_that_come_and_go,
    the_default_options_do_not_hold_a_worker_up,
    canvas,
    countdown_and_eta,
    retries,
    a_hard_time_limit_ends_a_task_and_leaves_the_others,
    remote_control,
    consumers_come_and_go,
    revoked_and_terminated,
    events_reach_a_receiver,
    a_task_is_acked_when_it_is_done,
)


if __name__ == '__main__':
    # All in one greenlet: Celery gives each that asks for results by rpc:// a queue, which it names by the greenlet's
    # number. Its consumer outlives the greenlet, and takes what is meant for the next one of that number.
    scenarios.main(SCENARIOS, sys.argv[3:])
