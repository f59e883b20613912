"""A folder of messages, one file each: what ``consume --save`` and ``tap --save`` write and ``replay`` reads.

Layer 5. A file is one envelope, named by its number, so that the order of the names is that of the messages. It is
there as a whole or not at all. Does not belong here: what an envelope holds.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .envelopes import Envelope, parsed
from .exit_codes import CommandFailed

__all__ = ('FolderWriter', 'read_folder')

_NAME = re.compile(r'(\d{8,})\.json')


class FolderWriter:
    """Writes behind what the folder holds already. Raises OSError where the folder cannot be made or written."""

    def __init__(self, path: str) -> None:
        self._folder = Path(path)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._number = max((number for number, _ in _numbered(self._folder)), default=0)

    def write(self, envelope: Mapping[str, Any], safely: bool) -> None:
        """Write a message. safely: it has reached the disk when this returns."""
        self._number += 1
        final = self._folder / f'{self._number:08}.json'
        part = final.with_suffix('.part')
        with open(part, 'w', encoding='utf-8') as file:
            json.dump(envelope, file, ensure_ascii=False)
            file.write('\n')
            if safely:
                file.flush()
                os.fsync(file.fileno())
        part.rename(final)


def read_folder(path: str) -> Iterator[Envelope]:
    """The messages of a folder, in order. Raises CommandFailed for a file that is no message, and OSError."""
    for _, file in sorted(_numbered(Path(path))):
        try:
            envelope = parsed(file.read_bytes())
        except ValueError as exc:
            raise CommandFailed(f'{file}: {exc}') from None
        yield envelope


def _numbered(folder: Path) -> Iterator[tuple[int, Path]]:
    for file in folder.iterdir():
        match = _NAME.fullmatch(file.name)
        if match is not None:
            yield int(match[1]), file
