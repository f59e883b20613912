"""aio-pika on ``gamqp.testing.Broker``: what its users do every day."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gamqp import testing


def test_aio_pika(broker: testing.Broker) -> None:
    aio_pika = pytest.importorskip('aio_pika')

    async def run() -> list[Any]:
        connection = await aio_pika.connect(broker.url)
        async with connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=5)
            exchange = await channel.declare_exchange('x', 'topic')
            queue = await channel.declare_queue('q', durable=True)
            await queue.bind(exchange, 'a.#')
            for number in range(10):
                await exchange.publish(aio_pika.Message(str(number).encode()), 'a.b')
            got = []
            async with queue.iterator() as messages:
                async for message in messages:
                    async with message.process():
                        got.append(message.body)
                    if len(got) == 10:
                        break
            with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
                await channel.get_queue('missing', ensure=True)
            with pytest.raises(RuntimeError, match='to_thread'):
                broker.wait_until(lambda: False)
            return got

    assert asyncio.run(run()) == [str(number).encode() for number in range(10)]
    broker.assert_drained('q')
