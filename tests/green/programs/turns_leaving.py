"""Program: ends while thousands of receipts are being told. Arguments: library, host of a broker, how it ends.

Prints at its end, after the goodbye, in which states they are.
"""

from __future__ import annotations

import atexit
import collections
import sys
from typing import Any

import backends

library, host, how = sys.argv[1:]
receipts: list[Any] = []


@atexit.register  # before gamqp does, and so it is called after the goodbye
def tell() -> None:
    print(sorted(collections.Counter(receipt.state for receipt in receipts).items()), flush=True)


backends.begin(library, 'not')

import gamqp  # noqa: E402
from gamqp import green  # noqa: E402

connection = gamqp.Connection(host, heartbeat=0)
connection.connect()
channel = connection.channel()
channel.outstanding_limit = 0
receipts += [channel.publish(b'x', routing_key='q') for _ in range(5000)]
for receipt in receipts[4000:]:
    green.backend().spawn(receipt.wait)
green.backend().sleep(0)
print('ready', flush=True)
if how == 'collect':
    connection.collect()
else:
    while channel.unconfirmed == len(receipts):  # the broker acks them all
        green.backend().sleep(0)
    assert channel.unconfirmed
