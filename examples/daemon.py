"""A daemon: 2,000 consumers on 10 channels, health and metrics over HTTP, JSON logs, and an end that loses nothing.

    ./examples/run daemon                       # until SIGTERM, SIGINT (Ctrl-C) or SIGHUP

    curl -i http://127.0.0.1:8080/readyz        # 200 while it consumes, else 503; /healthz: 200 while it runs
    curl http://127.0.0.1:8080/metrics          # for Prometheus

What to copy: all of it. Your work goes into the function work, your queues into declare. Exit status: 0 when all
that was begun was finished, 2 when it was not, in the time for that, 1 when the daemon cannot start, or not go on.
"""

from gevent import monkey

monkey.patch_all()  # before all else: what waits in work(), a database for example, lets other greenlets run

import datetime
import json
import logging
import os
import signal
import sys

import gevent
import prometheus_client
from gevent.event import AsyncResult, Event
from gevent.pool import Group
from gevent.pywsgi import WSGIServer

import gamqp
import gamqp.prometheus

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')
PREFIX = os.environ.get('DAEMON_PREFIX', 'gamqp.daemon')  # of the names of its queues
BIND = os.environ.get('DAEMON_BIND', '127.0.0.1:8080')
CONSUMERS = int(os.environ.get('DAEMON_CONSUMERS', '2000'))
CHANNELS, QUEUES = 10, 20
# Seconds to finish what was begun; fewer than a supervisor waits: Kubernetes 30, systemd 90.
DRAIN = float(os.environ.get('DAEMON_DRAIN', '25'))
LONGEST_PAUSE = float(os.environ.get('DAEMON_LONGEST_PAUSE', '30'))  # seconds between two attempts to connect

log = logging.getLogger('daemon')
messages = prometheus_client.Counter('daemon_messages', 'Messages, by what became of them.', ['outcome'])

# -- your part -------------------------------------------------------------------------------------------------


def declare(channel):
    """Declare the queues; what is there already stays as it is. Returns the names of those to consume from."""
    aside = f'{PREFIX}.failed'
    channel.queue_declare(aside, durable=True, auto_delete=False)
    arguments = {'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': aside}
    queues = [f'{PREFIX}.{number}' for number in range(QUEUES)]
    for queue in queues:
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)
    return queues


def work(message):
    """Called with each message, in a greenlet of its own. It is acked afterwards, unless this raises: see failed."""
    gevent.sleep(json.loads(message.body)['seconds'])  # in place of a database, or an HTTP service
    messages.labels('done').inc()


def failed(message, error):
    """Have a message that failed delivered once more, and put it aside (dead-letter it) if it fails again."""
    policy = 'reject' if message.redelivered else 'requeue'
    messages.labels(policy).inc()
    log.error('%s: %r', policy, error, exc_info=error, extra={'fields': {'message': message.properties}})
    return policy


# -- consuming -------------------------------------------------------------------------------------------------


class Daemon:
    def __init__(self):
        self.connection = None
        self.started = False
        self.ended = AsyncResult()  # raises why the daemon cannot go on

    @property
    def ready(self):
        return self.started and self.connection.is_open

    def start(self):
        """Connect, and start all consumers. From here on losses are the connection's business."""
        recover = gamqp.Recovery(max_delay=LONGEST_PAUSE, cancelled='resume')
        self.connection = gamqp.connect(URL, name='daemon', recover=recover)
        queues = declare(self.connection.channel())
        starting = Group()  # a greenlet for each channel, so that they do not wait for each other's replies
        for first in range(CHANNELS):
            starting.spawn(
                self.report, self.start_some, [queues[n % QUEUES] for n in range(first, CONSUMERS, CHANNELS)]
            )
        starting.join()
        self.started = not self.ended.ready()
        if self.started:
            log.info('consuming', extra={'fields': {'consumers': CONSUMERS, 'queues': QUEUES}})

    def start_some(self, queues):
        """Start consumers on one channel, one for each of *queues*."""
        channel = self.connection.channel()
        for queue in queues:
            consumer = channel.subscribe(queue, work, prefetch=10, on_error=failed)
            gevent.spawn(self.report, consumer.join)

    def report(self, function, *arguments):
        """Call a function in a greenlet of its own; what it raises ends the daemon."""
        try:
            function(*arguments)
        except Exception as error:
            self.ended.set_exception(error)

    def drain(self):
        """Take no more messages, finish what was begun, send the acks, close. Returns whether all was done in time."""
        if self.connection is None or self.connection.state == 'closed':
            return True
        try:
            return self.connection.drain(timeout=DRAIN)  # False, too, where the broker is away and gets no acks
        except gamqp.ConnectionError as error:
            log.warning('lost while stopping: %s', error)
            return False

    # -- health and metrics ------------------------------------------------------------------------------------

    def answer(self, environ, start_response):
        """The WSGI application behind BIND."""
        path = environ['PATH_INFO']
        if path == '/metrics':
            status, kind, body = '200 OK', prometheus_client.CONTENT_TYPE_LATEST, prometheus_client.generate_latest()
        elif path == '/healthz':
            status, kind, body = '200 OK', 'text/plain', b'ok\n'
        elif path == '/readyz' and self.ready:
            status, kind, body = '200 OK', 'text/plain', b'ready\n'
        elif path == '/readyz':
            status, kind, body = '503 Service Unavailable', 'text/plain', b'not consuming\n'
        else:
            status, kind, body = '404 Not Found', 'text/plain', b'/healthz, /readyz or /metrics\n'
        start_response(status, [('Content-Type', kind)])
        return [body]


class JSONLines(logging.Formatter):
    """Each log record is one line of JSON; extra={'fields': {...}} adds to it, and so do gamqp's own fields."""

    def format(self, record):
        line = {
            'time': datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc).isoformat(),
            'level': record.levelname,
            'logger': record.name,
            'text': record.getMessage(),
            **getattr(record, 'fields', {}),
            **{name: value for name, value in vars(record).items() if name.startswith('amqp_')},
        }
        if record.exc_info:
            line['traceback'] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def main():
    handler = logging.StreamHandler()
    handler.setFormatter(JSONLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])

    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        gevent.signal_handler(number, stopping.set)

    gamqp.prometheus.register()
    daemon = Daemon()
    http = WSGIServer(BIND, daemon.answer, log=None)
    http.start()
    starting = gevent.spawn(daemon.report, daemon.start)
    gevent.wait([stopping, daemon.ended], count=1)
    failed = daemon.ended.ready()
    if failed:
        log.error('cannot go on: %s', daemon.ended.exception)

    log.info('stopping')
    starting.kill()  # it may be connecting
    finished = daemon.drain()
    http.stop()
    done = prometheus_client.REGISTRY.get_sample_value('daemon_messages_total', {'outcome': 'done'})
    log.info('stopped', extra={'fields': {'finished': finished, 'done': int(done or 0)}})
    return 1 if failed else 0 if finished else 2


if __name__ == '__main__':
    sys.exit(main())
