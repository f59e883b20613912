"""``gamqp check URL``: whether a broker can be used, step by step, and what to do where not.

Layer 5. Does not belong here: the steps (``check_network``, ``check_login``, ``check_messages``).
"""

from __future__ import annotations

import argparse

from .. import exceptions
from ..state.connection_settings import Settings
from . import broker_urls
from .check_login import open_connection
from .check_messages import check_heartbeat, check_messages
from .check_network import check_address, check_certificate, check_name
from .check_report import Report, Stopped
from .exit_codes import FAILED, OK
from .management import ManagementAPI, add_management
from .output import Output
from .parser import Parser
from .running import Stop
from .running import run as run_command

__all__ = ('run',)

EXAMPLE = """\
gamqp check amqps://app@broker.example.com/orders
AMQP_URL='amqp://app:…@one amqp://app:…@two' gamqp check --json | jq 'select(.result == "failed")'"""


def run(arguments: list[str]) -> int:
    """Run the command. Returns the exit code."""
    parser = Parser('check', 'Walk all the way to a broker and back, and say what was found at each step.', EXAMPLE)
    parser.add_argument('urls', nargs='*', metavar='URL', help='the brokers; without one those of --url or AMQP_URL')
    parser.add_argument('--json', action='store_true', help='a line of JSON for each step')
    parser.add_argument('--queue', default='', metavar='NAME', help='name of the queue to test with (default: any)')
    add_management(parser, 'the name of the node')
    parser.add_argument('--no-heartbeat', action='store_true', help='do not wait for a heartbeat, which takes a second')
    return run_command(parser, check, arguments)


def check(options: argparse.Namespace, output: Output, stop: Stop) -> int:
    """Check each broker. Returns OK when nothing has failed at any of them."""
    failed = False
    limits = {} if options.timeout is None else dict.fromkeys(('connect_timeout', 'rpc_timeout'), options.timeout)
    for url in broker_urls.urls(options, options.urls):
        settings = broker_urls.settings_of(url, name='gamqp check', **limits)
        management = ManagementAPI(options.management, settings) if options.management else None
        report = Report(output, settings.host, options.json)
        try:
            _check(settings, options, management, report)
        except Stopped:
            pass
        except (exceptions.AMQPError, OSError) as exc:
            report.add('connection', 'failed', str(exc), "the broker's log says more")
        failed = failed or report.failed
    return FAILED if failed else OK


def _check(settings: Settings, options: argparse.Namespace, management: ManagementAPI | None, report: Report) -> None:
    check_address(settings, check_name(settings, report), report)
    if settings.secure:
        check_certificate(settings, report)
    blocked = list[str]()
    connection = open_connection(settings, report, blocked.append)
    try:
        check_messages(connection, blocked, options.queue, management, report)
    finally:
        connection.close()
    if not options.no_heartbeat:
        check_heartbeat(settings, report)
