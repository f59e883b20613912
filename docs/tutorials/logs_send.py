"""Tutorial 3: tell everybody who listens."""

import os
import sys

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')

with gamqp.connect(URL) as connection:
    channel = connection.channel()
    channel.exchange_declare('logs', 'fanout', durable=True, auto_delete=False)
    channel.publish(' '.join(sys.argv[1:]) or 'something happened', exchange='logs').wait()
