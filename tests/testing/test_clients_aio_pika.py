"""aio-pika on ``gamqp.testing.Broker``: what its users do every day. Skipped where it is not installed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gamqp import testing

aio_pika = pytest.importorskip('aio_pika')


def talk(broker: testing.Broker, scene: Callable[[Any], Awaitable[Any]], **how: Any) -> Any:
    """Carry out a scene with a channel."""

    async def run() -> Any:
        connection = await aio_pika.connect(broker.url)
        async with connection:
            return await scene(await connection.channel(**how))

    return asyncio.run(run())


async def publish(channel: Any, body: bytes, key: str, exchange: Any = None, **how: Any) -> Any:
    return await (exchange or channel.default_exchange).publish(aio_pika.Message(body, **how), key)


def test_aio_pika_publishes_and_iterates(broker: testing.Broker) -> None:
    async def scene(channel: Any) -> list[bytes]:
        await channel.set_qos(prefetch_count=5)
        exchange = await channel.declare_exchange('x', 'topic')
        queue = await channel.declare_queue('q', durable=True)
        await queue.bind(exchange, 'a.#')
        for number in range(10):
            await publish(channel, str(number).encode(), 'a.b', exchange)
        got: list[bytes] = []
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    got.append(message.body)
                if len(got) == 10:
                    break
        return got

    assert talk(broker, scene) == [str(number).encode() for number in range(10)]
    broker.assert_drained('q')


def test_aio_pika_fetches_and_rejects(broker: testing.Broker) -> None:
    async def scene(channel: Any) -> None:
        dead = await channel.declare_queue('dead', durable=True)
        arguments = {'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead'}
        queue = await channel.declare_queue('q', durable=True, arguments=arguments)
        await publish(channel, b'1', 'q', headers={'a': 1})
        message = await queue.get()
        await message.nack(requeue=True)
        message = await queue.get()
        assert message.redelivered and message.headers['a'] == 1
        await message.reject(requeue=False)
        letter = await dead.get(no_ack=True)
        assert letter.headers['x-death'][0]['reason'] == 'rejected'
        assert await queue.get(fail=False) is None

    talk(broker, scene)


def test_aio_pika_hears_of_a_nack(broker: testing.Broker) -> None:
    async def scene(channel: Any) -> None:
        await channel.declare_queue('q', durable=True)
        broker.nack_next()
        with pytest.raises(aio_pika.exceptions.DeliveryError):
            await publish(channel, b'1', 'q')
        await publish(channel, b'2', 'q')

    talk(broker, scene)
    broker.assert_messages('q', b'2')


def test_aio_pika_gets_what_cannot_be_routed_back(broker: testing.Broker) -> None:
    async def scene(channel: Any) -> None:
        with pytest.raises(aio_pika.exceptions.PublishError):
            await publish(channel, b'1', 'nowhere')

    talk(broker, scene, on_return_raises=True)


def test_aio_pika_gets_channel_errors(broker: testing.Broker) -> None:
    async def scene(channel: Any) -> None:
        with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
            await channel.get_queue('missing', ensure=True)
        await channel.reopen()
        await channel.declare_queue('q', durable=True)
        with pytest.raises(aio_pika.exceptions.ChannelPreconditionFailed):
            await channel.declare_queue('q', durable=True, arguments={'x-max-length': 5})

    talk(broker, scene)


def test_aio_pika_is_refused(broker: testing.Broker) -> None:
    async def run() -> None:
        with pytest.raises(aio_pika.exceptions.ProbableAuthenticationError):
            await aio_pika.connect(broker.url.replace('guest:guest', 'guest:wrong'))

    asyncio.run(run())


def test_aio_pika_commits_and_rolls_back(broker: testing.Broker) -> None:
    async def scene(channel: Any) -> None:
        await channel.declare_queue('q', durable=True)
        async with channel.transaction():
            await publish(channel, b'kept', 'q')
        transaction = channel.transaction()
        await transaction.select()
        await publish(channel, b'undone', 'q')
        await transaction.rollback()

    talk(broker, scene, publisher_confirms=False)
    broker.assert_messages('q', b'kept')


def test_aio_pika_calls_a_function(broker: testing.Broker) -> None:
    async def scene(channel: Any) -> int:
        from aio_pika.patterns import RPC

        rpc = await RPC.create(channel)

        async def multiply(x: int, y: int) -> int:
            return x * y

        await rpc.register('multiply', multiply, auto_delete=True)
        result: int = await rpc.call('multiply', kwargs={'x': 6, 'y': 7})
        return result

    assert talk(broker, scene) == 42


def test_aio_pika_meets_an_exclusive_consumer(broker: testing.Broker) -> None:
    async def scene(channel: Any) -> None:
        async def ignore(message: Any) -> None:
            await message.ack()

        queue = await channel.declare_queue('q', durable=True)
        await queue.consume(ignore, exclusive=True)
        with pytest.raises(aio_pika.exceptions.ChannelClosed, match='in exclusive use'):
            await queue.consume(ignore)

    talk(broker, scene)


def test_aio_pika_comes_back_after_a_cut(broker: testing.Broker) -> None:
    async def run() -> list[bytes]:
        connection = await aio_pika.connect_robust(broker.url, reconnect_interval=0.05)
        async with connection:
            channel = await connection.channel()
            queue = await channel.declare_queue('q', durable=True)
            got: list[bytes] = []

            async def take(message: Any) -> None:
                got.append(message.body)
                await message.ack()

            await queue.consume(take)
            with pytest.raises(RuntimeError, match='to_thread'):
                broker.wait_until(lambda: False)
            broker.cut()
            await asyncio.to_thread(broker.wait_until, lambda: broker.queue('q').consumers and broker.connections, 20)
            broker.publish('', 'q', b'after')
            await asyncio.to_thread(broker.wait_until, lambda: got, 20)
            return got

    assert asyncio.run(run()) == [b'after']
    assert broker.connections_in_all == 2
