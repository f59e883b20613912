"""The pytest plugin of gamqp: a broker for each test that asks for one. ::

    def test_orders(amqp_broker):
        place_order(amqp_broker.url)
        amqp_broker.assert_published('orders', count=1)

Installed with gamqp (entry point ``pytest11``). Each test has a broker of its own, also with pytest-xdist.

* ``amqp_broker``: a started ``gamqp.testing.Broker``; ``@pytest.mark.amqp_broker(like='rabbitmq-3.10')`` gives its
  arguments.
* ``amqp_url``: its URL.
* What a test leaves open there (connections, and the messages that they hold) is reported at its end as a
  ``BrokerLeakWarning``, or fails the test: ``amqp_leaks = warn | fail | ignore`` in the configuration of pytest.

pytest imports this module in every project that has gamqp installed. So it is no part of the package ``gamqp``, and
imports that only when a test asks for a fixture. Does not belong here: the broker.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gamqp.testing import Broker

__all__ = ('BrokerLeakWarning', 'amqp_broker', 'amqp_url', 'pytest_addoption', 'pytest_configure')

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
    if config.getini('amqp_leaks') not in _LEAKS:
        raise pytest.UsageError(f'amqp_leaks: one of {", ".join(_LEAKS)} is expected')


@pytest.fixture
def amqp_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A broker of the test's own, started, see ``gamqp.testing.Broker``."""
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
def amqp_url(amqp_broker: Broker) -> str:
    """The URL of ``amqp_broker``."""
    return amqp_broker.url
