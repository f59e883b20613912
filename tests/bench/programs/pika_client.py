"""The jobs with pika's BlockingConnection. It waits for each confirm by itself, so it has no windows of them."""

from __future__ import annotations

import importlib
from typing import Any

from timing import CORRELATION_ID, ECHO, HEADERS, PROPERTIES, SINK, Broker, Job, main

pika: Any = importlib.import_module('pika')


def connect(broker: Broker) -> Any:
    credentials = pika.PlainCredentials(broker.user, broker.password)
    return pika.BlockingConnection(
        pika.ConnectionParameters(broker.host, broker.port, broker.vhost, credentials, heartbeat=0)
    )


def consume(broker: Broker, job: Job) -> None:
    with connect(broker) as connection:
        channel = connection.channel()
        got = 0

        def take(_: Any, method: Any, properties: Any, body: bytes) -> None:
            nonlocal got
            got += 1
            if job.acks:
                channel.basic_ack(method.delivery_tag)
            if got == job.count:
                connection.process_data_events(0)  # what acks are left
                job.stop()
                channel.stop_consuming()

        job.start()
        channel.basic_consume(job.queue, take, auto_ack=not job.acks)
        channel.start_consuming()


def publish(broker: Broker, job: Job) -> None:
    with connect(broker) as connection:
        channel = connection.channel()
        if job.name == 'confirm':
            channel.confirm_delivery()
        job.start()
        for _ in range(job.count):
            channel.basic_publish('', SINK, job.body, pika.BasicProperties(headers=HEADERS, **PROPERTIES))
        job.stop()


def rpc(broker: Broker, job: Job) -> None:
    with connect(broker) as connection:
        channel = connection.channel()
        replies: list[bytes] = []
        channel.basic_consume('amq.rabbitmq.reply-to', lambda *reply: replies.append(reply[3]), auto_ack=True)
        given = {**PROPERTIES, 'headers': HEADERS, 'reply_to': 'amq.rabbitmq.reply-to'}
        job.start()
        for number in range(job.count):
            given['correlation_id'] = f'{CORRELATION_ID}.{number}'
            channel.basic_publish('', ECHO, job.body, pika.BasicProperties(**given))
            while not replies:
                connection.process_data_events(None)
            replies.clear()
        job.stop()
        channel.stop_consuming()


if __name__ == '__main__':
    jobs = {
        **dict.fromkeys(('consume', 'ack', 'large'), consume),
        **dict.fromkeys(('publish', 'confirm'), publish),
        'rpc': rpc,
    }
    main('pika', pika.__version__, jobs)
