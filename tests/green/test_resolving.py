"""The name service is asked at every attempt, and while it is slow the hub runs on: whole programs.

With gevent its resolver asks in a thread. With eventlet that is so where its own resolver is turned off.
"""

from __future__ import annotations

import greenlets
from program_output import printed_line
from script import ScriptedBroker
from test_programs import program, successful

# What the program's name service takes; a hub that is blocked by it is late by no less.
SLOW = 0.5


def test_names_are_asked_for_each_time_and_without_blocking_the_hub() -> None:
    with greenlets.backend.socket_class()() as sock:
        sock.bind(('127.0.0.1', 0))
        refusing = sock.getsockname()
    process = program('resolving.py', greenlets.GREEN)
    assert process.stdin is not None
    with ScriptedBroker() as one, ScriptedBroker() as two:
        # The records change: at first the name is one node that is down and one that is not, then another alone.
        for answer, peer in (([refusing[1], one.port], one), ([two.port], two)):
            process.stdin.write(','.join(map(str, answer)) + '\n')
            process.stdin.flush()
            peer.handshake(patience=greenlets.PATIENCE)
            port, late = printed_line(process).split()
            assert int(port) == peer.port
            assert float(late) < SLOW
    assert successful(process).strip() == 'asked True'
