"""Tutorial 3: print everything that is said while this runs."""

import os

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')

with gamqp.connect(URL) as connection:
    channel = connection.channel()
    channel.exchange_declare('logs', 'fanout', durable=True, auto_delete=False)
    queue = channel.queue_declare(exclusive=True).queue  # a name of the broker's choice, gone with the connection
    channel.queue_bind(queue, 'logs')
    print('listening', flush=True)
    try:
        for message in channel.consume(queue, no_ack=True):
            print(message.body, flush=True)
    except KeyboardInterrupt:
        pass
