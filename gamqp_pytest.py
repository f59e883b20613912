"""The pytest plugin of gamqp: a broker for each test that asks for one. ::

    def test_orders(amqp_broker):
        place_order(amqp_broker.url)
        amqp_broker.assert_published('orders', count=1)

Installed with gamqp (entry point ``pytest11``). Each test has a broker of its own, also with pytest-xdist.

* ``amqp_broker``: a started ``gamqp.testing.Broker``; ``@pytest.mark.amqp_broker(like='rabbitmq-3.10')`` gives its
  arguments.
* ``amqp_url``: its URL.
* ``rabbitmq``: a virtual host of a real RabbitMQ, a ``gamqp.testing.rabbitmq.RabbitMQ``, with the same ways to see and
  to assert. The broker is the one in ``AMQP_URL``, which needs the management plugin (``AMQP_MANAGEMENT_URL``, or port
  15672 of the same host), else a RabbitMQ that is installed, which is started once for the run. Without either the test
  is skipped.
* ``@pytest.mark.amqp_brokers('testing', 'rabbitmq')``: the test runs with each, which ``amqp_broker`` then is.
* What a test leaves open there (connections, and the messages that they hold) is reported at its end as a
  ``BrokerLeakWarning``, or fails the test: ``amqp_leaks = warn | fail | ignore`` in the configuration of pytest.

pytest imports this module in every project that has gamqp installed. So it is no part of the package ``gamqp``, and
imports that only when a test asks for a fixture. Does not belong here: the broker.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gamqp.testing import Broker
    from gamqp.testing.rabbitmq import RabbitMQ

__all__ = (
    'BrokerLeakWarning',
    'amqp_broker',
    'amqp_url',
    'pytest_addoption',
    'pytest_configure',
    'pytest_generate_tests',
    'rabbitmq',
)

_KINDS = ('testing', 'rabbitmq')

_LEAKS = ('warn', 'fail', 'ignore')


class BrokerLeakWarning(UserWarning):
    """A test has left connections of its broker open."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The settings of the plugin."""
    parser.addini(
        'amqp_like', "what amqp_broker behaves like: 'rabbitmq-4.3' or 'rabbitmq-3.10'", default='rabbitmq-4.3'
    )
    parser.addini('amqp_leaks', 'connections that a test leaves open: warn, fail or ignore', default='warn')


def pytest_configure(config: pytest.Config) -> None:
    """Check the settings, and register the marker."""
    config.addinivalue_line('markers', 'amqp_broker(**arguments): the arguments of gamqp.testing.Broker for this test')
    config.addinivalue_line('markers', "amqp_brokers('testing', 'rabbitmq'): run the test with each of them")
    if config.getini('amqp_leaks') not in _LEAKS:
        raise pytest.UsageError(f'amqp_leaks: one of {", ".join(_LEAKS)} is expected')


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that is marked so with each kind of broker."""
    mark = metafunc.definition.get_closest_marker('amqp_brokers')
    if mark is not None and 'amqp_broker' in metafunc.fixturenames:
        for kind in mark.args:
            if kind not in _KINDS:
                raise pytest.UsageError(f'amqp_brokers: {" or ".join(_KINDS)} is expected, not {kind!r}')
        metafunc.parametrize('amqp_broker', mark.args, indirect=True)


@pytest.fixture
def amqp_broker(request: pytest.FixtureRequest) -> Iterator[Broker | RabbitMQ]:
    """A broker of the test's own, started, see ``gamqp.testing.Broker``; or ``rabbitmq``, see ``amqp_brokers``."""
    if getattr(request, 'param', 'testing') == 'rabbitmq':
        yield request.getfixturevalue('rabbitmq')
        return
    from gamqp.testing import Broker

    arguments = {'like': request.config.getini('amqp_like')}
    for mark in reversed(list(request.node.iter_markers('amqp_broker'))):
        arguments.update(mark.kwargs)
    with Broker(**arguments) as broker:
        yield broker
        leaks = broker.leaks()
    policy = request.config.getini('amqp_leaks')
    if leaks and policy != 'ignore':
        text = '\n'.join(['the test has left open:', *leaks])
        if policy == 'fail':
            pytest.fail(text, pytrace=False)
        warnings.warn(text, BrokerLeakWarning, stacklevel=1)


@pytest.fixture
def amqp_url(amqp_broker: Broker | RabbitMQ) -> str:
    """The URL of ``amqp_broker``."""
    return amqp_broker.url


@pytest.fixture(scope='session')
def _rabbitmq_server() -> Iterator[tuple[str, Any]]:
    """The URL of a real broker, and its management plugin, None: where it usually is."""
    if os.environ.get('AMQP_URL'):
        yield os.environ['AMQP_URL'], None
        return
    from gamqp.testing.rabbitmq_node import RabbitMQNode, installed_server

    if installed_server() is None:
        pytest.skip('no RabbitMQ: AMQP_URL is not set, and none is installed')
    node = RabbitMQNode()
    yield node.url, node.management
    node.stop()


@pytest.fixture
def rabbitmq(_rabbitmq_server: tuple[str, Any]) -> Iterator[RabbitMQ]:
    """A virtual host of the test's own on a real RabbitMQ, see ``gamqp.testing.rabbitmq.RabbitMQ``."""
    from gamqp.testing.rabbitmq import RabbitMQ

    with RabbitMQ(*_rabbitmq_server) as broker:
        yield broker
