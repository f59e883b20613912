"""Tutorial 8: read a stream from some place on: stream_receive.py first, last, next, 1h or a number."""

import os
import sys

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')

offset = sys.argv[1] if len(sys.argv) > 1 else 'first'
offset = int(offset) if offset.isdigit() else offset

with gamqp.connect(URL) as connection:
    channel = connection.channel()
    print('reading', flush=True)
    try:
        for message in channel.consume('readings', prefetch=100, arguments={'x-stream-offset': offset}):
            at = message.headers['x-stream-offset']
            if not isinstance(offset, int) or at >= offset:  # a stream comes in chunks: the first may begin earlier
                print(at, message.body, flush=True)
            message.ack()
    except KeyboardInterrupt:
        pass
