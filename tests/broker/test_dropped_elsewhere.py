"""A connection that is collected in another thread than its own: its hub hears of it at once, heartbeats or not."""

from __future__ import annotations

import gc
from typing import Any

import greens
import pytest
import tools
from script import ScriptedBroker


@pytest.mark.parametrize('heartbeat', [0, 600])
def test_it_says_goodbye(peer: ScriptedBroker, heartbeat: int) -> None:
    client = peer.open((10, 131072, heartbeat), heartbeat=heartbeat)
    link = client.link
    peer._clients.clear()
    held: list[Any] = [client]
    del client

    def drop() -> None:
        held.clear()
        gc.collect()

    with pytest.warns(ResourceWarning, match='never closed'):
        tools.in_thread(drop)
    assert link.owner() is None
    assert peer.agree_to_close().reply_text == 'abandoned'
    greens.wait_until(lambda: link.reason is not None)
