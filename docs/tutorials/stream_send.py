"""Tutorial 8: append to a stream."""

import os
import sys

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')

with gamqp.connect(URL) as connection:
    channel = connection.channel()
    arguments = {'x-queue-type': 'stream', 'x-max-length-bytes': 2_000_000_000, 'x-max-age': '7D'}
    channel.queue_declare('readings', durable=True, auto_delete=False, arguments=arguments)
    for reading in sys.argv[1:]:
        channel.publish(reading, routing_key='readings')
    channel.wait_for_confirms()
    print('stored')
