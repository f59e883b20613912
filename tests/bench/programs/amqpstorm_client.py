"""The jobs with AMQPStorm. It waits for each confirm by itself, so it has no windows of them."""

from __future__ import annotations

import importlib
from typing import Any

from timing import CORRELATION_ID, ECHO, HEADERS, PROPERTIES, SINK, Broker, Job, main

amqpstorm: Any = importlib.import_module('amqpstorm')


def connect(broker: Broker) -> Any:
    return amqpstorm.Connection(
        broker.host, broker.user, broker.password, port=broker.port, virtual_host=broker.vhost, heartbeat=0
    )


def consume(broker: Broker, job: Job) -> None:
    with connect(broker) as connection, connection.channel() as channel:
        got = 0

        def take(message: Any) -> None:
            nonlocal got
            got += 1
            if job.acks:
                message.ack()
            if got == job.count:
                job.stop()
                channel.stop_consuming()

        job.start()
        channel.basic.consume(take, job.queue, no_ack=not job.acks)
        channel.start_consuming()


def publish(broker: Broker, job: Job) -> None:
    with connect(broker) as connection, connection.channel() as channel:
        if job.name == 'confirm':
            channel.confirm_deliveries()
        job.start()
        for _ in range(job.count):
            channel.basic.publish(job.body, SINK, '', {**PROPERTIES, 'headers': HEADERS})
        job.stop()


def rpc(broker: Broker, job: Job) -> None:
    with connect(broker) as connection, connection.channel() as channel:
        replies: list[Any] = []
        channel.basic.consume(replies.append, 'amq.rabbitmq.reply-to', no_ack=True)
        given = {**PROPERTIES, 'headers': HEADERS, 'reply_to': 'amq.rabbitmq.reply-to'}
        job.start()
        for number in range(job.count):
            given['correlation_id'] = f'{CORRELATION_ID}.{number}'
            channel.basic.publish(job.body, ECHO, '', dict(given))
            while not replies:
                channel.process_data_events()
            replies.clear()
        job.stop()


if __name__ == '__main__':
    jobs = {
        **dict.fromkeys(('consume', 'ack', 'large'), consume),
        **dict.fromkeys(('publish', 'confirm'), publish),
        'rpc': rpc,
    }
    main('AMQPStorm', amqpstorm.__version__, jobs)
