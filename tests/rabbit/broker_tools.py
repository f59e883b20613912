"""What the tests against a real broker have in common. Blocks no greenlet, except where it asks the management API."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import threading
from collections.abc import Callable, Iterator
from typing import Any

import greenlets
import pytest
from node import Node
from node_admin import NodeError

import gamqp

#: The long versions of tests that repeat something many times.
LONG = os.environ.get('GAMQP_TEST_LONG', '0') not in ('', '0')

#: What the nodes of the ``cluster`` fixture have besides what all have.
CLUSTER_PLUGINS = ('rabbitmq_consistent_hash_exchange', 'rabbitmq_sharding')

_numbers = itertools.count(1)


def repeats(usual: int, long: int) -> int:
    return long if LONG else usual


def fresh_name(prefix: str = 'q') -> str:
    """A name that no other test of this process uses; the virtual host is the process's own."""
    return f'{prefix}.{next(_numbers)}'


def shared_queue(channel: Any, name: str = '', **arguments: Any) -> str:
    """A queue that other connections may use, that outlives its connection, and that RabbitMQ 4.3 accepts too."""
    name = name or fresh_name()
    channel.queue_declare(name, durable=True, auto_delete=False, **arguments)
    return name


def ready(channel: Any, queue: str) -> int:
    """Messages in the queue that nobody holds, as the broker counts them.

    It may count before it has looked at what was published or settled just before: see ``wait_ready``.
    """
    return int(channel.queue_declare(queue, passive=True).message_count)


def wait_ready(channel: Any, queue: str, count: int, timeout: float = greenlets.PATIENCE) -> None:
    """Wait until the broker counts that many ready messages."""
    greenlets.wait_until(lambda: ready(channel, queue) == count, timeout, f'{count} messages ready in {queue}')


def publish_all(channel: Any, queue: str, bodies: Any) -> None:
    """Publish to a queue and wait until the broker has handled it: a get that comes after finds the messages."""
    for body in bodies:
        channel.basic_publish(gamqp.Message(body), '', queue)
    channel.queue_declare(queue, passive=True)  # the methods of one channel are handled in order


def publish_numbers(channel: Any, queue: str, count: int, first: int = 0) -> None:
    """The same with the bodies b'0', b'1' …."""
    publish_all(channel, queue, [b'%d' % number for number in range(first, first + count)])


def number_of(message: Any) -> int:
    return int(bytes(message.body))


def drain_until(connection: Any, condition: Callable[[], Any], timeout: float = greenlets.PATIENCE) -> None:
    """Run callbacks until *condition()* is true."""
    deadline = gamqp.green.Deadline(timeout)
    while not condition():
        connection.drain_events(timeout=deadline.left())


def drain_for_ever(connection: Any) -> None:
    while True:
        connection.drain_events()


def get_all(channel: Any, queue: str, no_ack: bool = True) -> list[Any]:
    messages = []
    while (message := channel.basic_get(queue, no_ack=no_ack)) is not None:
        messages.append(message)
    return messages


def resident_bytes() -> int:
    """Memory of this process."""
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def has_consistent_hash(rabbit: Any) -> bool:
    """Whether the broker has the exchange type x-consistent-hash, of a plugin."""
    with contextlib.suppress(NodeError, OSError):  # a broker that is not ours cannot be asked
        said = in_thread(rabbit.node.eval, "rabbit_registry:lookup_module(exchange, 'x-consistent-hash').")
        return 'not_found' not in said
    return False


@contextlib.contextmanager
def node_like(rabbit: Any) -> Iterator[Node]:
    """A broker of the same version that is nobody else's, to stop and to starve."""
    if rabbit.label == 'external':
        pytest.skip('the broker is not ours')
    # What later 4.x refuse by themselves, and what no program should use.
    config = ['deprecated_features.permit.transient_nonexcl_queues = false'] if rabbit.major >= 4 else []
    with Node(rabbit.label, config=config) as node:
        yield node


def raised(task_or_call: Any, *args: Any) -> BaseException:
    """The exception that a call, or a Task, ends with."""
    call = task_or_call.get if isinstance(task_or_call, greenlets.Task) else task_or_call
    try:
        result = call(*args)
    except BaseException as error:
        return error
    raise AssertionError(f'raised nothing, returned {result!r}')


def how_it_ended(task: greenlets.Task) -> Any:
    """What a Task returns or raises."""
    try:
        return task.get()
    except BaseException as error:
        return error


def times_out(seconds: float) -> Any:
    """A context in which the running greenlet is interrupted after that long, as programs do it."""
    if greenlets.GREEN == 'gevent':
        import gevent

        return gevent.Timeout(seconds, Interrupted)
    import eventlet

    return eventlet.Timeout(seconds, Interrupted)


class Interrupted(BaseException):
    """What ``times_out`` throws: like gevent.Timeout, no Exception."""


def in_thread(fn: Callable[..., Any], *args: Any, timeout: float = 120) -> Any:
    """Run a blocking call in a thread of the operating system; only the calling greenlet waits for it."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((fn(*args), None))
        except BaseException as error:
            outcome.append((None, error))

    threading.Thread(target=run, daemon=True).start()
    greenlets.wait_until(lambda: outcome, timeout, f'{fn} has returned')
    result, error = outcome[0]
    if error is not None:
        raise error
    return result
