"""The recipes for Flask and Django, on gunicorn: what they answer, with and without a broker."""

from __future__ import annotations

import json
import os
import sqlite3
from typing import Any

import broker_tools
import greenlets
import pytest
from web_server import Gunicorn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.limit(240),
    pytest.mark.skipif(greenlets.GREEN != 'gevent', reason='the workers are gevent workers'),
]


class Orders:
    """The queue of an application."""

    def __init__(self, rabbit: Any) -> None:
        self._rabbit = rabbit
        self.name = f'{broker_tools.fresh_name("orders")}.{os.getpid()}'

    def take(self) -> list[Any]:
        with self._rabbit.connect() as connection:
            return broker_tools.get_all(connection.channel(), self.name)

    def remove(self) -> None:
        with self._rabbit.connect() as connection:
            connection.channel().queue_delete(self.name)


@pytest.fixture
def orders(rabbit: Any) -> Any:
    orders = Orders(rabbit)
    yield orders
    orders.remove()


def environment(url: str, orders: Orders, folder: Any) -> dict[str, str]:
    return {
        'AMQP_URL': url,
        'ORDERS_QUEUE': orders.name,
        'ORDERS_DEADLINE': '2',
        'ORDERS_DATABASE': str(folder / 'orders.sqlite3'),
    }


def test_flask(rabbit: Any, proxy: Any, orders: Orders, tmp_path: Any) -> None:
    pytest.importorskip('flask')
    with Gunicorn('flask_app', environment(proxy.url(rabbit), orders, tmp_path), tmp_path, workers=1) as server:
        assert server.request('GET', '/healthz')[0] == 200
        assert server.request('GET', '/readyz')[0] == 200  # and the queue is there

        headers = {'Idempotency-Key': 'order 1', 'Content-Type': 'text/plain'}
        status, _, body = server.request('POST', '/orders', 'two chairs', headers)
        assert (status, json.loads(body)) == (202, {'order': 'order 1'})
        (message,) = orders.take()
        assert bytes(message.body) == b'two chairs'
        assert message.properties['message_id'] == 'order 1' and message.properties['delivery_mode'] == 2

        status, _, body = server.request('POST', '/orders', 'x', {'Content-Type': 'x' * 300})
        assert status == 400, body
        assert orders.take() == []

        unanswered(proxy, server, 'POST', '/orders')
        assert server.request('POST', '/orders', 'a table')[0] == 202
        assert server.stop() == 0
        assert 'Traceback' not in server.log, server.log


def test_django(rabbit: Any, proxy: Any, orders: Orders, tmp_path: Any) -> None:
    pytest.importorskip('django')
    with Gunicorn('django_app', environment(proxy.url(rabbit), orders, tmp_path), tmp_path, workers=1) as server:
        assert server.request('GET', '/healthz')[0] == 200
        assert server.request('GET', '/readyz')[0] == 200

        assert server.request('PUT', '/orders/1', 'two chairs')[0] == 202
        (message,) = orders.take()
        assert bytes(message.body) == b'two chairs' and message.properties['message_id'] == 'order 1'
        assert stored(tmp_path) == {1: b'two chairs'}

        # Larger than the database can store: the transaction is rolled back, and nobody gets a message.
        assert server.request('PUT', f'/orders/{2**70}', 'a table')[0] == 500
        assert orders.take() == [] and stored(tmp_path) == {1: b'two chairs'}

        # Stored and not published: the sender gets 503, sends it again, and it is stored once.
        unanswered(proxy, server, 'PUT', '/orders/2')
        assert server.request('PUT', '/orders/2', 'a table')[0] == 202
        assert bytes(orders.take()[-1].body) == b'a table'
        assert stored(tmp_path) == {1: b'two chairs', 2: b'a table'}
        assert server.stop() == 0


def test_kombu(rabbit: Any, proxy: Any, orders: Orders, tmp_path: Any) -> None:
    pytest.importorskip('kombu')
    with Gunicorn('kombu_app', environment(proxy.url(rabbit), orders, tmp_path), tmp_path, workers=1) as server:
        assert server.request('POST', '/', 'two chairs')[0] == 202
        assert [bytes(message.body) for message in orders.take()] == [b'two chairs']
        proxy.down.pause()
        assert server.request('POST', '/', 'a table')[0] == 503
        assert server.request('POST', '/', 'a table')[0] == 503, 'by a connection that cannot be opened'
        proxy.down.resume()
        assert server.request('POST', '/', 'a lamp')[0] == 202
        assert bytes(orders.take()[-1].body) == b'a lamp'
        assert server.stop() == 0
        assert 'Traceback' not in server.log, server.log


def unanswered(proxy: Any, server: Gunicorn, method: str, path: str) -> None:
    """The broker is there, and does not answer: 503 at the deadline, and the server is not ready."""
    proxy.down.pause()
    try:
        status, headers, _ = server.request(method, path, 'a table')
        assert (status, headers['Retry-After']) == (503, '5')
        assert server.request('GET', '/readyz')[0] == 503
        assert server.request('GET', '/healthz')[0] == 200
    finally:
        proxy.down.resume()


def stored(folder: Any) -> dict[int, bytes]:
    with sqlite3.connect(folder / 'orders.sqlite3') as database:
        rows = dict(database.execute('SELECT number, body FROM django_app_order'))
    database.close()
    return rows
