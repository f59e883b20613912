"""The commands that a page of the documentation shows, with their output: run again, and compared or written anew.

    python tests/cli/shown_commands.py docs/command_line.rst      # writes the outputs anew, with the broker in AMQP_URL

A console block is a line ``$ command`` and what it prints, or several. All commands of a page run in its order, in
one empty folder, by one shell each. Numbers differ from run to run and are not compared. Standard library only.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ('comparable', 'output_of', 'shown')

BLOCK = re.compile(r'^\.\. code-block:: console\n\n((?:    .*\n|\n)+)', re.M)
PATIENCE = 120


def shown(text: str) -> Iterator[tuple[str, str]]:
    """(command, output) of each command of a page, without the indentation."""
    for block in BLOCK.findall(text):
        lines = [line[4:] for line in block.rstrip('\n').split('\n')]
        for part in re.split(r'^\$ ', '\n'.join(lines), flags=re.M)[1:]:
            command, output = _taken_apart(part)
            yield command, output


def _taken_apart(part: str) -> tuple[str, str]:
    """A command may go on in the next line: behind a backslash, or indented like the text behind the '$'."""
    match = re.match(r'(?:.*\\\n)*.*(?:\n  \S.*)*', part)
    assert match is not None
    return match[0], part[match.end() :].strip('\n')


def output_of(command: str, folder: str, url: str) -> str:
    """What a shell prints of it, stdout and stderr together."""
    python = f'{shlex.quote(sys.executable)} -m gamqp'
    prelude = f'gamqp() {{ {python} "$@"; }}; export -f gamqp\n'
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, 'PYTHONPATH': path, 'AMQP_URL': url, 'COLUMNS': '100', 'NO_COLOR': '1'}
    done = subprocess.run(
        ['bash', '-c', prelude + command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
    )
    return done.stdout.decode()


def comparable(text: str) -> str:
    """What must be the same each time: no numbers, no names of hosts, no widths of columns."""
    text = re.sub(r'cluster \S+', 'cluster X', text)
    text = re.sub(r'^(ok +node) .*', r'\1', text, flags=re.M)  # a name or a number, as it is to be had
    text = re.sub(r'\d+(?:[.,]\d+)*', '0', text)
    return re.sub(r'[ -]{2,}', ' ', text).strip()


def write(page: Path, url: str) -> None:
    text = page.read_text(encoding='utf-8')
    with tempfile.TemporaryDirectory() as folder:
        for command, output in shown(text):
            new = output_of(command, folder, url).rstrip('\n')
            new = re.sub(r'cluster (?!gamqp\.testing)\S+', 'cluster rabbit@broker', new)
            new = re.sub(r'^(ok +node +)\S+@\S+$', r'\1rabbit@broker', new, flags=re.M)
            new = re.sub(r'127\.0\.0\.1:\d+', '127.0.0.1:5672', new)
            new = new.replace(repr(unquote(urlsplit(url).path[1:])), repr('/'))
            before, after = (_indented(f'$ {command}', one) for one in (output, new))
            assert before in text, f'not found as it stands: {command}'
            text = text.replace(before, after, 1)
    page.write_text(text, encoding='utf-8')


def _indented(command: str, output: str) -> str:
    lines = [*command.split('\n'), *(output.split('\n') if output else [])]
    return '\n'.join(f'    {line}'.rstrip() for line in lines) + '\n'


if __name__ == '__main__':
    write(Path(sys.argv[1]), os.environ['AMQP_URL'])
