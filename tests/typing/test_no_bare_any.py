"""What programs call says its types: no ``Any`` by itself in a public signature.

Values of headers and arguments may be of any type; they stand in a dict.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import gamqp
from gamqp.pool.pool import Lease

BARE = {'Any', 'Any | None', 'None | Any', 'Optional[Any]'}

PUBLIC = [getattr(gamqp, name) for name in gamqp.__all__] + [Lease]


def callables_of(one: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Each public function of a public name, with the name that programs call it by."""
    if inspect.isfunction(one):
        yield one.__name__, one
    elif inspect.isclass(one):
        for name, member in inspect.getmembers_static(one):
            if isinstance(member, property):
                member = member.fget
            member = getattr(member, '__func__', member)
            is_ours = inspect.isfunction(member) and member.__module__.startswith('gamqp.')
            if is_ours and (not name.startswith('_') or name == '__init__'):
                yield f'{one.__name__}.{name}', member


@pytest.mark.parametrize('one', PUBLIC, ids=lambda one: getattr(one, '__name__', str(one)))
def test_no_public_signature_has_a_bare_any(one: Any) -> None:
    for name, function in callables_of(one):
        bare = [what for what, annotation in function.__annotations__.items() if annotation in BARE]
        assert not bare, f'{name}: {", ".join(bare)}'


def test_the_signatures_are_looked_at() -> None:
    names = {name for one in PUBLIC for name, _ in callables_of(one)}
    assert {'connect', 'Channel.publish', 'Connection.drain', 'Connection.is_open', 'Consumer.cancel'} <= names
    assert len(names) > 150
