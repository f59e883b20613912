"""A handler that a test holds back and lets go. For the tests of RPC."""

from __future__ import annotations

from typing import Any

import greenlets

import gamqp


class GatedHandler:
    """A handler that holds requests until it is told, and answers with their body."""

    def __init__(self) -> None:
        self.open = gamqp.green.Event(greenlets.backend)
        self.begun: list[bytes] = []

    def __call__(self, message: Any) -> bytes:
        self.begun.append(message.body)
        assert self.open.wait(greenlets.PATIENCE)
        return bytes(message.body)
