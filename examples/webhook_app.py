"""A web application that takes requests and publishes them, on two gunicorn workers full of greenlets.

    ./examples/run webhook_app                  # serves on 127.0.0.1:8000; Ctrl-C stops it
    ./examples/run webhook_app --self-test      # asks itself 1,000 times, tells what it saw, and stops

    curl -i -d 'any body' http://127.0.0.1:8000/hook
    curl http://127.0.0.1:8000/stats

What to copy: one pool for the whole program, made at import although gunicorn
forks after that, since every process gets connections of its own; 202 only when the
broker has confirmed; 503 within a deadline when it cannot take the message, so
that the sender, who still has it, sends it again. flask_app.py and django_app.py
do the same with a framework.
"""

import argparse
import atexit
import collections
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')
QUEUE = os.environ.get('WEBHOOK_QUEUE', 'gamqp.webhooks')
DEADLINE = 5  # seconds for everything: a channel, a connection if need be, the broker's confirm
LARGEST = 1024 * 1024  # bytes of a body
WORKERS = 2  # processes

pool = gamqp.Pool(URL, connections=2, channels_per_connection=50, timeout=DEADLINE, name='webhook_app')
atexit.register(pool.close)


def app(environ, start_response):
    """The application, as any WSGI server calls it."""
    route = environ['REQUEST_METHOD'], environ['PATH_INFO']
    if route == ('POST', '/hook'):
        status, headers, body = take(environ)
    elif route == ('GET', '/stats'):
        status, headers, body = '200 OK', [], json.dumps({'pid': os.getpid(), **pool.stats()})
    else:
        status, headers, body = '404 Not Found', [], 'POST /hook or GET /stats\n'
    start_response(status, [('Content-Type', 'text/plain'), *headers])
    return [body.encode()]


def take(environ):
    length = int(environ.get('CONTENT_LENGTH') or 0)
    if length > LARGEST:
        return '413 Content Too Large', [], f'{LARGEST} bytes at most\n'
    body = environ['wsgi.input'].read(length)
    try:
        publish(body, content_type=environ.get('CONTENT_TYPE') or None)
    except gamqp.EncodeError as error:  # a content type that is too long: it would fail again
        return '400 Bad Request', [], f'{error}\n'
    except (gamqp.ConnectionError, gamqp.MessageNacked, OSError) as error:  # a TimeoutError is an OSError
        print(f'503: {error}', file=environ['wsgi.errors'])
        return '503 Service Unavailable', [('Retry-After', '5')], 'the broker cannot take it now\n'
    return '202 Accepted', [], 'taken\n'


def publish(body, **properties):
    """Returns when the broker has the message on disk."""
    properties['delivery_mode'] = 2
    try:
        pool.publish(body, '', QUEUE, mandatory=True, **properties)
    except gamqp.Returned:  # no such queue yet
        with pool.channel() as channel:
            channel.queue_declare(QUEUE, durable=True, auto_delete=False)
        pool.publish(body, '', QUEUE, mandatory=True, **properties)


# -- running it ----------------------------------------------------------------------------------------------


def command(bind):
    """gunicorn's command line. --preload: the application is imported once, and the workers are forks of that."""
    options = ['--worker-class', 'gevent', '--workers', str(WORKERS), '--preload', '--bind', bind]
    # A worker that is to end has more time to finish its requests than one of them takes.
    options += ['--log-level', 'warning', '--graceful-timeout', str(DEADLINE + 10)]
    here = os.path.dirname(os.path.abspath(__file__))
    return [sys.executable, '-m', 'gunicorn', *options, '--pythonpath', here, 'webhook_app:app']


def self_test(requests, clients):
    """Start the server on a free port and have that many clients send that many requests. Returns the exit status."""
    import gevent

    with socket.create_server(('127.0.0.1', 0), backlog=clients) as listener:
        port = listener.getsockname()[1]
        server = subprocess.Popen(command(f'fd://{listener.fileno()}'), pass_fds=[listener.fileno()])
        try:
            statistics(port)  # both workers are there, and a SIGTERM will find them ready for it
            statuses = collections.Counter()
            latencies = []
            begin = time.perf_counter()
            work = [
                gevent.spawn(client, port, range(n, requests, clients), statuses, latencies) for n in range(clients)
            ]
            gevent.joinall(work, raise_error=True)
            seconds = time.perf_counter() - begin
            workers = statistics(port)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=30)
    latencies.sort()
    print(f'requests    {requests:>8,}   by {clients} clients, in {seconds:.1f} s')
    print(
        f'slowest     {latencies[-1] * 1000:>8,.0f}   ms   (half of them within {latencies[requests // 2] * 1000:.0f})'
    )
    for status, count in sorted(statuses.items()):
        print(f'{status:11} {count:>8,}')
    for pid, stats in sorted(workers.items()):
        told = ', '.join(f'{name} {stats[name]:,}' for name in ('connections', 'channels', 'leased', 'leases', 'waits'))
        print(f'worker      {pid:>8}   {told}')
    return 0 if sum(statuses.values()) == requests else 1


def client(port, numbers, statuses, latencies):
    for number in numbers:
        begin = time.perf_counter()
        status, _ = request(port, 'POST', '/hook', f'request {number}')
        statuses[status] += 1
        latencies.append(time.perf_counter() - begin)


def statistics(port):
    """What the workers say of their pools, by pid. Which worker answers is chance."""
    workers = {}
    deadline = time.monotonic() + 20
    while len(workers) < WORKERS and time.monotonic() < deadline:
        stats = json.loads(request(port, 'GET', '/stats')[1])
        workers[stats['pid']] = stats
    return workers


def request(port, method, path, body=None):
    """(status line's number and text, body) of one request."""
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        retry = f', Retry-After {response.getheader("Retry-After")}' if response.getheader('Retry-After') else ''
        return f'{response.status}{retry}', response.read()
    finally:
        connection.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--bind', default='127.0.0.1:8000', help='where to serve (default: %(default)s)')
    parser.add_argument(
        '--self-test', action='store_true', help='send requests to itself, tell what happened, and stop'
    )
    parser.add_argument('--requests', type=int, default=1000, help='of --self-test (default: %(default)s)')
    parser.add_argument('--clients', type=int, default=100, help='at the same time (default: %(default)s)')
    options = parser.parse_args()
    if not options.self_test:
        argv = command(options.bind)
        os.execv(argv[0], argv)
    import gevent.monkey

    gevent.monkey.patch_all()  # for the clients; gunicorn does it for the workers
    return self_test(options.requests, options.clients)


if __name__ == '__main__':
    sys.exit(main())
