"""Tutorial 6: ask for the prime factors of some numbers, all at the same time: rpc_client.py 12 97 0."""

import os
import sys

import gevent

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')

with gamqp.connect(URL) as connection, gamqp.RPCClient(connection, timeout=10) as client:

    def ask(number):
        try:
            return client.call(number, routing_key='factors').body
        except gamqp.RPCError as error:
            return f'the server says: {error.text}'

    numbers = sys.argv[1:]
    answers = [gevent.spawn(ask, number) for number in numbers]
    gevent.joinall(answers, raise_error=True)
    for number, answer in zip(numbers, answers, strict=True):
        print(f'{number}: {answer.value}')
