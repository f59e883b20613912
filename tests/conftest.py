"""What every test gets: a hard time limit, a leak check, a header that says what is under test."""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import platform
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import greenlets
import pytest
import same_tree

import gamqp
from gamqp import wire
from gamqp.green import backend

if TYPE_CHECKING:
    from certificates import Certificates
    from script import ScriptedBroker
    from tls_node import Secure
    from tls_proxy import Front

# Seconds after which a test is stuck, and its process is ended with all stacks. Only a test that fails ever takes so
# long: it is far above what the slowest takes on a machine that does much else.
LIMIT = 600

ROOT = Path(__file__).parents[1]


def pytest_report_header() -> list[str]:
    build = 'compiled' if wire.COMPILED else 'pure'
    brokers = [f'RabbitMQ {entry["version"]}' for entry in _entries()] or ['no broker']
    return [
        f'gamqp {gamqp.__version__}, wire {build} ({os.path.dirname(wire.__file__)}), '
        f'{backend().NAME}, {", ".join(brokers)}, Python {platform.python_version()}'
    ]


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, 'workerinput'):  # not again in each worker: what is edited during a run is for the next
        _check_tree()
        # A shell starts what is to run in the background with SIGINT ignored, and all that is started from there
        # inherits that. There are tests that interrupt programs.
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line('markers', 'limit(seconds): a longer hard time limit than 600 seconds')
    config.addinivalue_line('markers', 'leaky(reason): leaves something alive on purpose; no leak check')
    config.addinivalue_line('markers', 'real_seconds: needs the clock to go at its pace; runs last, one at a time')
    config.addinivalue_line('markers', 'any_broker: the same with each broker; runs with one where there are several')
    config.addinivalue_line('markers', 'slow: takes long; not in the default run of ./tests/run, see --all there')


def _check_tree() -> None:
    """End the run if another gamqp is imported than that of this tree: its results would be somebody else's."""
    imported, sources = Path(gamqp.__file__).parent.resolve(), ROOT / 'gamqp'
    found = same_tree.difference(imported, sources)
    if found is not None:
        raise pytest.UsageError(
            f'these tests are of {sources}, and Python imports {imported}, where {found}: '
            'use ./tests/run, or install this tree again (CONTRIBUTING.rst)'
        )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of those that run alone there are few: a file that is not named and says nothing of them need not be read."""
    if os.environ.get('GAMQP_TEST_PART') != 'alone' or collection_path.suffix != '.py':
        return None
    named = {Path(argument.partition('::')[0]).resolve() for argument in config.args}
    if collection_path.resolve() in named or 'real_seconds' in collection_path.read_text(encoding='utf-8'):
        return None
    return True


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what tests/run has left out, and put what needs the clock at the end."""
    part = os.environ.get('GAMQP_TEST_PART')  # 'together', 'alone', or everything
    # Who names a test, or the marker, means it.
    wanted = any('::' in argument for argument in config.args) or 'slow' in config.option.markexpr
    no_slow = os.environ.get('GAMQP_TEST_SLOW') == '0' and not wanted
    chosen: tuple[list[pytest.Item], list[pytest.Item]] = ([], [])
    left_out = []
    for item in items:
        alone = item.get_closest_marker('real_seconds') is not None
        if (no_slow and item.get_closest_marker('slow')) or (part and alone != (part == 'alone')):
            left_out.append(item)
        else:
            chosen[alone].append(item)
    items[:] = [*chosen[False], *chosen[True]]
    if left_out:
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    marker = item.get_closest_marker('limit')
    seconds = max(LIMIT, marker.args[0] if marker else 0)
    # A thread of the C library: it works when the hub, and even the interpreter lock, is held.
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is there before the first test is no leak: the census and the collector need not look at it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a greenlet or a socket behind."""
    # The lower layers know neither greenlets nor sockets; a test of the layers holds them to it. Nor do the tests of
    # layers, names and documents, which are many and lie beside this file.
    quiet = request.path.parent.name in ('wire', 'state', 'typing') or request.path.parent == Path(__file__).parent
    if quiet or request.node.get_closest_marker('leaky'):
        yield
        return
    census = greenlets.Census()
    yield
    leaked = census.leaked()
    if leaked:
        pytest.fail(f'left alive:\n{leaked}', pytrace=False)


# -- brokers ---------------------------------------------------------------------


@pytest.fixture
def peer(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A broker that the test plays. PEER in a module: its arguments."""
    from script import ScriptedBroker

    with ScriptedBroker(**getattr(request.module, 'PEER', {})) as peer:
        yield peer


def _entries() -> list[dict[str, Any]]:
    """The nodes that tests/run has started, as it tells of them."""
    entries: list[dict[str, Any]] = json.loads(os.environ.get('GAMQP_TEST_NODES') or '[]')
    return entries


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``rabbit`` runs once per broker, or once in all where it is marked so."""
    if 'rabbit' in metafunc.fixturenames:
        labels = [entry['label'] for entry in _entries()] or ['none']
        # What is so whatever the broker's version takes its time with one of them, the newest.
        one = any(mark.name == 'any_broker' for mark in metafunc.definition.iter_markers())
        numbers = range(len(labels))[-1 if one else 0 :]
        metafunc.parametrize('rabbit', numbers, ids=labels[numbers.start :], indirect=True, scope='session')


class Rabbit:
    """One real broker, with a virtual host of this test process."""

    def __init__(self, entry: dict[str, Any]) -> None:
        from node import Node

        self.node = Node.attach(entry)
        self.label: str = entry['label']
        self.version: str = entry['version'] or ''
        self.managed = entry.get('management') is not None
        self.vhost = '/'
        if self.managed:
            self.vhost = f'gamqp.{os.getpid()}'
            self.node.add_vhost(self.vhost)
        self.url: str = self.node.url(self.vhost)

    @property
    def major(self) -> int:
        return int(self.version.split('.')[0] or 0)

    def connect(self, **arguments: Any) -> gamqp.Connection:
        return gamqp.connect(self.url, **arguments)

    def close(self) -> None:
        if self.managed:
            self.node.delete_vhost(self.vhost)


@pytest.fixture(scope='session')
def _rabbits() -> Iterator[dict[int, Rabbit]]:
    rabbits: dict[int, Rabbit] = {}
    yield rabbits
    for rabbit in rabbits.values():
        rabbit.close()


@pytest.fixture(scope='session')
def rabbit(request: pytest.FixtureRequest, _rabbits: dict[int, Rabbit]) -> Rabbit:
    entries = _entries()
    if not entries:
        pytest.skip('no RabbitMQ: run ./tests/run, which starts one')
    if request.param not in _rabbits:
        _rabbits[request.param] = Rabbit(entries[request.param])
    return _rabbits[request.param]


@pytest.fixture
def connection(rabbit: Rabbit) -> Iterator[gamqp.Connection]:
    """An open connection to the broker under test, closed afterwards."""
    connection = rabbit.connect()
    yield connection
    connection.close()


@pytest.fixture
def channel(connection: gamqp.Connection) -> gamqp.Channel:
    return connection.channel()


@pytest.fixture
def queue(channel: gamqp.Channel) -> str:
    """An empty exclusive queue of the ``channel`` fixture's connection."""
    return channel.queue_declare(exclusive=True).queue


@pytest.fixture
def stock(rabbit: Rabbit) -> Iterator[str]:
    """A durable queue that any connection may use."""
    from broker_tools import shared_queue

    with rabbit.connect() as connection:
        channel = connection.channel()
        queue = shared_queue(channel)
        yield queue
        channel.queue_delete(queue)


# -- TLS -------------------------------------------------------------------------


@pytest.fixture(scope='session')
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, and certificates of servers and clients, as files."""
    from certificates import Certificates

    return Certificates(tmp_path_factory.mktemp('certificates'))


@pytest.fixture
def front(peer: ScriptedBroker, certificates: Certificates) -> Iterator[Front]:
    """TLS in front of the scripted peer."""
    from tls_proxy import Front

    with Front(peer.port, certificates.server) as front:
        yield front


@pytest.fixture(scope='session')
def secure(rabbit: Rabbit, certificates: Certificates) -> Iterator[Secure]:
    """A real broker with a TLS listener; one per version, for all tests that want it."""
    from tls_node import secure_node

    if rabbit.label == 'external':
        pytest.skip('the broker is not ours')
    with secure_node(rabbit.label, certificates) as secure:
        yield secure
