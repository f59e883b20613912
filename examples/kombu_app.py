"""A web application that publishes by kombu's producer pool, on gunicorn's gevent workers.

    ./examples/run kombu_app                    # serves on 127.0.0.1:8000; Ctrl-C stops it

    curl -i -d 'any body' http://127.0.0.1:8000/

What to copy: the transport is the only word of gamqp. Everything that is published is confirmed: publish returns
when the broker has the message, or raises. Where gevent has not patched the process, kombu's own transport is used.
"""

import os
import sys

import kombu
import kombu.exceptions
import kombu.pools

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')
QUEUE = kombu.Queue(os.environ.get('ORDERS_QUEUE', 'gamqp.orders'))
DEADLINE = float(os.environ.get('ORDERS_DEADLINE', '5'))  # seconds to get a connection, and again to publish

# After a publish that was not confirmed in time kombu closes the channel, and then the connection. A broker that is as
# silent to that has rpc_timeout once more, so that the answer may take twice the deadline.
connection = kombu.Connection(
    URL,
    transport='gamqp.kombu:Transport',
    connect_timeout=DEADLINE,
    transport_options={'rpc_timeout': DEADLINE, 'max_retries': 1},
)
# kombu raises OperationalError when it cannot connect.
ERRORS = (
    *connection.connection_errors,
    *connection.channel_errors,
    kombu.exceptions.OperationalError,
    kombu.exceptions.LimitExceeded,
)
kombu.pools.set_limit(20)  # connections of one process; each publishes one message at a time


def app(environ, start_response):
    """The application, as any WSGI server calls it."""
    body = environ['wsgi.input'].read(int(environ.get('CONTENT_LENGTH') or 0))
    try:
        publish(body)
    except ERRORS as error:
        print(f'503: {error}', file=environ['wsgi.errors'])
        status, text = '503 Service Unavailable', 'the broker cannot take it now\n'
    else:
        status, text = '202 Accepted', 'taken\n'
    start_response(status, [('Content-Type', 'text/plain')])
    return [text.encode()]


def publish(body):
    """Returns when the broker has the message on disk."""
    with kombu.pools.producers[connection].acquire(block=True, timeout=DEADLINE) as producer:
        producer.publish(
            body,
            exchange='',
            routing_key=QUEUE.name,
            declare=[QUEUE],
            delivery_mode='persistent',
            content_type='application/octet-stream',
            content_encoding='binary',
            timeout=DEADLINE,
            confirm_timeout=DEADLINE,
        )


if __name__ == '__main__':
    os.chdir(os.path.dirname(os.path.abspath(__file__)))  # where gunicorn.conf.py is
    os.execv(sys.executable, [sys.executable, '-m', 'gunicorn', *sys.argv[1:], 'kombu_app:app'])
