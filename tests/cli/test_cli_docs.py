"""The page *Command line* shows what the commands print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shown_commands import comparable, output_of, shown

from gamqp import __main__

PAGE = (Path(__file__).parents[2] / 'docs' / 'command_line.rst').read_text(encoding='utf-8')


@pytest.mark.any_broker
@pytest.mark.slow
def test_the_commands_print_what_is_shown(rabbit: Any, tmp_path: Path) -> None:
    """In the order of the page: later commands find what earlier ones have made."""
    rabbit.node.add_vhost('command.line')
    url = rabbit.node.url('command.line')
    try:
        for command, output in shown(PAGE):
            printed = output_of(command, str(tmp_path), url)
            printed = printed.replace("'command.line'", "'/'")
            assert comparable(printed) == comparable(output), f'$ {command}\n{printed}'
    finally:
        rabbit.node.delete_vhost('command.line')


def test_each_command_is_in_the_table() -> None:
    table = PAGE.partition('=================\n')[2]
    for name in __main__.COMMANDS:
        assert f'\n``{name}``' in table, name
