"""Names: everything that means the same is the same str behind the entry, and what cannot be meant is refused."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from gamqp import exceptions
from gamqp.state.name_arguments import name


class Text(str):
    """Has a hash and an equality of its own, as what programs derive may have."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return False

    def __str__(self) -> str:
        return 'something else'


class Queues(str, enum.Enum):
    JOBS = 'jobs é'


class Octets(bytes):
    pass


@pytest.mark.parametrize(
    'value',
    [
        'jobs é',
        Text('jobs é'),
        Queues.JOBS,
        'jobs é'.encode(),
        Octets('jobs é'.encode()),
        bytearray('jobs é'.encode()),
        memoryview('jobs é'.encode()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_all_that_means_the_same_is_one_exact_str(value: Any) -> None:
    assert type(name('queue', value)) is str
    assert name('queue', value) == 'jobs é'


@pytest.mark.parametrize('value', [None, '', b'', Text(), Octets(), bytearray()])
def test_nothing_is_the_empty_name(value: Any) -> None:
    assert name('queue', value) == ''


def test_the_usual_str_is_passed_through() -> None:
    usual = 'jobs'
    assert name('queue', usual) is usual


@pytest.mark.parametrize('value', [b'\xff', Octets(b'a\xc3'), bytearray(b'\xed\xa0\x80')])
def test_bytes_that_are_not_utf8_are_refused(value: Any) -> None:
    with pytest.raises(exceptions.EncodeError, match='routing_key: bytes that are not UTF-8'):
        name('routing_key', value)


@pytest.mark.parametrize('value', [1, 1.5, True, ['jobs'], object()])
def test_what_is_no_name_is_refused(value: Any) -> None:
    with pytest.raises(exceptions.EncodeError, match=f'queue: expected str or bytes, got {type(value).__name__}'):
        name('queue', value)


def test_a_released_memoryview_is_refused() -> None:
    view = memoryview(b'jobs')
    view.release()
    with pytest.raises(exceptions.EncodeError, match='queue: '):
        name('queue', view)
