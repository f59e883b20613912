"""Heartbeat arithmetic: when to send one, when the peer counts as dead.

State, no I/O. Times are arguments, in seconds of any monotonic clock. The rules are RabbitMQ's: a heartbeat is due
when nothing was sent for half the interval; the peer is dead when no byte came for two intervals.
Does not belong here: timers and sending (``io.heartbeat_greenlet``).
https://www.rabbitmq.com/docs/heartbeats
"""

from __future__ import annotations

__all__ = ('HeartbeatClock',)


class HeartbeatClock:
    """One connection's heartbeat. interval: seconds as negotiated, 0 means there is none."""

    __slots__ = ('heard_at', 'interval', 'sent_at')

    def __init__(self, interval: float, now: float) -> None:
        # 0 until connection.tune, so a slow handshake is not taken for a dead peer.
        self.interval = interval
        # Of the last byte in each direction. Bytes of any frame count as a sign of life, not heartbeats alone.
        self.sent_at = now
        self.heard_at = now

    def must_send(self, now: float) -> bool:
        return bool(self.interval) and now - self.sent_at >= self.interval / 2

    def late_in(self, now: float) -> float:
        """Seconds until the heartbeat greenlet is late, so that a thread should send: at 3/4 of the interval."""
        # Between the half, when the greenlet sends, and the whole, when a broker may begin to count a missed
        # one.
        return self.sent_at + self.interval * 0.75 - now

    def peer_is_dead(self, now: float) -> bool:
        # Without the first half each connection with heartbeats off would be dead at once.
        return bool(self.interval) and now - self.heard_at >= 2 * self.interval

    def silence(self, now: float) -> float:
        """Seconds since the last byte came from the peer."""
        return now - self.heard_at

    def next_look(self, now: float, listening: bool = True) -> float:
        """Seconds until ``must_send`` or ``peer_is_dead`` may become true; more than 0.

        listening: False while the reader has stopped; then only ``must_send`` counts.
        """
        due = self.sent_at + self.interval / 2
        # While the reader has stopped, silence is no fault of the peer: nobody reads what it sends.
        if listening:
            due = min(due, self.heard_at + 2 * self.interval)
        # Never 0: a timer may fire a rounding error too early, and would then fire again and again.
        return max(due - now, self.interval / 100)
