"""Restores a registry at a simulated broker by the plans, as the client does over a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulated_broker import Refused, SimulatedBroker

from gamqp import exceptions
from gamqp.state.prefetch import NO_PREFETCH, Prefetch
from gamqp.state.restore_channels import ChannelPlan
from gamqp.state.restore_errors import Blame, treatment
from gamqp.state.restore_plan import AHEAD, Chosen, DeclarationPlan, choose
from gamqp.state.topology_records import Record, RecordedConsumer, Request
from gamqp.state.topology_registry import TopologyRegistry
from gamqp.wire.spec import Basic, Exchange, Queue

__all__ = ('Attempt', 'Lost', 'frozen')

CONNECTION = 'mine'


class Lost(Exception):
    """The broker has closed the connection. suspects: what had no answer."""


def frozen(table: Any) -> str:
    """Equal for tables that the broker takes for the same one."""
    return repr(sorted((table or {}).items()))


class Attempt:
    """One attempt. refuse(request): the reply code with which the broker refuses it, or None.

    sent: how many requests there were. skipped, retry: the records. locked_once: called while all waits for a lock.
    """

    def __init__(
        self,
        registry: TopologyRegistry,
        broker: SimulatedBroker,
        refuse: Callable[[Request], int | None] = lambda request: None,
        blame: Blame | None = None,
        ahead: int = AHEAD,
        replies_lost: int = 0,
        chosen: Chosen | None = None,
        locked_once: Callable[[], object] = lambda: None,
    ) -> None:
        self.registry = registry
        self.broker = broker
        self.refuse = refuse
        self.blame = blame or Blame()
        self.ahead = ahead
        self.replies_lost = replies_lost
        self.chosen = chosen or choose(registry)
        self.locked_once = locked_once
        self.sent: list[Request] = []
        self.skipped: list[Record] = []
        self.retry: list[Record] = []
        self.limits: dict[str, int] = {}  # tag -> the prefetch with which it was started
        self.channels_opened = 1
        self.plan = DeclarationPlan(registry, self.chosen.declared, self.blame, ahead)

    def run(self, prefetches: dict[int, Prefetch] | None = None) -> Attempt:
        """Raises Lost."""
        self.declare()
        clear, suspects = self.blame.split(self.chosen.consumers)
        for group in (clear, *([suspect] for suspect in suspects)):
            by_channel: dict[int, list[RecordedConsumer]] = {}
            for consumer in group:
                if self.plan.waits_for(consumer):
                    self.retry.append(consumer)
                    self.registry.consumer_waits(consumer)
                else:
                    by_channel.setdefault(consumer.channel, []).append(consumer)
            for number, consumers in by_channel.items():
                self.consume(number, consumers, (prefetches or {}).get(number, NO_PREFETCH))
        self.retry += [record for records in self.plan.deferred for record in records]
        self.skipped += [record for record, _ in self.plan.skipped]
        self.blame.connection_opened()
        return self

    def declare(self) -> None:
        plan = self.plan
        while True:
            batch = []
            while (record := plan.next()) is not None:
                batch.append(record)
            assert len(plan.unanswered) <= self.ahead
            if not batch:
                assert plan.done
                if not plan.locked:
                    return
                self.locked_once()
                plan.try_locked()
            for position, record in enumerate(batch):
                try:
                    reply = self.execute(0, record.request())
                except Refused as exc:
                    error = self.error(exc, batch[max(0, position - self.replies_lost) :])
                    culprit = plan.refused()
                    assert culprit is record
                    self.channels_opened += 1
                    {
                        'skip': lambda: plan.skip(record, error),  # noqa: B023
                        'retry': lambda: plan.defer(record),  # noqa: B023
                        'wait': lambda: plan.lock(record),  # noqa: B023
                    }[treatment(record, error)]()
                    break
                assert plan.answered((reply, 0, 0)) is record

    def consume(self, number: int, consumers: list[RecordedConsumer], prefetch: Prefetch) -> None:
        plan = ChannelPlan(self.registry, consumers, prefetch, self.ahead)
        in_force = [0, 0]
        while True:
            batch = []
            while (step := plan.next()) is not None:
                batch.append(step)
            if not batch:
                assert plan.done
                assert in_force == [prefetch.sent or 0, prefetch.of_channel] or prefetch.sent is None
                return
            for request, consumer in batch:
                if consumer is None:
                    _, count, of_channel = request[1]
                    in_force[of_channel] = count
                    plan.answered()
                    continue
                try:
                    self.execute(number, request)
                except Refused as exc:
                    error = self.error(exc, plan.unanswered)
                    self.broker.close_channel(CONNECTION, number)
                    culprit = plan.refused(str(error))
                    assert culprit is consumer
                    self.retry.append(culprit)
                    self.registry.consumer_waits(culprit)
                    self.channels_opened += 1
                    in_force = [0, 0]
                    break
                self.limits[consumer.tag] = in_force[0]
                assert plan.answered(consumer.tag) is consumer

    def error(self, refused: Refused, unanswered: list[Any]) -> BaseException:
        if refused.code < 500:
            return exceptions.error_for_code(refused.code, 'no', (0, 0), exceptions.ChannelError)
        self.blame.connection_refused(unanswered, self.sent[-1][0])
        raise Lost

    def execute(self, channel: int, request: Request) -> Any:
        self.sent.append(request)
        code = self.refuse(request)
        if code is not None:
            raise Refused(code)
        broker, (sig, args) = self.broker, request
        if sig == Exchange.Declare:
            _, name, kind, passive, durable, auto_delete, _, _, table = args
            assert not passive
            return broker.exchange_declare(name, kind, durable, auto_delete, frozen(table))
        if sig == Queue.Declare:
            _, name, passive, durable, exclusive, auto_delete, _, table = args
            assert not passive
            return broker.queue_declare(name, durable, exclusive, auto_delete, frozen(table))
        if sig in (Queue.Bind, Exchange.Bind):
            _, destination, source, key, _, table = args
            return broker.bind('queue' if sig == Queue.Bind else 'exchange', destination, source, key, frozen(table))
        assert sig == Basic.Consume
        _, queue, tag, *_ = args
        return broker.consume(CONNECTION, channel, tag, queue)
