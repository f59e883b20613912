"""Publishing of many messages: at a rate, with a bounded number without their confirm, each outcome looked at.

Layer 5. Does not belong here: where the messages come from.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from .. import exceptions, green
from ..basic_message import Message
from ..channel.channel import Channel
from ..channel.receipt import Receipt
from .envelopes import Envelope
from .exit_codes import FAILED, NOTHING, OK
from .output import Output

__all__ = ('Pace', 'Publisher')

# So many errors of single messages are told; the others are only counted.
TOLD = 5


class Pace:
    """Spreads events evenly in time. rate: of them a second, None for as many as can be."""

    def __init__(self, rate: float | None) -> None:
        self._between = 1.0 / rate if rate else 0.0
        self._next = time.monotonic()

    def wait(self) -> None:
        """Wait until it is time for the next. Switches."""
        if not self._between:
            return
        now = time.monotonic()
        if self._next > now:
            green.backend().sleep(self._next - now)
        # Time that was lost (a broker that took nothing) is not made up for by a burst.
        self._next = max(self._next + self._between, now - self._between)


class Publisher:
    """Publishes on one channel. confirms: whether to wait for them. Counts what became of the messages."""

    def __init__(self, channel: Channel, output: Output, confirms: bool, mandatory: bool, pace: Pace) -> None:
        self.channel = channel
        self.published = self.confirmed = self.refused = self.returned = 0
        self._output = output
        self._confirms, self._mandatory, self._pace = confirms, mandatory, pace
        self._receipts: deque[Receipt] = deque()
        self._since = time.monotonic()

    def publish(self, envelope: Envelope) -> None:
        """Publish one message, by the default exchange where it says none. Switches.

        Raises why it could not be sent; what became of those before is looked at as far as it is known.
        """
        if not self.published:
            self._since = time.monotonic()  # what the first had to be waited for is no part of the rate
        self._pace.wait()
        to, key = envelope.exchange or '', envelope.routing_key or ''
        properties: Any = envelope.properties
        if self._confirms:
            self._receipts.append(self.channel.publish(envelope.body, to, key, self._mandatory, **properties))
            while self._receipts and self._receipts[0].done:
                self._look_at(self._receipts.popleft())
        else:
            self.channel.basic_publish(Message(envelope.body, **properties), to, key)
        self.published += 1
        self._output.progress(self.summary())

    def finish(self) -> None:
        """Wait for the confirms that are outstanding. Switches. Raises why the channel ended, and TimeoutError."""
        while self._receipts:
            receipt = self._receipts[0]
            try:
                receipt.wait()
            except (exceptions.MessageNacked, exceptions.Returned):
                pass  # looked at below, as those that are known already
            self._look_at(self._receipts.popleft())

    def look_at_known(self) -> None:
        """Count what is known by now, where the rest will stay unknown. Does not switch."""
        for receipt in self._receipts:
            self.confirmed += receipt.acked
        self._receipts.clear()

    def _look_at(self, receipt: Receipt) -> None:
        """Count the outcome of a publish. Raises why the channel or connection ended before it was known."""
        if receipt.acked:
            self.confirmed += 1
            return
        error = receipt.error
        assert error is not None
        if isinstance(error, exceptions.MessageNacked):
            self.refused += 1
        elif isinstance(error, exceptions.Returned):
            self.returned += 1
        else:
            raise error
        if self.refused + self.returned <= TOLD:
            self._output.error(f'gamqp publish: {error}')

    @property
    def exit_code(self) -> int:
        """Of what is known by now."""
        return FAILED if self.refused else NOTHING if self.returned else OK

    def summary(self) -> str:
        """One line for people."""
        spent = max(time.monotonic() - self._since, 1e-6)
        parts = [f'published {self.published:,}']
        if self._confirms:
            parts.append(f'confirmed {self.confirmed:,}')
        parts += [
            f'{what} {count:,}' for what, count in (('refused', self.refused), ('returned', self.returned)) if count
        ]
        return f'{", ".join(parts)}; {self.published / spent:,.0f} a second'
