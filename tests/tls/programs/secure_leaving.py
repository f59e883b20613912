"""Program: publish over TLS and end without closing. Arguments: library, URL, CA file, queue, count."""

from __future__ import annotations

import sys
import warnings

warnings.simplefilter('ignore')
library, url, trust, queue, count = sys.argv[1:]

import gamqp  # noqa: E402
from gamqp import green  # noqa: E402

green.use(library)
connection = gamqp.connect(url, ssl={'ca_certs': trust})
channel = connection.channel()
channel.queue_declare(queue, durable=True, auto_delete=False)
for _ in range(int(count)):
    channel.basic_publish(gamqp.Message(bytes(1000)), '', queue)
