"""Ends with receipts of refused publishes at which nobody has looked: ``unnoticed_leaving.py LIBRARY URL``."""

from __future__ import annotations

import sys

import gamqp
from gamqp import green

green.use(sys.argv[1])
channel = gamqp.connect(sys.argv[2]).channel()
full = {'x-max-length': 1, 'x-overflow': 'reject-publish'}
queue = channel.queue_declare(exclusive=True, arguments=full).queue
receipts = [channel.publish(b'x', routing_key=queue) for _ in range(3)]
channel.wait_for_confirms()
