"""What type checkers know of properties and arguments is what there is."""

from __future__ import annotations

import inspect
import typing

from gamqp import Connection
from gamqp.basic_message import MessageProperties, PublishProperties
from gamqp.connection.typed_keywords import ConnectionArguments
from gamqp.wire.spec import PROPERTY_NAMES


def test_the_properties_that_checkers_know_are_those_of_the_wire() -> None:
    assert set(MessageProperties.__annotations__) == set(PROPERTY_NAMES)
    assert set(PublishProperties.__annotations__) == {*PROPERTY_NAMES, 'headers'}


def test_the_arguments_that_checkers_know_are_those_of_connection() -> None:
    parameters = dict(inspect.signature(Connection.__init__).parameters)
    del parameters['self'], parameters['others']
    for name, parameter in parameters.items():
        assert _plain(ConnectionArguments.__annotations__[name]) == _plain(parameter.annotation), name
    assert len(parameters) == len(ConnectionArguments.__annotations__)


def _plain(annotation: object) -> str:
    text = annotation.__forward_arg__ if isinstance(annotation, typing.ForwardRef) else str(annotation)
    return text.replace('connection_settings.', '')
