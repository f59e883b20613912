"""A fork with live connections: the parent goes on, the child gets a clear error and connections of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import uuid
from typing import Any

import greenlets
import pytest
from program_output import printed_line
from proxy import Proxy
from script import ScriptedBroker
from test_programs import PATIENCE, every_library, program, successful

import gamqp

FORKS = [
    ('gevent', 'early', 'os'),
    ('gevent', 'early', 'multiprocessing'),
    ('gevent', 'not', 'os'),
    ('gevent', 'not', 'gevent'),
    ('eventlet', 'early', 'os'),
    ('eventlet', 'early', 'multiprocessing'),
    ('eventlet', 'not', 'os'),
]
HEADER = b'AMQP\x00\x00\x09\x01'


@pytest.mark.parametrize(('library', 'when', 'how'), [fork for fork in FORKS if fork[0] == greenlets.GREEN])
def test_parent_and_child_go_on_each_with_connections_of_its_own(
    rabbit: Any, library: str, when: str, how: str
) -> None:
    queue = f'forking.{uuid.uuid4()}'
    with Proxy(rabbit.node.port) as proxy:
        try:
            out = successful(program('forking.py', library, when, how, proxy.url(rabbit), queue))
        finally:
            bodies = emptied(rabbit, queue)
        streams = proxy.streams
        proxy.check()  # every byte of each connection made sense
    child, parent = map(json.loads, out.splitlines())
    assert child['open'] == [False, False, False]
    assert child['error'] == 'RecoverableConnectionError: the connection belongs to the process that forked this one'
    assert child['stats'] == []
    assert child['fresh'] == [1, 1, 0, 1]
    if library == 'gevent':  # with eventlet the child has a new hub, and the old greenlets never run
        assert child['waiter'] == 'RecoverableConnectionError: the channel was asked for before the process forked'
    assert parent['open'] == [True, True, True]
    assert parent['stats'] == [1, 1, 0, 3, 0]
    assert parent['waiter'] == 'none'
    assert sorted(bodies) == [b'child', b'parent', b'parent', b'parent', b'parent']
    assert len(streams) == 3 and all(stream.whole for stream in streams)


def emptied(rabbit: Any, queue: str) -> list[bytes]:
    """What was in the queue, which is deleted."""
    with rabbit.connect() as connection:
        channel = connection.channel()
        bodies = []
        with contextlib.suppress(gamqp.NotFound):
            while (message := channel.basic_get(queue, no_ack=True)) is not None:
                bodies.append(bytes(message.body))
            channel.queue_delete(queue)
        return bodies


@every_library
@pytest.mark.parametrize('when', ['early', 'not'])
def test_what_parent_and_child_have_published_arrives_while_both_wait_in_a_pipe(
    rabbit: Any, library: str, when: str
) -> None:
    queue = f'held.{uuid.uuid4()}'
    with rabbit.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True, auto_delete=False)
        process = program('forking_with_queued_bytes.py', library, when, rabbit.url, queue)
        try:
            printed_line(process)
            printed_line(process)
            bodies = 0
            deadline = gamqp.green.Deadline(PATIENCE)
            while bodies < 10 and not deadline.passed:
                if channel.basic_get(queue, no_ack=True) is not None:
                    bodies += 1
            assert bodies == 10
            successful(process)
        finally:
            process.kill()
            process.communicate()
            channel.queue_delete(queue)


@every_library
def test_a_child_does_not_keep_the_connection_of_a_parent_that_dies(library: str) -> None:
    with ScriptedBroker() as peer:
        process = program('outliving.py', library, peer.host)
        child = 0
        try:
            peer.handshake(patience=PATIENCE)
            child = int(printed_line(process))
            process.kill()
            peer.expect_end()
            os.kill(child, 0)  # it lives, and was not the reason
        finally:
            process.kill()
            if child:
                os.kill(child, signal.SIGKILL)
            process.communicate()


@every_library
@pytest.mark.skipif(sys.platform != 'linux', reason='how to keep a connection waiting is different elsewhere')
def test_a_child_does_not_go_on_with_what_its_parent_was_connecting(library: str) -> None:
    """Both have a greenlet that waits for the same socket; only the parent's may say the protocol header."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(('127.0.0.1', 0), backlog=0))
        fillers = [stack.enter_context(filler(listener)) for _ in range(2)]
        process = program('forking_early.py', library, f'127.0.0.1:{listener.getsockname()[1]}')
        stack.callback(process.communicate)
        stack.callback(process.kill)
        assert printed_line(process) == 'forked\n'
        assert printed_line(process) in ('child TimeoutError\n', 'child OSError\n')
        listener.settimeout(PATIENCE)
        for one in fillers:
            one.close()
        while not (received := heard(listener)):
            pass  # those were the fillers
        assert received == HEADER
        assert printed_line(process) == 'parent RecoverableConnectionError\n'


@every_library
@pytest.mark.parametrize('silent', ['in TCP', 'in the handshake'])
def test_a_child_goes_to_no_other_host(library: str, silent: str) -> None:
    """The parent does, as soon as the first one has had its share of the time."""
    with ScriptedBroker() as first, ScriptedBroker() as second, contextlib.ExitStack() as stack:
        url = f'amqp://{first.host}'
        if silent == 'in TCP':
            listener = stack.enter_context(socket.create_server(('127.0.0.1', 0), backlog=0))
            for _ in range(2):
                stack.enter_context(filler(listener))
            url = f'amqp://127.0.0.1:{listener.getsockname()[1]}'
        process = program('forking_early.py', library, f'{url};amqp://{second.host}')
        stack.callback(process.communicate)
        stack.callback(process.kill)
        assert printed_line(process) == 'forked\n'
        told = printed_line(process)
        assert told.startswith('child ') and told.endswith('Error\n')
        second.handshake()  # with the only one that has come
        second.agree_to_close()
        assert printed_line(process) == f'parent {second.host}\n'


def filler(listener: socket.socket) -> socket.socket:
    """A connection that takes up the room of the listener's queue."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(listener.getsockname())
    return sock


def heard(listener: socket.socket) -> bytes:
    """What the next client says before it hangs up or falls silent."""
    with listener.accept()[0] as sock:
        sock.settimeout(0.5)
        received = b''
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while data := sock.recv(100):
                received += data
        return received
