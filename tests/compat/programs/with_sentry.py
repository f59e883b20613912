"""A program that reports to Sentry: ``with_sentry.py MODE URL``. Prints the reports, a line of JSON each."""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
from typing import Any  # noqa: E402

import sentry_sdk  # noqa: E402
import traced_round_trip  # noqa: E402  # calls install_as_amqp(), before sentry_sdk.init imports celery
from sentry_sdk.transport import Transport  # noqa: E402


class Printer(Transport):
    """Prints what would be sent to Sentry, and sends nothing."""

    def capture_envelope(self, envelope: Any) -> None:
        for item in envelope.items:
            print(json.dumps({'type': item.type, 'payload': item.payload.json}, default=str))


sentry_sdk.init(dsn='http://key@127.0.0.1:9/1', transport=Printer, traces_sample_rate=1.0)

with sentry_sdk.start_transaction(name='request'):
    traced_round_trip.by_celery(fail=True)
sentry_sdk.flush()
traced_round_trip.leave()
