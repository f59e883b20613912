"""Tutorial 4: print the log lines of some severities: routing_receive.py warning error."""

import os
import sys

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')

with gamqp.connect(URL) as connection:
    channel = connection.channel()
    channel.exchange_declare('logs.direct', 'direct', durable=True, auto_delete=False)
    queue = channel.queue_declare(exclusive=True).queue
    for severity in sys.argv[1:]:
        channel.queue_bind(queue, 'logs.direct', severity)
    print('listening', flush=True)
    try:
        for message in channel.consume(queue, no_ack=True):
            print(f'{message.delivery_info["routing_key"]}: {message.body}', flush=True)
    except KeyboardInterrupt:
        pass
