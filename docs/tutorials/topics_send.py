"""Tutorial 5: a measurement from a place: topics_send.py berlin.kitchen.temperature 21."""

import os
import sys

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')

place, value = sys.argv[1:]
with gamqp.connect(URL) as connection:
    channel = connection.channel()
    channel.exchange_declare('measurements', 'topic', durable=True, auto_delete=False)
    channel.publish(value, exchange='measurements', routing_key=place).wait()
