"""Tutorial 6: answer requests: the prime factors of a number."""

import os
import signal

import gevent
import gevent.event

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')


def factors(request):
    """The reply to one request. What it raises goes to the caller."""
    number, found = int(request.body), []
    if number < 1:
        raise ValueError(f'{number} has no prime factors')
    candidate = 2
    while number > 1:
        if number % candidate:
            candidate += 1
        else:
            found.append(candidate)
            number //= candidate
    return ' '.join(map(str, found))


stopping = gevent.event.Event()
for number in (signal.SIGTERM, signal.SIGINT):
    gevent.signal_handler(number, stopping.set)

connection = gamqp.connect(URL, on_lost=lambda error: stopping.set())
channel = connection.channel()
channel.queue_declare('factors', durable=True, auto_delete=False)
server = gamqp.RPCServer(channel, 'factors', factors, concurrency=10)
print('waiting for requests', flush=True)
stopping.wait()
connection.drain(timeout=30)
