"""Makes the errors of gamqp errors of py-amqp too, in a process where both are in use.

Layer 5. kombu, Celery and programs written for them catch ``amqp.NotFound`` and its like by name, and
``kombu.exceptions.ConnectionError`` is py-amqp's. An ``except`` looks at the base classes of what was raised and at
nothing else, so each class of ours gets the class of the same name as a further base, the last one: what is looked up
in it is found in our classes first. Does not belong here: which errors kombu is to recover from.
"""

from __future__ import annotations

import importlib

from .. import exceptions

__all__ = ('derive_from_py_amqp',)


def derive_from_py_amqp() -> None:
    """Give our exception classes py-amqp's of the same name as base classes. Doing it again does nothing."""
    theirs = importlib.import_module('amqp.exceptions')
    if theirs is exceptions:
        return  # gamqp is installed under py-amqp's name
    families = (exceptions.AMQPError, exceptions.MessageNacked)
    ours = [one for one in vars(exceptions).values() if isinstance(one, type) and issubclass(one, families)]
    for own in sorted(ours, key=lambda one: len(one.__mro__)):  # a class after those that it is derived from
        base = getattr(theirs, own.__name__, None)
        if base is not None and not issubclass(own, base):
            own.__bases__ = (*own.__bases__, base)
