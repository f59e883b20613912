"""Tutorial 4: a log line and how bad it is: routing_send.py error 'the disk is full'."""

import os
import sys

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')

severity, text = sys.argv[1:]
with gamqp.connect(URL) as connection:
    channel = connection.channel()
    channel.exchange_declare('logs.direct', 'direct', durable=True, auto_delete=False)
    channel.publish(text, exchange='logs.direct', routing_key=severity).wait()
