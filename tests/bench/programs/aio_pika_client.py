"""The jobs with aio-pika, in one event loop of asyncio."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import Any

from timing import CORRELATION_ID, ECHO, HEADERS, PROPERTIES, SINK, WINDOW, Broker, Job, main

aio_pika: Any = importlib.import_module('aio_pika')


async def _consume(connection: Any, job: Job) -> None:
    channel = await connection.channel()
    queue = await channel.get_queue(job.queue, ensure=False)
    done = asyncio.Event()
    got = 0

    async def take(message: Any) -> None:
        nonlocal got
        got += 1
        if job.acks:
            await message.ack()
        if got == job.count:
            done.set()

    job.start()
    await queue.consume(take, no_ack=not job.acks)
    await done.wait()
    job.stop()


def message(job: Job, **more: Any) -> Any:
    return aio_pika.Message(job.body, headers=HEADERS, **{**PROPERTIES, **more})


async def _publish(connection: Any, job: Job) -> None:
    channel = await connection.channel(publisher_confirms=job.name == 'confirm')
    exchange = channel.default_exchange
    job.start()
    for _ in range(job.count):
        await exchange.publish(message(job), SINK, mandatory=False)
    job.stop()


async def _window(connection: Any, job: Job) -> None:
    """A task for each publish; as many at a time as the window has."""
    channel = await connection.channel(publisher_confirms=True)
    exchange = channel.default_exchange
    job.start()
    for first in range(0, job.count, WINDOW):
        numbers = range(first, min(first + WINDOW, job.count))
        await asyncio.gather(*(exchange.publish(message(job), SINK, mandatory=False) for _ in numbers))
    job.stop()


async def _rpc(connection: Any, job: Job) -> None:
    channel = await connection.channel(publisher_confirms=False)
    queue = await channel.get_queue('amq.rabbitmq.reply-to', ensure=False)
    replies: asyncio.Queue[Any] = asyncio.Queue()
    await queue.consume(replies.put, no_ack=True)
    job.start()
    for number in range(job.count):
        request = message(job, reply_to='amq.rabbitmq.reply-to', correlation_id=f'{CORRELATION_ID}.{number}')
        await channel.default_exchange.publish(request, ECHO, mandatory=False)
        await replies.get()
    job.stop()


def with_connection(act: Callable[[Any, Job], Awaitable[None]]) -> Callable[[Broker, Job], None]:
    async def run(broker: Broker, job: Job) -> None:
        async with await aio_pika.connect(f'{broker.url}?heartbeat=0') as connection:
            await act(connection, job)

    return lambda broker, job: asyncio.run(run(broker, job))


if __name__ == '__main__':
    jobs = {
        **dict.fromkeys(('consume', 'ack', 'large'), with_connection(_consume)),
        **dict.fromkeys(('publish', 'confirm'), with_connection(_publish)),
        'window': with_connection(_window),
        'rpc': with_connection(_rpc),
    }
    main('aio-pika', importlib.import_module('importlib.metadata').version('aio-pika'), jobs)
