"""A channel: one conversation with the broker inside a connection. One file an AMQP class.

Layer 3. Each method checks, encodes, sends and waits by ``request.Requester``, which also says what a
timeout leaves behind. Does not belong here: who takes the messages of a consumer (``gamqp.consuming``), and
what concerns the whole connection (``gamqp.connection``). Public: Channel, VDeprecationWarning, and
the Receipt of a publish. Names, parameters and defaults are py-amqp's, but for
``publish``, ``consume`` and ``subscribe``, which are ours.

Unless said otherwise a method may switch greenlets while it waits for its reply
and raises

* EncodeError when an argument cannot be sent (nothing was); TypeError and ValueError for
  numbers that cannot be meant: no AMQP errors, since programs connect again after those,
* a ChannelError (NotFound, PreconditionFailed, AccessRefused …) with the
  broker's code and text when the broker refuses; it has then closed and we have
  reopened the channel, without its consumers and its confirm mode,
* a ConnectionError when the connection is lost or closed,
* TimeoutError when no reply came within the connection's rpc_timeout.
"""

from __future__ import annotations

from .channel import Channel, VDeprecationWarning

__all__ = ('Channel', 'VDeprecationWarning')
