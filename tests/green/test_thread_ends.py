"""Connections of several threads when the program ends or forks, and what a thread leaves behind when it ends."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import threading
import time
from typing import Any

import greenlets
import pytest
from program_output import printed_line
from script import ScriptedBroker
from test_programs import PATIENCE, every_library, outcome, program, successful

from gamqp.connection.run_in_hub import hub_calls_of_this_thread
from gamqp.io.process_end import EXIT_SILENCE

THREADS = 20


# -- the end of the program --------------------------------------------------------------


def agree(peer: ScriptedBroker) -> None:
    """The peer is told of the end, and the client hangs up when it has heard the answer."""
    assert peer.expect('connection.close').reply_text == 'the program has ended'
    peer.send('connection.close-ok')
    peer.expect_end()
    peer.hang_up()


@every_library
@pytest.mark.parametrize('what', ['ticks', 'ended'])
def test_the_connection_of_another_thread_says_goodbye(library: str, what: str) -> None:
    """A thread whose hub runs says it itself: whoever else touched its sockets and watchers would break them."""
    for _ in range(3 if what == 'ticks' else 1):
        with ScriptedBroker() as peer:
            process = program('thread_leaving.py', library, peer.host, what)
            try:
                peer.handshake(patience=PATIENCE)
                agree(peer)
                assert outcome(process) == (0, '', '')
            finally:
                process.kill()
                process.communicate()


@every_library
def test_what_another_thread_is_publishing_goes_out_once_and_in_order(library: str) -> None:
    with ScriptedBroker() as peer:
        process = program('thread_leaving.py', library, peer.host, 'publishes')
        try:
            peer.handshake(patience=PATIENCE)
            peer.expect('channel.open')
            peer.send('channel.open-ok', 1)
            count = 0
            while (event := peer.next()).name == 'basic.publish':
                assert bytes(event.body) == b'%d' % count
                count += 1
            assert count >= 200
            assert (event.name, event.reply_text) == ('connection.close', 'the program has ended')
            peer.send('connection.close-ok')
            peer.expect_end()
            assert outcome(process) == (0, '', '')
        finally:
            process.kill()
            process.communicate()


@every_library
def test_a_thread_that_does_not_let_its_hub_run_is_left_alone(library: str) -> None:
    """And keeps the program for no longer than a moment."""
    with ScriptedBroker() as peer:
        process = program('thread_leaving.py', library, peer.host, 'held')
        try:
            peer.handshake(patience=PATIENCE)
            began = time.monotonic()
            assert outcome(process) == (0, '', '')
            assert time.monotonic() - began < 50  # the thread would go on for 60
            peer.expect_end()  # without a word
        finally:
            process.kill()
            process.communicate()


@every_library
def test_the_hub_of_another_thread_does_not_run_after_its_goodbye(library: str) -> None:
    """A daemon thread that runs while the interpreter is taken down is ended inside a greenlet, which may crash."""
    with ScriptedBroker() as peer:
        process = program('stopped_leaving.py', library, peer.host)
        try:
            peer.handshake(patience=PATIENCE)
            agree(peer)
            code, out, err = outcome(process)
            assert (code, err) == (0, '')
            ticks, error = out.splitlines()
            assert ticks == '0'
            assert error.startswith('run_in_hub: the thread of the connection')
        finally:
            process.kill()
            process.communicate()


@every_library
@pytest.mark.real_seconds
def test_all_brokers_that_do_not_answer_have_one_total(library: str) -> None:
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(ScriptedBroker()) for _ in range(10)]
        process = program('hung_leaving.py', library, *(peer.host for peer in peers))
        try:
            for peer in peers:
                peer.handshake(patience=PATIENCE)
            for peer in peers:
                assert peer.expect('connection.close').reply_text == 'the program has ended'
            begun = time.monotonic()
            assert outcome(process) == (0, '', '')
            assert time.monotonic() - begun < 4 * EXIT_SILENCE  # not ten times
            for peer in peers:
                peer.expect_end()
        finally:
            process.kill()
            process.communicate()


# -- forks ---------------------------------------------------------------------------------


@every_library
def test_a_child_wakes_no_greenlets_of_threads_it_does_not_have(library: str) -> None:
    with ScriptedBroker() as peer:
        process = program('thread_forking.py', library, peer.host)
        try:
            peer.handshake(patience=PATIENCE)
            for _ in range(3):
                peer.expect('channel.open')
            assert outcome(process) == (0, 'refused False False\n', '')
        finally:
            process.kill()
            process.communicate()


@every_library
def test_a_reader_that_paused_ends_in_a_child(library: str) -> None:
    with ScriptedBroker() as peer:
        process = program('paused_forking.py', library, peer.host)
        try:
            peer.handshake(patience=PATIENCE)
            peer.expect('channel.open')
            peer.send('channel.open-ok', 1)
            peer.expect('basic.consume')
            peer.send('basic.consume-ok', 1, consumer_tag='tag')
            assert printed_line(process) == 'ready\n'
            for number in range(10):
                peer.send('basic.deliver', 1, consumer_tag='tag', delivery_tag=number + 1)
            assert successful(process) == 'True True\n'
        finally:
            process.kill()
            process.communicate()


# -- the end of a thread -------------------------------------------------------------------


class Passing:
    """Stands for the call of another thread."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def start(self) -> None:
        self.begun.set()


def run_in_thread(fn: Any) -> None:
    thread = threading.Thread(target=fn)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def descriptors() -> int:
    gc.collect()
    return len(os.listdir('/proc/self/fd'))


def test_a_thread_that_has_ended_leaves_no_descriptors_of_ours() -> None:
    def home() -> None:
        hub_calls_of_this_thread(greenlets.backend)

    run_in_thread(home)  # whatever the first one ever opens
    before = descriptors()
    for _ in range(THREADS):
        run_in_thread(home)
    assert descriptors() < before + THREADS  # a library may be late with some of its own


def test_calls_for_a_thread_that_has_ended_do_no_harm() -> None:
    """As long as somebody has it, what it writes to is there, and is nobody else's."""
    found: list[Any] = []
    run_in_thread(lambda: found.append(hub_calls_of_this_thread(greenlets.backend)))
    (hub_calls,) = found
    call = Passing()
    for _ in range(3):
        hub_calls.take(call)
    assert not call.begun.is_set()


def test_calls_for_a_thread_are_taken_as_long_as_it_lives() -> None:
    """Nobody else holds it; who asks for it again gets it, and it is heard."""
    gc.collect()
    call = Passing()
    hub_calls = hub_calls_of_this_thread(greenlets.backend)
    run_in_thread(functools.partial(hub_calls.take, call))
    del hub_calls
    gc.collect()
    greenlets.wait_until(call.begun.is_set)
