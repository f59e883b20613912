"""docs/quickstart.rst: publish three messages and consume them."""

import os

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')

with gamqp.connect(URL) as connection:
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True).queue
    for word in ('one', 'two', 'three'):
        channel.publish(word, routing_key=queue).wait()
    for message in channel.consume(queue):
        print(message.body)
        message.ack()
        if message.body == 'three':
            break
