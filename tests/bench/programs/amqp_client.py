"""The jobs with py-amqp; with GREEN=gevent in the environment under gevent's monkey-patching, else plain."""

from __future__ import annotations

import importlib
import os
from typing import Any

if os.environ.get('GREEN') == 'gevent':
    importlib.import_module('gevent.monkey').patch_all()

from timing import CORRELATION_ID, ECHO, HEADERS, PROPERTIES, SINK, WINDOW, Broker, Job, main

amqp: Any = importlib.import_module('amqp')


def connect(broker: Broker, confirm_publish: bool = False) -> Any:
    connection = amqp.Connection(
        f'{broker.host}:{broker.port}',
        broker.user,
        broker.password,
        virtual_host=broker.vhost,
        heartbeat=0,
        confirm_publish=confirm_publish,
    )
    connection.connect()
    return connection


def consume(broker: Broker, job: Job) -> None:
    with connect(broker) as connection:
        channel = connection.channel()
        got = 0

        def take(message: Any) -> None:
            nonlocal got
            got += 1
            if job.acks:
                channel.basic_ack(message.delivery_tag)

        job.start()
        channel.basic_consume(job.queue, no_ack=not job.acks, callback=take)
        while got < job.count:
            connection.drain_events()
        job.stop()


def message(job: Job, **more: Any) -> Any:
    return amqp.Message(job.body, application_headers=HEADERS, **{**PROPERTIES, **more})


def publish(broker: Broker, job: Job) -> None:
    with connect(broker, job.name == 'confirm') as connection:
        channel = connection.channel()
        job.start()
        for _ in range(job.count):
            channel.basic_publish(message(job), exchange='', routing_key=SINK)
        job.stop()


def window(broker: Broker, job: Job) -> None:
    """py-amqp has no windows: the confirms of a channel in confirm mode are counted here."""
    with connect(broker) as connection:
        channel = connection.channel()
        channel.confirm_select()
        confirmed = 0

        def note(delivery_tag: int, multiple: bool) -> None:
            nonlocal confirmed
            confirmed = delivery_tag

        channel.events['basic_ack'].add(note)
        job.start()
        for number in range(job.count):
            channel.basic_publish(message(job), exchange='', routing_key=SINK)
            while number - confirmed >= WINDOW:
                connection.drain_events()
        while confirmed < job.count:
            connection.drain_events()
        job.stop()


def rpc(broker: Broker, job: Job) -> None:
    with connect(broker) as connection:
        channel = connection.channel()
        replies: list[Any] = []
        channel.basic_consume('amq.rabbitmq.reply-to', no_ack=True, callback=replies.append)
        job.start()
        for number in range(job.count):
            request = message(job, reply_to='amq.rabbitmq.reply-to', correlation_id=f'{CORRELATION_ID}.{number}')
            channel.basic_publish(request, exchange='', routing_key=ECHO)
            while not replies:
                connection.drain_events()
            replies.clear()
        job.stop()


if __name__ == '__main__':
    jobs = {
        **dict.fromkeys(('consume', 'drain_events', 'ack', 'large'), consume),
        **dict.fromkeys(('publish', 'confirm'), publish),
        'window': window,
        'rpc': rpc,
    }
    main('py-amqp gevent' if 'GREEN' in os.environ else 'py-amqp', amqp.__version__, jobs)
