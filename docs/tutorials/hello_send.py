"""Tutorial 1: send one message."""

import os

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')

with gamqp.connect(URL) as connection:
    channel = connection.channel()
    channel.queue_declare('hello', durable=True, auto_delete=False)
    channel.publish('Good morning!', routing_key='hello').wait()
    print('sent')
