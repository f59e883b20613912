"""RPC over RabbitMQ: 1,000 greenlets call a server on one channel, and three calls go wrong in three ways.

    ./examples/run rpc

What to copy: one RPCClient is shared by all greenlets; client and server would
have a connection each in programs of their own, and a durable queue between them.
"""

import os
import sys
import time

import gevent

import gamqp

CALLS, CONCURRENCY = 1_000, 50
URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')


def divide(request):
    """The handler: gets a request, returns the body of the reply. Runs in a greenlet of its own."""
    dividend, divisor = (int(word) for word in request.body.split('/'))
    if divisor == 1:
        gevent.sleep(1)  # a hard one
    return str(dividend / divisor)


def call(client, queue, number):
    """One of 1,000 callers: whether its reply is the answer to its own question, and how long it took."""
    begin = time.perf_counter()
    reply = client.call(f'{number}/4', queue, timeout=20)
    return float(reply.body) == number / 4, time.perf_counter() - begin


def outcome(client, question, queue, timeout=20):
    """What a caller sees of a call that goes wrong."""
    try:
        return client.call(question, queue, timeout=timeout).body
    except (gamqp.RPCError, gamqp.Returned, TimeoutError) as error:
        return f'{type(error).__name__}: {error}'


def main():
    with gamqp.connect(URL, name='rpc server') as serving, gamqp.connect(URL, name='rpc clients') as calling:
        queue = f'gamqp.rpc.{os.getpid()}'
        serving.channel().queue_declare(
            queue, exclusive=False, durable=True, auto_delete=True, arguments={'x-expires': 60_000}
        )
        with gamqp.RPCServer(serving, queue, divide, CONCURRENCY) as server, gamqp.RPCClient(calling) as client:
            begin = time.perf_counter()
            callers = [gevent.spawn(call, client, queue, number) for number in range(CALLS)]
            gevent.joinall(callers, raise_error=True)
            seconds = time.perf_counter() - begin
            mixed_up = sum(not right for right, _ in (caller.value for caller in callers))
            times = sorted(latency for _, latency in (caller.value for caller in callers))
            print(f"""
replies            {client.replies:>7,}   to {CALLS:,} greenlets on one channel, in {seconds:.2f} s
mixed-up           {mixed_up:>7,}   replies that came to somebody else
latency            {times[CALLS // 2] * 1000:>7.1f}   ms median, with {CONCURRENCY} handlers for all of them
failed             {outcome(client, '1/0', queue)}
nowhere            {outcome(client, '1/2', queue + '.missing')}
slow               {outcome(client, '1/1', queue, timeout=0.2)}
server             {server.replied:,} replied, {server.failed} failed""")
            right = (client.replies, mixed_up, client.returned, client.timeouts, server.failed)
        serving.channel().queue_delete(queue)
    return 0 if right == (CALLS + 1, 0, 1, 1, 1) else 1


if __name__ == '__main__':
    sys.exit(main())
