"""Heartbeat arithmetic: when to send one, when the peer counts as dead.

State, no I/O and no clock: times are arguments, in seconds of any monotonic clock.
The rule is RabbitMQ's: send when nothing was sent for half the interval; the
peer is dead when nothing at all was heard for two intervals.
https://www.rabbitmq.com/docs/heartbeats
"""

from __future__ import annotations

__all__ = ('HeartbeatClock',)


class HeartbeatClock:
    """One connection's heartbeat. interval: seconds as negotiated, 0 means there is none."""

    __slots__ = ('heard_at', 'interval', 'sent_at')

    def __init__(self, interval: float, now: float) -> None:
        self.interval = interval
        self.sent_at = now
        self.heard_at = now

    def must_send(self, now: float) -> bool:
        return bool(self.interval) and now - self.sent_at >= self.interval / 2

    def late_in(self, now: float) -> float:
        """Seconds until whoever sends is late, and somebody else should: halfway from ``must_send`` to the interval."""
        return self.sent_at + self.interval * 0.75 - now

    def peer_is_dead(self, now: float) -> bool:
        return bool(self.interval) and now - self.heard_at >= 2 * self.interval

    def silence(self, now: float) -> float:
        """Seconds since the peer was last heard."""
        return now - self.heard_at

    def next_look(self, now: float, listening: bool = True) -> float:
        """Seconds until ``must_send`` or ``peer_is_dead`` may first be true; at least a little.

        listening: False while we do not read; then only sending counts.
        """
        due = self.sent_at + self.interval / 2
        if listening:
            due = min(due, self.heard_at + 2 * self.interval)
        # Never 0: a look that comes a rounding error early would spin.
        return max(due - now, self.interval / 100)
