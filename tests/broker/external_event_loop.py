"""What an event loop of somebody else sees of a connection: it knows the descriptor, and lets no hub run."""

from __future__ import annotations

import os
import select
from typing import Any

import gamqp

__all__ = ('drain_when_readable', 'kernel_objects', 'readable')

#: Seconds for what is there already or comes from a thread; only a failing test waits so long.
PATIENCE = 30.0


def readable(sock: Any, timeout: float = 0) -> bool:
    """Whether a loop would be woken within that time. The whole process waits, hub and all."""
    return bool(select.select([sock], [], [], timeout)[0])


def drain_when_readable(client: gamqp.Connection, enough: Any) -> None:
    """The loop: wait for the descriptor, call drain_events(timeout=0) until nothing is left, until *enough()*."""
    while not enough():
        assert readable(client.sock, PATIENCE), 'there is something to do, and the descriptor does not say so'
        try:
            while True:
                client.drain_events(timeout=0)
        except TimeoutError:
            pass


def kernel_objects() -> list[str]:
    """The epoll sets and eventfds of this process."""
    links = []
    for number in os.listdir('/proc/self/fd'):
        try:
            links.append(os.readlink(f'/proc/self/fd/{number}'))
        except OSError:
            pass
    return sorted(link for link in links if 'eventpoll' in link or 'eventfd' in link)
