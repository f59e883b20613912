"""What ``testing.Broker`` answers is what RabbitMQ answers: frame by frame, modulo names and time.

RabbitMQ's answers are recorded, see ``record_scenes.py``; with ``--all`` they are asked for again.
"""

from __future__ import annotations

import functools
import json
import uuid
from typing import Any

import pytest
from conversations import BrokerTalker
from record_scenes import DATA, answers, play
from scenes import all_scenes

from gamqp import testing

SCENES = all_scenes()


@functools.cache
def recorded(like: str) -> dict[str, Any]:
    return dict(json.loads((DATA / f'scenes-{like}.json').read_text(encoding='utf-8')))


def played(like: str, name: str) -> Any:
    with testing.Broker(like) as broker:
        return play(BrokerTalker(broker, f'scene-{uuid.uuid4().hex[:8]}-'), SCENES[name])


@pytest.mark.parametrize('name', SCENES)
def test_answers_are_those_of_rabbitmq(like: str, name: str) -> None:
    expected = recorded(like)
    assert name in expected, 'record this scene first'
    assert played(like, name) == expected[name]


def test_every_record_has_its_scene(like: str) -> None:
    assert set(recorded(like)) == set(SCENES)


@pytest.mark.slow
def test_rabbitmq_still_answers_so(rabbit: Any) -> None:
    expected = recorded(rabbit.label)
    differing = list(SCENES)
    for quiet in (0.3, 1.0, 4.0):  # on a busy machine an answer may come late: once more, and slower
        found = answers(rabbit.url, differing, quiet)
        differing = [name for name in differing if found[name] != expected[name]]
        if not differing:
            break
    assert not differing
