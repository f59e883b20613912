"""Under eventlet: a web server that publishes what it is sent, and a consumer, in one process.

    ./examples/run eventlet_app                 # serves on 127.0.0.1:8000; Ctrl-C stops it

    curl -i -d 'any body' http://127.0.0.1:8000/
    curl http://127.0.0.1:8000/                 # how many messages were consumed

What to copy: eventlet patches first, then gamqp uses it by itself; a pool for the requests, a connection for the
consumers; a signal handler that only sets a flag, since it may run in the middle of eventlet's hub.

eventlet is maintained until April 2027, and gamqp supports it as long. New programs begin with gevent.
"""

import eventlet

eventlet.monkey_patch()

import contextlib
import os
import signal
import sys

import eventlet.wsgi

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')
QUEUE = os.environ.get('EVENTLET_QUEUE', 'gamqp.eventlet')
BIND = os.environ.get('EVENTLET_BIND', '127.0.0.1:8000')
DEADLINE = 5  # seconds to publish one message
DRAIN = 25  # seconds to finish what was begun, at the end

pool = gamqp.Pool(URL, connections=2, channels_per_connection=50, timeout=DEADLINE, name='eventlet_app')
counts = {'consumed': 0}


def app(environ, start_response):
    """The WSGI application."""
    if environ['REQUEST_METHOD'] == 'POST':
        status, body = take(environ['wsgi.input'].read())
    else:
        status, body = '200 OK', f'{counts["consumed"]} messages consumed\n'
    start_response(status, [('Content-Type', 'text/plain')])
    return [body.encode()]


def take(body):
    try:
        pool.publish(body, '', QUEUE, mandatory=True, delivery_mode=2)
    except (gamqp.ConnectionError, gamqp.MessageNacked, gamqp.Returned, OSError) as error:  # OSError: also a timeout
        print(f'503: {error}', file=sys.stderr, flush=True)
        return '503 Service Unavailable', 'not taken, send it again\n'
    return '202 Accepted', 'taken\n'


def work(message):
    """Called with each message, in a greenlet of its own, 20 at the same time; the message is acked afterwards."""
    eventlet.sleep(0.01)  # in place of a database, or an HTTP service
    counts['consumed'] += 1


def main():
    stopping = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.append(True))

    connection = gamqp.connect(URL, name='eventlet_app consumer')
    channel = connection.channel()
    channel.queue_declare(QUEUE, durable=True, auto_delete=False)
    channel.subscribe(QUEUE, work, concurrency=20, prefetch=100)

    host, _, port = BIND.rpartition(':')
    listener = eventlet.listen((host, int(port)))
    server = eventlet.spawn(eventlet.wsgi.server, listener, app, log_output=False)
    print(f'serving on {BIND}', flush=True)
    while not stopping and connection.is_open:  # after a loss it ends, and its supervisor starts it again
        eventlet.sleep(0.2)

    server.kill()  # takes no more requests, and finishes those that are under way
    with eventlet.Timeout(DEADLINE, False), contextlib.suppress(eventlet.greenlet.GreenletExit):
        server.wait()
    pool.close()
    finished = connection.is_open and connection.drain(timeout=DRAIN)
    print(f'consumed {counts["consumed"]}', flush=True)
    return 0 if finished else 1


if __name__ == '__main__':
    sys.exit(main())
