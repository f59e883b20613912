"""Tutorial 2: put tasks into a queue. Each argument is a task, and each dot in it a tenth of a second of work."""

import os
import sys

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')

with gamqp.connect(URL) as connection:
    channel = connection.channel()
    channel.queue_declare('tasks', durable=True, auto_delete=False)
    for task in sys.argv[1:] or ['a task...']:
        channel.publish(task, routing_key='tasks', delivery_mode=2)  # 2: the broker writes it to disk
    channel.wait_for_confirms()
    print('the broker has them')
