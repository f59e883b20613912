"""Program: eventlet patches late. Prints which locks between threads are not those of the system any more."""

import warnings

warnings.simplefilter('ignore')  # eventlet says that it is in maintenance

import inside  # noqa: E402

import gamqp  # noqa: E402
from gamqp import green, testing  # noqa: E402
from gamqp.green import os_threads  # noqa: E402

green.use('eventlet')
with testing.Broker() as broker, gamqp.connect(broker.url, heartbeat_thread=True) as connection:
    view = broker.connections[0]
    import eventlet

    eventlet.monkey_patch()
    locks = inside.locks_between_threads(connection, broker, view)
    print([name for name, lock in locks.items() if type(lock) is not os_threads.RLock])
