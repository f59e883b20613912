"""gamqp as a transport of kombu, and so of Celery.

Layer 5; needs kombu. For Celery it takes one line, beside the usual ``broker_url``::

    broker_transport = 'gamqp.kombu:Transport'

and for kombu one argument, ``kombu.Connection('amqp://…', transport='gamqp.kombu:Transport')``. Or call
``gamqp.kombu.register()`` and write ``gamqp://`` in URLs. ``transport`` has what the transport does differently from
kombu's own, ``choice`` when it leaves a connection to py-amqp. Does not belong here: what programs without
kombu can use as well.
"""

from __future__ import annotations

try:
    import kombu  # noqa: F401  here, so that the reason is said
except ImportError as exc:
    raise ImportError("gamqp.kombu needs kombu: pip install 'gamqp[kombu]'") from exc

from .registration import register
from .transport import SSLTransport, Transport

__all__ = ('SSLTransport', 'Transport', 'register')
