"""The jobs with librabbitmq, a binding of the C library with py-amqp's interface. It has no confirms."""

from __future__ import annotations

import importlib
from typing import Any

from timing import ECHO, HEADERS, PROPERTIES, SINK, Broker, Job, main

librabbitmq: Any = importlib.import_module('librabbitmq')


def connect(broker: Broker) -> Any:
    return librabbitmq.Connection(
        host=broker.host,
        port=broker.port,
        userid=broker.user,
        password=broker.password,
        virtual_host=broker.vhost,
        heartbeat=0,
    )


def consume(broker: Broker, job: Job) -> None:
    connection = connect(broker)
    channel = connection.channel()
    got = 0

    def take(message: Any) -> None:
        nonlocal got
        got += 1
        if job.acks:
            message.ack()

    job.start()
    channel.basic_consume(job.queue, no_ack=not job.acks, callback=take)
    while got < job.count:
        connection.drain_events()
    job.stop()
    connection.close()


def publish(broker: Broker, job: Job) -> None:
    connection = connect(broker)
    channel = connection.channel()
    job.start()
    for _ in range(job.count):
        channel.basic_publish(job.body, exchange='', routing_key=SINK, headers=HEADERS, **PROPERTIES)
    job.stop()
    connection.close()


def rpc(broker: Broker, job: Job) -> None:
    connection = connect(broker)
    channel = connection.channel()
    replies: list[Any] = []
    channel.basic_consume('amq.rabbitmq.reply-to', no_ack=True, callback=replies.append)
    job.start()
    for _ in range(job.count):
        channel.basic_publish(
            job.body, exchange='', routing_key=ECHO, reply_to='amq.rabbitmq.reply-to', headers=HEADERS, **PROPERTIES
        )
        while not replies:
            connection.drain_events()
        replies.clear()
    job.stop()
    connection.close()


if __name__ == '__main__':
    jobs = {
        **dict.fromkeys(('consume', 'drain_events', 'ack', 'large'), consume),
        'publish': publish,
        'rpc': rpc,
    }
    main('librabbitmq', librabbitmq.__version__, jobs)
