"""A broker for tests: AMQP 0-9-1 as RabbitMQ speaks it, in this process, for any client. ::

    with gamqp.testing.Broker() as broker:
        with gamqp.connect(broker.url) as connection:
            ...
        broker.assert_published('orders', routing_key='new', count=1)

    Broker, Cluster      one broker, several as one
    SeenMessage, QueueView, ConnectionView, ConsumerView    what a test sees of it
    gamqp.testing.rabbitmq.RabbitMQ                         the same of a real RabbitMQ, a virtual host

It starts in a few milliseconds, so each test can have its own; the fixture ``amqp_broker`` of the pytest plugin is
one. It keeps everything in memory, and does wrong on demand: ``block``, ``cut``, ``stall``, ``refuse``, ``delay``,
``drop_reply``, ``cancel``, ``nack_next``, ``restart``, ``maintenance``, ``send_raw``; ``clock.advance`` moves its time.

Layer 5, on ``wire`` and ``green.os_threads`` alone, but for ``rabbitmq``: ``state`` is the broker without I/O, ``io``
its thread. Does not belong here: clients.
"""

from __future__ import annotations

from .broker import Broker
from .cluster import Cluster, ClusterNode
from .service import TestClock
from .view import ConnectionView, ConsumerView, QueueView, SeenMessage

__all__ = (
    'Broker',
    'Cluster',
    'ClusterNode',
    'ConnectionView',
    'ConsumerView',
    'QueueView',
    'SeenMessage',
    'TestClock',
)
