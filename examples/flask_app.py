"""A Flask application that publishes what it is sent, on gunicorn's gevent workers.

    ./examples/run flask_app                    # serves on 127.0.0.1:8000; Ctrl-C stops it
    gunicorn flask_app:app                      # the same, where gunicorn and Flask are installed

    curl -i -d 'any body' http://127.0.0.1:8000/orders
    curl -i http://127.0.0.1:8000/readyz

What to copy: one pool for the whole program, closed at the end of each process; one deadline for a request and
everything in it; 202 only when the broker has confirmed; 503 when it has not, so that the sender sends it again;
an id for each message, by which a consumer knows one that comes twice.
"""

import atexit
import os
import sys
import time
import uuid

import flask
from werkzeug.exceptions import BadRequest, ServiceUnavailable

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')
QUEUE = os.environ.get('ORDERS_QUEUE', 'gamqp.orders')
DEADLINE = float(os.environ.get('ORDERS_DEADLINE', '5'))  # seconds for a request and all that it does

# Errors after which the same request may succeed later. A TimeoutError is an OSError.
NOT_TAKEN = gamqp.ConnectionError, gamqp.MessageNacked, gamqp.Returned, OSError

# Opens nothing yet. Each process opens connections of its own when it needs them, also if it was forked after this.
pool = gamqp.Pool(URL, connections=2, channels_per_connection=50, rpc_timeout=DEADLINE, name='flask_app')
atexit.register(pool.close)

app = flask.Flask(__name__)
app.config['MAX_CONTENT_LENGTH'] = 1024 * 1024


@app.before_request
def begin():
    flask.g.deadline = time.monotonic() + DEADLINE


@app.post('/orders')
def take_order():
    order = flask.request.headers.get('Idempotency-Key') or str(uuid.uuid4())
    publish(flask.request.get_data(), message_id=order, content_type=flask.request.content_type)
    return {'order': order}, 202


def publish(body, **properties):
    """Returns when the broker has the message on disk. The errors are answers of the application."""
    left = max(flask.g.deadline - time.monotonic(), 0)
    try:
        pool.publish(body, '', QUEUE, mandatory=True, timeout=left, delivery_mode=2, **properties)
    except gamqp.EncodeError as error:
        raise BadRequest(str(error)) from error  # a property that is too long, for example
    except NOT_TAKEN as error:
        app.logger.error('not published: %s', error)
        raise ServiceUnavailable('the order was not taken, send it again', retry_after=5) from error


@app.get('/healthz')
def healthy():
    """The process works. Says nothing of the broker: a new process would not help when that is away."""
    return 'ok\n'


@app.get('/readyz')
def ready():
    """Requests can be taken now: the broker answers, and the queue is there."""
    try:
        with pool.channel(timeout=DEADLINE) as channel:
            channel.queue_declare(QUEUE, durable=True, auto_delete=False)
    except NOT_TAKEN as error:
        raise ServiceUnavailable(str(error)) from error
    return 'ready\n'


if __name__ == '__main__':
    os.chdir(os.path.dirname(os.path.abspath(__file__)))  # where gunicorn.conf.py is
    os.execv(sys.executable, [sys.executable, '-m', 'gunicorn', *sys.argv[1:], 'flask_app:app'])
