"""The files of the spool: blocks, segments, what cannot be written, what cannot be read."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Iterator
from typing import Any

import inside
import pytest
from flooding import body_of, deliveries, temporary_files

from gamqp.consuming import spool_file
from gamqp.consuming.spool_file import CHUNK, SpoolFile
from gamqp.wire import Content, Decoder

SIZE = 20_000


@pytest.fixture
def errors() -> list[OSError]:
    return []


@pytest.fixture
def files(errors: list[OSError]) -> Iterator[SpoolFile]:
    files = SpoolFile(Content, 10**9, errors.append)
    yield files
    files.close()


def contents(first: int, last: int, size: int = SIZE) -> Any:
    for tag in range(first, last + 1):
        yield from Decoder().feed(deliveries([tag], size=size))


def put(files: SpoolFile, first: int, last: int, size: int = SIZE) -> None:
    for content in contents(first, last, size):
        files.put(content, float(content.delivery_tag))


def taken(files: SpoolFile) -> list[int]:
    """The tags of all that is there, bodies looked at."""
    tags = []
    while files:
        for content in files.take()[0]:
            assert content.body == body_of(content.delivery_tag, inside.size_of(content))
            tags.append(content.delivery_tag)
    return tags


def test_first_in_first_out(files: SpoolFile) -> None:
    put(files, 1, 100)
    assert files.bytes > 100 * SIZE
    assert taken(files) == list(range(1, 101))
    assert files.bytes == 0
    put(files, 101, 150)
    assert taken(files) == list(range(101, 151))


def test_what_is_taken_at_a_time_is_bounded(files: SpoolFile) -> None:
    put(files, 1, 100)
    while files:
        messages, came_at = files.take()
        assert len(messages) * SIZE <= CHUNK + SIZE
        assert messages[0].delivery_tag == came_at


def test_a_large_message_is_read_in_pieces(files: SpoolFile) -> None:
    put(files, 1, 1, 2_000_000)
    steps = 0
    while not (messages := files.take()[0]):
        steps += 1
    assert steps >= 3
    assert messages[0].body == body_of(1, 2_000_000)
    assert not files


def test_the_space_of_what_was_read_is_given_back(files: SpoolFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_file, 'SEGMENT', 1_000_000)
    before = temporary_files()
    tags: list[int] = []
    for first in range(1, 1001, 100):  # 20 MB pass through
        put(files, first, first + 99)
        for _ in range(7):
            tags += [content.delivery_tag for content in files.take()[0]]
        assert len(temporary_files() - before) <= 4
    assert tags + taken(files) == list(range(1, 1001))
    files.close()
    assert temporary_files() == before


def test_without_a_place_for_files_it_is_kept_in_memory(
    files: SpoolFile, errors: list[OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(files, 1, 50)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, 'tempdir', '/nonexistent')
        patch.setattr(spool_file, 'SEGMENT', 0)
        put(files, 51, 100)
        put(files, 101, 102, 1_000_000)
    put(files, 103, 150)
    assert len(errors) == 1
    assert taken(files) == list(range(1, 151))


def test_a_file_that_may_not_grow_further_loses_nothing(files: SpoolFile, errors: list[OSError]) -> None:
    """A write that does a part and then fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    put(files, 1, 30)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, hard))
    try:
        put(files, 31, 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    put(files, 101, 150)
    assert len(errors) == 1
    assert taken(files) == list(range(1, 151))


def test_a_file_that_cannot_be_read_is_an_error(files: SpoolFile) -> None:
    put(files, 1, 50)
    inside.spool_segments(files)[0].file.truncate(100)
    with pytest.raises(OSError, match='shorter'):
        taken(files)


def test_a_damaged_file_is_an_error(files: SpoolFile) -> None:
    put(files, 1, 50)
    inside.spool_segments(files)[0].file.write(b'nonsense')
    with pytest.raises(OSError, match='damaged'):
        taken(files)
