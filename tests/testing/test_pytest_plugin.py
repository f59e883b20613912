"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
    import pytest
    from gamqp import testing
    from gamqp_pytest import BrokerLeakWarning
    import amqp

    left = []

    def test_each_has_its_own(amqp_broker, amqp_url):
        assert amqp_url == amqp_broker.url and amqp_broker.like == 'rabbitmq-3.10'
        with amqp.Connection(f'127.0.0.1:{amqp_broker.port}') as connection:
            connection.channel().queue_declare('q')
        left.append(amqp_broker)

    def test_the_next_has_another(amqp_broker):
        assert amqp_broker is not left[0] and not amqp_broker.queues()

    @pytest.mark.amqp_broker(like='rabbitmq-4.3', users={'bob': 'pw'})
    def test_marked(amqp_broker):
        assert amqp_broker.like == 'rabbitmq-4.3' and 'bob:pw' in amqp_broker.url

    def test_leaves_a_connection(amqp_broker):
        connection = amqp.Connection(f'127.0.0.1:{amqp_broker.port}')
        connection.connect()
        left.append(connection)
        channel = connection.channel()
        channel.queue_declare('q', exclusive=True)
        amqp_broker.publish('', 'q', b'x')
        channel.basic_get('q')
"""


def pytest_in(folder: Path, *options: str, **variables: str) -> str:
    # With -p, and not by the entry point: the tests may run on a tree that is not installed.
    command = [sys.executable, '-m', 'pytest', '-p', 'gamqp_pytest', '-p', 'no:cacheprovider', '-q']
    command += ['--disable-plugin-autoload', *options]
    environment = {**os.environ, **variables}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout


def run(folder: Path, leaks: str) -> str:
    (folder / 'test_one.py').write_text(textwrap.dedent(PROGRAM))
    (folder / 'pytest.ini').write_text(f'[pytest]\namqp_like = rabbitmq-3.10\namqp_leaks = {leaks}\n')
    return pytest_in(folder)


def test_it_costs_nothing_where_it_is_not_used(tmp_path: Path) -> None:
    (tmp_path / 'test_one.py').write_text(
        "import sys\n\ndef test():\n    assert 'gamqp_pytest' in sys.modules and 'gamqp' not in sys.modules\n"
    )
    assert '1 passed in' in pytest_in(tmp_path, '-W', 'error')


def test_fixtures_marker_and_leaks(tmp_path: Path) -> None:
    output = run(tmp_path, 'warn')
    assert '4 passed, 1 warning' in output
    assert 'BrokerLeakWarning: the test has left open:' in output and 'is open, with 1 unacked messages' in output


def test_leaks_may_fail_the_test(tmp_path: Path) -> None:
    output = run(tmp_path, 'fail')
    assert '4 passed, 1 error' in output and 'ERROR test_one.py::test_leaves_a_connection' in output


def test_leaks_may_be_ignored(tmp_path: Path) -> None:
    assert '4 passed in' in run(tmp_path, 'ignore')


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    assert '4 passed' not in run(tmp_path, 'sometimes')


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    pages = Path(__file__).parents[2] / 'docs'
    (tmp_path / 'test_orders.py').write_text((pages / 'testing_without_rabbitmq.py').read_text(encoding='utf-8'))
    (tmp_path / 'pytest.ini').write_text('[pytest]\namqp_leaks = fail\n')
    output = pytest_in(tmp_path)
    assert '5 passed' in output, output


BOTH = """
    import gamqp
    import pytest

    @pytest.mark.amqp_brokers('testing', 'rabbitmq')
    def test_with_each(amqp_broker, amqp_url):
        with gamqp.connect(amqp_url) as connection:
            connection.channel().queue_declare('q', durable=True, auto_delete=False)
        assert len(amqp_broker.queue('q')) == 0

    def test_with_a_real_one(rabbitmq):
        with pytest.raises(LookupError):
            rabbitmq.queue('q')
"""


@pytest.mark.any_broker
def test_the_same_test_with_a_real_broker(tmp_path: Path, rabbit: Any) -> None:
    (tmp_path / 'test_one.py').write_text(textwrap.dedent(BOTH))
    url, management = rabbit.node.url(), rabbit.node.management
    assert '3 passed in' in pytest_in(tmp_path, AMQP_URL=url, AMQP_MANAGEMENT_URL=management)


@pytest.mark.slow
@pytest.mark.any_broker
def test_a_node_is_started_where_no_broker_is_named(tmp_path: Path, rabbit: Any) -> None:
    (tmp_path / 'test_one.py').write_text(textwrap.dedent(BOTH))
    assert '3 passed in' in pytest_in(tmp_path, AMQP_URL='')


def test_without_rabbitmq_the_test_is_skipped(tmp_path: Path) -> None:
    (tmp_path / 'test_one.py').write_text(textwrap.dedent(BOTH))
    (tmp_path / 'conftest.py').write_text(
        'from gamqp.testing import rabbitmq_node\nrabbitmq_node.installed_server = lambda: None\n'
    )
    assert '1 passed, 2 skipped in' in pytest_in(tmp_path, AMQP_URL='')
