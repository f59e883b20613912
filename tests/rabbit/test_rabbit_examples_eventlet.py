"""examples/eventlet_app.py, run as a user runs it: what it answers 202 to is consumed, or in the queue."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import broker_tools
import greenlets
import pytest
from ports import free_ports
from program_output import printed_line

import gamqp

PROGRAM = Path(__file__).parents[2] / 'examples' / 'eventlet_app.py'

pytestmark = [
    pytest.mark.limit(120),
    pytest.mark.skipif(greenlets.GREEN != 'eventlet', reason='the example is written for eventlet'),
]


def request(port: int, method: str, body: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    try:
        connection.request(method, '/', body)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_what_it_accepts_is_consumed_or_in_the_queue(rabbit: Any, tmp_path: Path) -> None:
    queue = f'{broker_tools.fresh_name("eventlet")}.{os.getpid()}'
    (port,) = free_ports(1)
    environment = {
        **os.environ,
        'AMQP_URL': rabbit.url,
        'EVENTLET_QUEUE': queue,
        'EVENTLET_BIND': f'127.0.0.1:{port}',
        'PYTHONPATH': str(Path(gamqp.__file__).parents[1]),
    }
    with subprocess.Popen(
        [sys.executable, str(PROGRAM)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert printed_line(process) == f'serving on 127.0.0.1:{port}\n'
            for number in range(200):
                assert request(port, 'POST', f'message {number}')[0] == 202
            assert re.fullmatch(r'\d+ messages consumed\n', request(port, 'GET')[1])
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=90)
        finally:
            process.kill()
    assert process.returncode == 0, out + err
    with rabbit.connect() as connection:
        left = connection.channel().queue_delete(queue)
    assert out == f'consumed {200 - left}\n', out + err
    assert 'Traceback' not in err, err
