"""Ports: free ones for a node, and what answers at one.

Ban: no RabbitMQ configuration and no process; standard library only.
"""

from __future__ import annotations

import random
import re
import socket


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now.

    Below the range from which the kernel takes the near end of outgoing connections: a port from that range
    may be taken while a node restarts, and a client that keeps trying it may even connect to itself.
    """
    taken: list[int] = []
    while len(taken) < count:
        port = random.randrange(20000, 32000)
        if port not in taken and bindable('127.0.0.1', port) and bindable('::1', port) is not False:
            taken.append(port)
    return taken


def bindable(host: str, port: int) -> bool | None:
    """Can a server listen there? None: the machine has no such address."""
    try:
        with socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return True
    except OSError as error:
        return False if 'in use' in str(error) else None


def broker_version(host: str, port: int, timeout: float = 5) -> str | None:
    """The version in the greeting of an AMQP server; None when nobody greets."""
    data = b''
    try:
        with socket.create_connection((host, port), timeout) as sock:
            sock.sendall(b'AMQP\x00\x00\x09\x01')
            while len(data) < 7 or len(data) < 8 + int.from_bytes(data[3:7], 'big'):
                more = sock.recv(65536)
                if not more:
                    return None
                data += more
    except OSError:
        return None
    found = re.search(rb'\x07versionS\x00\x00\x00(.)', data, re.DOTALL)
    return data[found.end() : found.end() + found[1][0]].decode() if found else 'unknown'
