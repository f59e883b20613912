"""docs/testing.rst: fixtures for a broker at AMQP_URL."""

import os

import pytest

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')


@pytest.fixture
def connection():
    with gamqp.connect(URL) as connection:
        yield connection


@pytest.fixture
def channel(connection):
    return connection.channel()


@pytest.fixture
def queue(channel):
    return channel.queue_declare(exclusive=True, auto_delete=False).queue
