"""The jobs with gamqp. Which build runs, GAMQP_PURE_PYTHON says; whether connections recover, RECOVER."""

from __future__ import annotations

import itertools
import os

from timing import ECHO, HEADERS, PROPERTIES, SINK, WINDOW, Broker, Job, main

import gamqp
from gamqp import wire

RECOVER = bool(os.environ.get('RECOVER'))


def connect(broker: Broker, confirm_publish: bool = False) -> gamqp.Connection:
    return gamqp.connect(broker.url, heartbeat=0, confirm_publish=confirm_publish, recover=RECOVER)


def consume(broker: Broker, job: Job) -> None:
    with connect(broker) as connection:
        job.start()
        messages = connection.channel().consume(job.queue, no_ack=not job.acks)
        if job.acks:
            for message in itertools.islice(messages, job.count):
                message.ack()
        else:
            for _ in itertools.islice(messages, job.count):
                pass
        job.stop()


def drain_events(broker: Broker, job: Job) -> None:
    with connect(broker) as connection:
        got = 0

        def take(message: gamqp.Message) -> None:
            nonlocal got
            got += 1

        job.start()
        connection.channel().basic_consume(job.queue, no_ack=True, callback=take)
        while got < job.count:
            connection.drain_events()
        job.stop()


def publish(broker: Broker, job: Job) -> None:
    """As with py-amqp. With confirm_publish each call waits for its confirm."""
    with connect(broker, confirm_publish=job.name == 'confirm') as connection:
        channel = connection.channel()
        job.start()
        for _ in range(job.count):
            message = gamqp.Message(job.body, application_headers=HEADERS, **PROPERTIES)
            channel.basic_publish(message, exchange='', routing_key=SINK)
        connection.flush()
        job.stop()


def window(broker: Broker, job: Job) -> None:
    with connect(broker) as connection:
        channel = connection.channel()
        channel.outstanding_limit = WINDOW
        job.start()
        for _ in range(job.count):
            channel.publish(job.body, routing_key=SINK, headers=HEADERS, **PROPERTIES)
        channel.wait_for_confirms()
        job.stop()


def rpc(broker: Broker, job: Job) -> None:
    with connect(broker) as connection, gamqp.RPCClient(connection) as client:
        job.start()
        for _ in range(job.count):
            client.call(job.body, ECHO)
        job.stop()


if __name__ == '__main__':
    jobs = {
        **dict.fromkeys(('consume', 'ack', 'large'), consume),
        **dict.fromkeys(('publish', 'confirm'), publish),
        'drain_events': drain_events,
        'window': window,
        'rpc': rpc,
    }
    build = 'compiled' if wire.COMPILED else 'pure'
    main(f'gamqp {build}', gamqp.__version__, jobs)
