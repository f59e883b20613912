"""Read a RabbitMQ stream from any place, remember how far it was read, and go on from there.

    ./examples/run stream_reader --self-test
    ./examples/run stream_reader NAME --offset 1h         # first, last, next, a number, or an interval

What to copy: the offset of a message is in its header x-stream-offset; the place
to go on is the one after it. Acks only tell the broker to send more, so they may
be given for many messages at once. Where it was is kept by the reader, here in a file.
"""

import argparse
import os
import pathlib
import sys
import tempfile

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')
PREFETCH = 200


def read(channel, stream, place, offset='first', limit=None, timeout=None):
    """Yield (offset, message) from where *place*, a file, says, or from *offset* if there is none yet."""
    if place.exists():
        offset = int(place.read_text())
    count = 0
    with channel.consume(stream, prefetch=PREFETCH, arguments={'x-stream-offset': offset}, timeout=timeout) as messages:
        for message in messages:
            at = message.headers['x-stream-offset']
            if isinstance(offset, int) and at < offset:
                continue  # a stream is delivered by chunks: the first may begin before the place that was asked for
            yield at, message
            count += 1
            if count % (PREFETCH // 2) == 0:
                message.ack(multiple=True)
                remember(place, at + 1)
            if count == limit:
                remember(place, at + 1)
                return


def remember(place, offset):
    """Replace the file in one step, so that it is never half written."""
    draft = place.with_suffix('.new')
    draft.write_text(str(offset))
    draft.replace(place)


def self_test():
    """Write 1,000 messages, read 300, go on after them with the rest, and look at the last ones."""
    stream = f'gamqp.stream.{os.getpid()}'
    with gamqp.connect(URL) as connection, tempfile.TemporaryDirectory() as folder:
        channel = connection.channel()
        channel.queue_declare(stream, durable=True, auto_delete=False, arguments={'x-queue-type': 'stream'})
        try:
            for number in range(1000):
                channel.publish(str(number), routing_key=stream)
            assert channel.wait_for_confirms()
            place = pathlib.Path(folder) / 'place'
            first = [message.body for _, message in read(channel, stream, place, limit=300)]
            print(f'read {first[0]} to {first[-1]}, will go on at {place.read_text()}')
            rest = [message.body for _, message in read(channel, stream, place, limit=700)]
            print(f'read {rest[0]} to {rest[-1]}')
            place.unlink()
            channel.publish('the end', routing_key=stream).wait()
            for _, message in read(channel, stream, place, offset='last', timeout=10):
                if message.body == 'the end':
                    print('found the end from the last chunk')
                    break
        finally:
            channel.queue_delete(stream)
    return 0 if first + rest == [str(number) for number in range(1000)] else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('stream', nargs='?')
    parser.add_argument('--offset', default='first', help='first, last, next, a number, or an interval such as 1h')
    parser.add_argument('--place', default='stream_reader.place', help='the file that remembers how far it was read')
    parser.add_argument('--self-test', action='store_true')
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if not options.stream:
        parser.error('which stream?')
    offset = int(options.offset) if options.offset.isdigit() else options.offset
    with gamqp.connect(URL) as connection:
        try:
            for at, message in read(connection.channel(), options.stream, pathlib.Path(options.place), offset):
                print(at, message.body)
        except KeyboardInterrupt:
            print('stopped')
    return 0


if __name__ == '__main__':
    sys.exit(main())
