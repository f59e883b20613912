"""The properties that type checkers know are those that go over the wire."""

from __future__ import annotations

from gamqp.basic_message import MessageProperties, PublishProperties
from gamqp.wire.spec import PROPERTY_NAMES


def test_the_properties_that_checkers_know_are_those_of_the_wire() -> None:
    assert set(MessageProperties.__annotations__) == set(PROPERTY_NAMES)
    assert set(PublishProperties.__annotations__) == {*PROPERTY_NAMES, 'headers'}
