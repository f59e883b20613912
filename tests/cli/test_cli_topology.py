"""Queues, exchanges and bindings by commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import broker_tools
import pytest
from commands import gamqp

from gamqp import Message


@pytest.mark.any_broker
@pytest.mark.slow
def test_made_bound_purged_and_deleted(rabbit: Any, messages: Callable[[str], list[Message]]) -> None:
    def run(*arguments: str) -> Any:
        done = gamqp(*arguments, url=rabbit.url)
        assert done.code == 0 and done.err == '', done
        return done.lines

    queue = broker_tools.fresh_name()
    arguments = ('-a', 'x-max-length=5', '-a', 'note:str=7')
    assert run('declare', 'queue', queue, *arguments) == [{'queue': queue, 'messages': 0, 'consumers': 0}]
    done = gamqp('declare', 'queue', queue, '-a', 'x-max-length=6', url=rabbit.url)
    assert done.code == 1 and "inequivalent arg 'x-max-length'" in done.err
    assert run('declare', 'exchange', 'topics', '--type', 'topic') == [{'exchange': 'topics'}]
    assert run('declare', 'exchange', 'inner', '--type', 'fanout', '--internal') == [{'exchange': 'inner'}]
    run('bind', 'topics', 'inner', '--to-exchange', '--key', '#')
    run('bind', 'inner', queue)
    assert gamqp('publish', '-e', 'topics', '-k', 'a.b', '-b', 'x', '--mandatory', url=rabbit.url).code == 0
    done = gamqp('publish', '-e', 'inner', '-b', 'x', url=rabbit.url)
    assert done.code == 1 and 'ACCESS_REFUSED' in done.err  # an internal one
    done = gamqp('delete', 'queue', queue, '--if-empty', url=rabbit.url)
    assert done.code == 1 and 'not empty' in done.err
    assert run('purge', queue) == [{'queue': queue, 'messages': 1}]
    run('bind', 'inner', queue, '--remove')
    assert gamqp('publish', '-e', 'topics', '-k', 'a.b', '-b', 'x', '--mandatory', url=rabbit.url).code == 2
    assert run('delete', 'queue', queue) == [{'queue': queue, 'messages': 0}]
    assert gamqp('delete', 'queue', queue, url=rabbit.url).code == 2
    for exchange in ('topics', 'inner'):
        assert run('delete', 'exchange', exchange) == [{'exchange': exchange}]
    assert gamqp('delete', 'exchange', 'inner', url=rabbit.url).code == 2
    assert gamqp('purge', queue, url=rabbit.url).code == 2
    assert gamqp('bind', 'inner', queue, url=rabbit.url).code == 2
