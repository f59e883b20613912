"""Tutorial 1: print each message that comes, until Ctrl-C."""

import os

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')

with gamqp.connect(URL) as connection:
    channel = connection.channel()
    channel.queue_declare('hello', durable=True, auto_delete=False)
    print('waiting for messages', flush=True)
    try:
        for message in channel.consume('hello'):
            print('received:', message.body, flush=True)
            message.ack()
    except KeyboardInterrupt:
        pass
