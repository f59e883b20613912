"""docs/from_py_amqp.rst: a program written for py-amqp; one line is different."""

import os

import gamqp as amqp  # was: import amqp

HOST = os.environ.get('AMQP_HOST', 'localhost:5672')
VHOST = os.environ.get('AMQP_VHOST', '/')


def on_message(message):
    print('got', message.body, flush=True)
    message.channel.basic_ack(message.delivery_tag)
    if message.body == 'end':
        message.channel.basic_cancel(message.consumer_tag)


with amqp.Connection(HOST, userid='guest', password='guest', virtual_host=VHOST) as connection:
    channel = connection.channel()
    channel.queue_declare('jobs', durable=True, auto_delete=False)
    channel.basic_qos(0, 20, False)
    channel.basic_consume('jobs', callback=on_message)
    print('consuming', flush=True)
    while channel.callbacks:
        connection.drain_events()
