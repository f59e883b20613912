"""The transport of gamqp.kombu in a process that nobody has patched: ``kombu_unpatched.py URL VHOST [SCENARIO…]``."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

import amqp
import kombu
import scenarios

import gamqp.kombu
from gamqp import green

URL = sys.argv[1]
said: list[logging.LogRecord] = []
got: list[Any] = []


class Keep(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        said.append(record)


logging.getLogger('gamqp.kombu').addHandler(Keep())
logging.getLogger('gamqp.kombu').setLevel(logging.INFO)


def connect(**options: Any) -> kombu.Connection:
    return kombu.Connection(URL, transport='gamqp.kombu:Transport', transport_options=options, connect_timeout=60)


def connections_are_py_amqps_and_the_log_says_so_once() -> None:
    for _ in range(2):
        with connect(confirm_publish=True, blocked_policy='raise') as connection:
            assert isinstance(connection.connection, amqp.Connection)
            assert connection.transport.driver_version() == amqp.__version__
            channel = connection.default_channel
            queue = channel.queue_declare(exclusive=True).queue
            connection.Producer().publish('x', routing_key=queue)
            got.clear()
            consumer = connection.Consumer(kombu.Queue(queue, no_declare=True), no_ack=True)
            consumer.register_callback(lambda body, _: got.append(body))
            with consumer:
                connection.drain_events(timeout=60)
            assert got == ['x']
            try:
                channel.queue_declare('missing', passive=True)
            except connection.channel_errors:
                pass
            else:
                raise AssertionError('a queue that is gone was found')
    assert [record.levelno for record in said] == [logging.INFO], said
    assert 'py-amqp' in said[0].getMessage() and "'always'" in said[0].getMessage()


def several_threads_may_share_a_pool() -> None:
    with connect() as connection:
        pool = connection.Pool(2)
        failed: list[Any] = []

        def work() -> None:
            try:
                for _ in range(5):
                    with pool.acquire(block=True) as leased:
                        leased.Producer().publish('x', routing_key='nobody')
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed
        pool.force_close_all()


def always_means_gamqp_and_the_log_says_what_does_not_work() -> None:
    said.clear()
    for _ in range(2):
        with connect(gamqp='always') as connection:
            assert isinstance(connection.connection, gamqp.Connection)
            assert connection.transport.driver_version() == gamqp.__version__
    with connect(gamqp='always', heartbeat=None) as connection:
        assert connection.connection.heartbeat == 0, 'nobody would send them'
    assert [record.levelno for record in said] == [logging.WARNING], said
    for word in ('WrongThread', 'reader', 'heartbeat', 'gevent', 'eventlet'):
        assert word in said[0].getMessage(), word


SCENARIOS = (
    connections_are_py_amqps_and_the_log_says_so_once,
    several_threads_may_share_a_pool,
    always_means_gamqp_and_the_log_says_what_does_not_work,
)


if __name__ == '__main__':
    scenarios.main(SCENARIOS, sys.argv[3:], green)
