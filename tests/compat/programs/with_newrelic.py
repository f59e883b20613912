"""A program that New Relic monitors: ``with_newrelic.py MODE URL FOLDER``. FOLDER/audit has what would be sent."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402
from pathlib import Path  # noqa: E402

folder = Path(sys.argv[3])
folder.joinpath('newrelic.ini').write_text(
    f'[newrelic]\nlicense_key = {"0" * 40}\napp_name = program\ndeveloper_mode = true\n'
    f'audit_log_file = {folder / "audit"}\nlog_file = {folder / "log"}\n'
    'instrumentation.kombu.consumer.enabled = true\n',
    encoding='utf-8',
)

import newrelic.agent  # noqa: E402

newrelic.agent.initialize(str(folder / 'newrelic.ini'))
application = newrelic.agent.register_application(timeout=30)

import traced_round_trip  # noqa: E402

traced_round_trip.by_kombu(newrelic.agent.BackgroundTask(application, name='request'))
traced_round_trip.by_celery()
newrelic.agent.shutdown_agent(timeout=30)
traced_round_trip.leave()
