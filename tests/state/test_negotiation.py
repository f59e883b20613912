"""The rules of tune: whose number wins."""

from __future__ import annotations

from typing import Any

import pytest

from gamqp import exceptions
from gamqp.state import negotiation


@pytest.mark.parametrize(
    ('ours', 'theirs', 'agreed'),
    [(10, 2047, 10), (2047, 10, 10), (0, 5, 5), (5, 0, 5), (0, 0, 65535), (65535, 65535, 65535)],
)
def test_channel_max(ours: int, theirs: int, agreed: int) -> None:
    assert negotiation.channel_max(ours, theirs) == agreed


@pytest.mark.parametrize(
    ('ours', 'theirs', 'agreed'),
    [(8192, 131072, 8192), (131072, 8192, 8192), (0, 4096, 4096), (4096, 0, 4096), (0, 0, 0)],
)
def test_frame_max(ours: int, theirs: int, agreed: int) -> None:
    assert negotiation.frame_max(ours, theirs) == agreed


@pytest.mark.parametrize(('ours', 'theirs'), [(4095, 0), (131072, 4095), (0, 1)])
def test_frame_max_below_the_minimum_is_refused(ours: int, theirs: int) -> None:
    with pytest.raises(exceptions.NotAllowed, match=f'below the minimum of 4096 .ours {ours}, theirs {theirs}'):
        negotiation.frame_max(ours, theirs)


@pytest.mark.parametrize(
    ('product', 'version', 'numbers', 'least'),
    [
        ('RabbitMQ', '3.10.8', (3, 10), 4096),
        ('RabbitMQ', '4.0.9', (4, 0), 4096),
        ('RabbitMQ', '4.1.0', (4, 1), 8192),
        ('RabbitMQ', '4.3.0-rc.1', (4, 3), 8192),
        ('RabbitMQ', '10.0', (10, 0), 8192),
        ('RabbitMQ', 'unknown', (), 4096),
        ('RabbitMQ', None, (), 4096),
        ('Another', '4.3.0', (), 4096),
        (None, None, (), 4096),
    ],
)
def test_what_the_servers_version_says_of_frames(product: Any, version: Any, numbers: Any, least: int) -> None:
    properties = {'product': product, 'version': version}
    assert negotiation.rabbitmq_version(properties) == numbers
    assert negotiation.smallest_frame(properties) == least
    with pytest.raises(exceptions.NotAllowed, match=f'{least - 1} is below the minimum of {least}'):
        negotiation.frame_max(least - 1, 131072, least)
    assert negotiation.frame_max(least, 131072, least) == least


@pytest.mark.parametrize(
    ('ours', 'theirs', 'agreed'),
    [
        (None, 60, 60),
        (None, 0, 0),
        (0, 60, 0),
        (10, 60, 10),
        (60, 10, 10),
        (10, 0, 10),
        (0.3, 60, 1),
        (0.3, 0, 1),
        (2.6, 60, 3),
    ],
)
def test_heartbeat(ours: Any, theirs: int, agreed: int) -> None:
    result = negotiation.heartbeat(ours, theirs)
    assert result == agreed
    assert isinstance(result, int)


@pytest.mark.parametrize('ours', [-1, -0.1, float('inf'), float('-inf'), float('nan')])
def test_a_heartbeat_that_cannot_be_meant(ours: float) -> None:
    for theirs in (0, 60):
        with pytest.raises(ValueError, match='heartbeat'):
            negotiation.heartbeat(ours, theirs)
