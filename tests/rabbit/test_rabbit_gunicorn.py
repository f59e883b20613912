"""Applications on gunicorn: what was answered with 202 is in the queue, whatever becomes of the workers."""

from __future__ import annotations

import os
import signal
from typing import Any

import broker_tools
import greenlets
import pytest
from installed import is_installed
from web_server import Gunicorn, Load

pytestmark = [
    pytest.mark.slow,
    pytest.mark.any_broker,
    pytest.mark.limit(240),
    pytest.mark.skipif(greenlets.GREEN != 'gevent', reason='the workers are gevent workers'),
]

#: Application -> the request that publishes; what it needs besides gamqp.
APPLICATIONS = {
    'webhook_app:app': ('POST', '/hook', ''),
    'flask_app': ('POST', '/orders', 'flask'),
    'django_app': ('PUT', '/orders/{number}', 'django'),
    'kombu_app': ('POST', '/', 'kombu'),
}


class Served:
    """One of the applications with a queue of its own, which has what was published."""

    def __init__(self, application: str, rabbit: Any, folder: Any, **settings: Any) -> None:
        self.method, self.path, needs = APPLICATIONS[application]
        if needs and not is_installed(needs):
            pytest.skip(f'{needs} is not installed')
        self._rabbit = rabbit
        self.queue = f'{broker_tools.fresh_name("orders")}.{os.getpid()}'
        environment = {
            'AMQP_URL': rabbit.url,
            'ORDERS_QUEUE': self.queue,
            'WEBHOOK_QUEUE': self.queue,
            'ORDERS_DATABASE': str(folder / 'orders.sqlite3'),
        }
        self.server = Gunicorn(application, environment, folder, **settings)

    def __enter__(self) -> Served:
        with self._rabbit.connect() as connection:
            broker_tools.shared_queue(connection.channel(), self.queue)
        self.server.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.server.__exit__(*exc_info)

    def load(self, clients: int) -> Load:
        return Load(self.server.port, clients, self.method, self.path)

    def clients(self) -> set[str]:
        """The products that are connected, as the broker knows them."""
        return {one['client_properties']['product'] for one in self._rabbit.node.connections(self._rabbit.vhost)}

    def published(self) -> list[int]:
        """The bodies in the queue, which is removed."""
        with self._rabbit.connect() as connection:
            channel = connection.channel()
            numbers = [int(bytes(message.body)) for message in broker_tools.get_all(channel, self.queue)]
            channel.queue_delete(self.queue)
        return sorted(numbers)


@pytest.mark.parametrize(
    ('application', 'preload'),
    [
        ('webhook_app:app', True),
        ('webhook_app:app', False),
        ('flask_app', True),
        ('django_app', False),
        ('kombu_app', True),
        ('kombu_app', False),
    ],
)
def test_workers_that_are_replaced_lose_nothing(rabbit: Any, tmp_path: Any, application: str, preload: bool) -> None:
    """By max_requests all the time, by SIGTERM, by SIGHUP; and then the whole server ends. Meanwhile clients come."""
    settings = {'workers': 2, 'preload_app': preload, 'max_requests': 100, 'max_requests_jitter': 50}
    with Served(application, rabbit, tmp_path, **settings) as served:
        first = served.server
        some = 50 if application == 'django_app' else 100  # its database is a file, and slow
        with served.load(clients=10) as load:
            load.answered(some)
            first.signal_worker(signal.SIGTERM)
            load.answered(some)
            first.reload()
            load.answered(some)
            if application == 'kombu_app' and rabbit.managed:
                greenlets.wait_until(lambda: served.clients() == {'gamqp'}, what='not py-amqp')
            assert first.stop() == 0, first.log
        assert sorted({*load.outcomes.values()} - {202, 'ConnectionRefusedError', 'ConnectionResetError'}) == []
        assert served.published() == load.answered_with(202)
        assert 'Traceback' not in first.log, first.log


def test_a_killed_worker_loses_nothing_that_it_has_answered(rabbit: Any, tmp_path: Any) -> None:
    """What it had not answered may be in the queue or not: its sender sends it again."""
    with Served('webhook_app:app', rabbit, tmp_path, workers=2, preload_app=rabbit.major < 4) as served:
        with served.load(clients=10) as load:
            for _ in range(3):
                load.answered(100)
                served.server.signal_worker(signal.SIGKILL)
            load.answered(100)
            assert served.server.stop() == 0, served.server.log
        published = served.published()
    answered = set(load.answered_with(202))
    assert len(published) == len(set(published))
    assert answered <= set(published)
    assert not any(isinstance(load.outcomes[number], int) for number in set(published) - answered)
