"""``gamqp perf``: how much a broker takes and delivers, and how long that takes. The options are PerfTest's.

Layer 5. Does not belong here: producers and consumers (``perf_load``), the run (``perf_run``).
"""

from __future__ import annotations

from .parser import Parser, amount, count, seconds, size
from .perf_churn import KINDS
from .perf_run import perf
from .running import run as run_command

__all__ = ('run',)

EXAMPLE = """\
gamqp perf --time 30 --producers 2 --consumers 4 --confirm 100 --size 1k
gamqp perf --quorum-queue --rate 1000 --time 1m --plot rates.png
gamqp perf --churn connections --producers 10 --time 10"""


def run(arguments: list[str]) -> int:
    """Run the command. Returns the exit code."""
    does = 'Publish and consume as much as can be, or at a rate, and measure it. One process uses one processor.'
    parser = Parser('perf', does, EXAMPLE)
    parser.conflict_handler = 'resolve'  # -q is the prefetch here, as in PerfTest, and --quiet has no letter
    _add_load(parser)
    _add_queues(parser)
    _add_end(parser)
    return run_command(parser, perf, arguments)


def _add_load(parser: Parser) -> None:
    group = parser.add_argument_group('load')
    group.add_argument('-x', '--producers', type=amount, default=1, metavar='N', help='default: 1')
    group.add_argument('-y', '--consumers', type=amount, default=1, metavar='N', help='default: 1')
    group.add_argument(
        '-X', '--producer-channels', type=count, default=1, metavar='N', help='channels of each producer'
    )
    group.add_argument(
        '-Y', '--consumer-channels', type=count, default=1, metavar='N', help='channels of each consumer'
    )
    group.add_argument('-s', '--size', type=size, default=12, metavar='BYTES', help='of a message (default: 12)')
    group.add_argument(
        '--variable-size', action='append', metavar='BYTES:SECONDS', help='so large for so long; several: in turn'
    )
    group.add_argument('--json-body', action='store_true', help='bodies are JSON')
    group.add_argument('-r', '--rate', type=amount, metavar='N', help='messages a second of each producer')
    group.add_argument(
        '--variable-rate', action='append', metavar='N:SECONDS', help='so many a second for so long; several: in turn'
    )
    group.add_argument('-R', '--consumer-rate', type=count, metavar='N', help='messages a second of each consumer')
    group.add_argument('-L', '--consumer-latency', type=seconds, metavar='SECONDS', help='that a message takes (5ms)')
    group.add_argument(
        '-c', '--confirm', type=count, metavar='N', help='ask for confirms; so many may be outstanding for each channel'
    )
    group.add_argument(
        *('-f', '--persistent'),
        nargs='?',
        choices=('persistent',),
        const='persistent',
        help='persistent messages (also -f persistent)',
    )
    group.add_argument('-q', '--qos', type=amount, default=1000, metavar='N', help='prefetch (default: 1000)')
    group.add_argument('-A', '--multi-ack-every', type=count, default=1, metavar='N', help='ack so many at once')
    group.add_argument('-a', '--autoack', action='store_true', help='no acks')
    group.add_argument(
        '--churn', choices=KINDS, help='no messages: make and end these, in as many greenlets as producers'
    )


def _add_queues(parser: Parser) -> None:
    group = parser.add_argument_group('queues')
    group.add_argument('-u', '--queue', metavar='NAME', help='default: a new one')
    group.add_argument(
        '--queue-pattern', metavar='NAME', help='several, such as perf-%%d: consumers and producers in turn'
    )
    group.add_argument('--queue-pattern-from', type=amount, default=1, metavar='N', help='default: 1')
    group.add_argument('--queue-pattern-to', type=amount, default=1, metavar='N', help='default: 1')
    kind = group.add_mutually_exclusive_group()
    kind.add_argument('--quorum-queue', action='store_true', help='quorum queues')
    kind.add_argument('--stream-queue', action='store_true', help='streams')
    group.add_argument('--stream-consumer-offset', default='next', metavar='WHERE', help='default: next')
    group.add_argument('--queue-argument', action='append', metavar='NAME=VALUE', help='such as x-max-length=1000')
    group.add_argument('-p', '--predeclared', action='store_true', help='they are there already')
    group.add_argument('--keep', action='store_true', help='leave the queues that were made')
    group.add_argument('-e', '--exchange', metavar='NAME', help='publish by this exchange instead of the default one')
    group.add_argument(
        '-t', '--exchange-type', default='direct', metavar='TYPE', help='of the exchange (default: direct)'
    )
    group.add_argument('-k', '--key', metavar='KEY', help='the routing key (default: the name of the queue)')


def _add_end(parser: Parser) -> None:
    group = parser.add_argument_group('end and output')
    group.add_argument('-z', '--time', type=seconds, metavar='SECONDS', help='run for so long')
    group.add_argument('-C', '--pmessages', type=count, metavar='N', help='messages of each producer channel')
    group.add_argument('-D', '--cmessages', type=count, metavar='N', help='messages of each consumer channel')
    group.add_argument(
        '--exit-when', choices=('empty', 'idle'), help='end when the queues are empty, or nothing has come for a while'
    )
    group.add_argument('-i', '--interval', type=seconds, default=1.0, metavar='SECONDS', help='of the live line (1)')
    group.add_argument('--json', action='store_true', help='the result as one line of JSON, with all spans')
    group.add_argument('--plot', metavar='FILE', help='draw rates and latencies into a PNG, PDF or SVG')
    group.add_argument(
        '--hdr', metavar='PREFIX', help='write all percentiles for the tools of HdrHistogram: PREFIX.latency.hgrm …'
    )
