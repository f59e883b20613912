"""What the tests of pools have in common: pools that are closed, greenlets that hold a channel, ways to publish."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import greenlets

import gamqp


@contextlib.contextmanager
def making(rabbit: Any, proxy: Any) -> Iterator[Any]:
    """Gives a function that makes pools, through the proxy unless told otherwise; they are closed at the end."""
    pools = []

    def make(*limits: int, url: Any = None, **arguments: Any) -> gamqp.Pool:
        pools.append(gamqp.Pool(url or proxy.url(rabbit), *limits, **arguments))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close(0)


def publish(channel: gamqp.Channel, queue: str) -> None:
    channel.publish(b'x', routing_key=queue).wait()


def publish_unawaited(channel: gamqp.Channel, queue: str) -> None:
    channel.publish(b'x', routing_key=queue)


def publish_without_receipt(channel: gamqp.Channel, queue: str) -> None:
    channel.basic_publish(gamqp.Message(b'x'), '', queue)


def lease_once(pool: gamqp.Pool, timeout: float | None = None) -> gamqp.Channel:
    """A channel that has been used, and is back."""
    with pool.channel(timeout) as channel:
        channel.queue_declare(exclusive=True)
        return channel


def hold(pool: gamqp.Pool) -> Any:
    """A greenlet that has leased a channel and keeps it until ``go()``; its Task gives the channel."""
    slot = gamqp.green.Slot(greenlets.backend)

    def run() -> Any:
        with pool.channel() as channel:
            slot.wait()
        return channel

    task: Any = greenlets.spawn(run)
    task.go = slot.succeed
    return task


def held(pool: gamqp.Pool, count: int = 1) -> list[Any]:
    """So many greenlets with a channel each."""
    tasks = [hold(pool) for _ in range(count)]
    greenlets.wait_until(lambda: pool.stats()['leased'] == count)
    return tasks


def end(tasks: list[Any]) -> list[Any]:
    for task in tasks:
        task.go()
    return [task.get() for task in tasks]
