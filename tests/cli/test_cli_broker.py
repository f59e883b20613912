"""``gamqp broker``: a broker for tests until a signal comes, or for as long as a command runs."""

from __future__ import annotations

import re
import signal
import sys

from commands import finished, gamqp, started

import gamqp as client

PROGRAM = """
import os, sys, gamqp
with gamqp.connect(os.environ['AMQP_URL']) as connection:
    channel = connection.channel()
    channel.confirm_select()
    channel.publish('x', routing_key=channel.queue_declare(exclusive=True).queue).wait()
    sys.exit(7 if connection.server_properties['version'].startswith('3.10') else 8)
"""


def test_a_command_has_a_broker_for_as_long_as_it_runs() -> None:
    done = gamqp('broker', '--port', '0', '--like', '3.10', '--quiet', '--', sys.executable, '-c', PROGRAM)
    assert (done.code, done.out, done.err) == (7, '', '')


def test_it_runs_until_a_signal_comes() -> None:
    with started('broker', '--port', '0') as process:
        assert process.stderr is not None
        line = process.stderr.readline().decode()
        found = re.fullmatch(r'a broker for tests, like rabbitmq-4.3, listens on (127.0.0.1:\d+)\n', line)
        assert found, line
        with client.connect(f'amqp://{found[1]}'):
            taken = gamqp('broker', '--port', found[1].partition(':')[2])
        assert taken.code == 1 and 'cannot listen on' in taken.err
        process.send_signal(signal.SIGTERM)
        assert finished(process).code == 130


def test_what_cannot_be_is_said() -> None:
    unknown = gamqp('broker', '--like', 'rabbitmq-2')
    assert unknown.code == 64 and "like: one of 'rabbitmq-4.3', 'rabbitmq-3.10'" in unknown.err
    missing = gamqp('broker', '--port', '0', '--', '/no/such/command')
    assert missing.code == 1 and '/no/such/command: No such file' in missing.err
