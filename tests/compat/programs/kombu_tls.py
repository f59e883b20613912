"""``amqps://`` with the transport of gamqp.kombu given by its name, in this process, at a broker with TLS.

    kombu_tls.py gevent|eventlet|none HOST:PORT VHOST CA [SCENARIO…]

With none nothing is patched, so that the connections are py-amqp's. Nothing but the URL says that TLS is wanted.
"""

from __future__ import annotations

import os
import sys

LIBRARY, HOST, VHOST, CA = sys.argv[1:5]
if LIBRARY == 'gevent':
    from gevent import monkey

    monkey.patch_all()
elif LIBRARY == 'eventlet':
    import eventlet

    eventlet.monkey_patch()

import copy  # noqa: E402
import pickle  # noqa: E402
import ssl  # noqa: E402
from typing import Any  # noqa: E402

import amqp  # noqa: E402
import kombu  # noqa: E402
import scenarios  # noqa: E402
from kombu import pools  # noqa: E402

import gamqp  # noqa: E402
from gamqp import green  # noqa: E402

os.environ['SSL_CERT_FILE'] = CA  # an authority of the system's

CLASS = amqp.Connection if LIBRARY == 'none' else gamqp.Connection
NAME = 'gamqp.kombu:Transport'
# By its address: for py-amqp kombu puts that in the place of localhost, once it connects.
URL = f'amqps://guest:guest@{HOST}/{VHOST}'
WITH_TRUST = {'ca_certs': CA, 'cert_reqs': ssl.CERT_REQUIRED, 'server_hostname': 'localhost'}


def connect(url: str = URL, **arguments: Any) -> kombu.Connection:
    return kombu.Connection(url, transport=NAME, **arguments)


def check(connection: kombu.Connection) -> None:
    """It is connected by TLS, and works."""
    assert type(connection.connection).__mro__[1] is CLASS, type(connection.connection)
    assert connection.ssl
    channel = connection.default_channel
    queue = channel.queue_declare(exclusive=True).queue
    connection.Producer().publish('x' * 100_000, routing_key=queue)
    if CLASS is gamqp.Connection:
        assert channel.basic_get(queue, no_ack=True).body == 'x' * 100_000


def the_url_is_enough() -> None:
    by_name = URL.replace('127.0.0.1', 'localhost')
    for url in (URL, by_name, URL.replace('amqps', 'gamqps'), URL.replace('amqps', 'AMQPS'), f'{URL};{URL}'):
        with connect(url) as connection:
            check(connection)
    for given in (False, None, {}, True):
        with connect(ssl=given) as connection:
            check(connection)
    with connect(ssl=WITH_TRUST) as connection:
        check(connection)
        assert connection.ssl == WITH_TRUST


def copies_have_tls_too() -> None:
    with connect() as connection:
        for one in (connection.clone(), copy.copy(connection), pickle.loads(pickle.dumps(connection))):
            with one:
                check(one)
        check(connection)


def pools_have_tls_and_one_key() -> None:
    connection = connect()
    producers, connections = pools.producers[connection], pools.connections[connection]
    with producers.acquire(block=True) as producer:
        check(producer.connection)
    check(connection)
    assert pools.producers[connection] is producers and pools.connections[connection] is connections
    connection.release()
    pools.reset()


def the_next_broker_of_a_list_has_tls() -> None:
    for first in ('amqps', 'amqp'):
        with connect(f'{first}://guest:guest@127.0.0.1:1//;{URL}') as connection:
            connection.ensure_connection(max_retries=5, interval_start=0.01, interval_step=0.1)
            check(connection)


def a_connection_of_celery_has_tls() -> None:
    import celery

    app = celery.Celery(broker=URL, set_as_current=False)
    app.conf.broker_transport = NAME
    with app.connection_for_write() as connection:
        check(connection)
    with app.producer_pool.acquire(block=True) as producer:
        check(producer.connection)
    app.pool.force_close_all()


SCENARIOS = (
    the_url_is_enough,
    copies_have_tls_too,
    pools_have_tls_and_one_key,
    the_next_broker_of_a_list_has_tls,
    a_connection_of_celery_has_tls,
)


if __name__ == '__main__':
    scenarios.main(SCENARIOS, sys.argv[5:], None if LIBRARY == 'none' else green)
