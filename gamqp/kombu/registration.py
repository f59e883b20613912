"""The URL schemes of the transport.

Layer 5. Does not belong here: what a URL of these schemes may have, which is kombu's matter.
"""

from __future__ import annotations

from kombu import transport

__all__ = ('register',)

PLAIN = 'gamqp.kombu:Transport'
TLS = 'gamqp.kombu:SSLTransport'


def register(replace_amqp: bool = False) -> None:
    """Make ``gamqp://`` and ``gamqps://`` (with TLS) known to kombu; doing it again does nothing.

    replace_amqp: True to have ``amqp://`` and ``amqps://`` mean this transport too, in all of the process and
    for every kombu.Connection that is not connected yet; ``pyamqp://`` stays py-amqp's. Does not switch greenlets.
    """
    schemes = {'gamqp': PLAIN, 'gamqps': TLS}
    if replace_amqp:
        schemes.update(amqp=PLAIN, amqps=TLS)
    transport.TRANSPORT_ALIASES.update(schemes)
    for scheme in schemes:
        transport._transport_cache.pop(scheme, None)  # it may have been asked for before
