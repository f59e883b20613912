"""Tutorial 5: print the measurements that patterns select: topics_receive.py 'berlin.#' '*.*.humidity'."""

import os
import sys

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')

with gamqp.connect(URL) as connection:
    channel = connection.channel()
    channel.exchange_declare('measurements', 'topic', durable=True, auto_delete=False)
    queue = channel.queue_declare(exclusive=True).queue
    for pattern in sys.argv[1:]:
        channel.queue_bind(queue, 'measurements', pattern)
    print('listening', flush=True)
    try:
        for message in channel.consume(queue, no_ack=True):
            print(f'{message.delivery_info["routing_key"]} {message.body}', flush=True)
    except KeyboardInterrupt:
        pass
