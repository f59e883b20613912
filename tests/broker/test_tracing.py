"""gamqp.tracing, the place for tracers: what it is asked, when, and that nothing else changes by it."""

from __future__ import annotations

from typing import Any

import greenlets
import inside
import pytest
from script import ScriptedBroker
from scripted_consumers import begin

import gamqp
from gamqp.telemetry.tracing import Tracing, install


class Diary(Tracing):
    """Writes down what it is asked, and may refuse."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self.refuse: BaseException | None = None

    def publish(self, connection: Any, exchange: str, routing_key: str, body: Any, properties: Any, send: Any) -> int:
        self.entries.append(('publish', exchange, routing_key, body, dict(properties)))
        if self.refuse is not None:
            raise self.refuse
        return super().publish(connection, exchange, routing_key, body, {**properties, 'app_id': 'diary'}, send)

    def process(self, connection: Any, message: Any, handler: Any) -> None:
        self.entries.append(('process', message.body))
        super().process(connection, message, handler)


@pytest.fixture
def diary(client: gamqp.Connection) -> Diary:
    diary = Diary()
    install(client, diary)
    return diary


def test_a_publish_passes_once_and_may_be_given_other_properties(
    peer: ScriptedBroker, channel: gamqp.Channel, diary: Diary
) -> None:
    message = gamqp.Message('text', priority=3)
    channel.basic_publish(message, 'x', 'k')
    receipt = channel.publish(message, 'x', 'k', mandatory=True)
    assert receipt.delivery_tag == 1
    assert diary.entries == [('publish', 'x', 'k', 'text', {'priority': 3})] * 2
    assert message.properties == {'priority': 3}
    assert peer.expect('basic.publish').properties['app_id'] == 'diary'
    peer.expect('confirm.select')
    again = peer.expect('basic.publish')
    assert again.mandatory
    assert again.properties == {'priority': 3, 'app_id': 'diary', 'content_encoding': 'utf-8'}


def test_what_a_tracer_raises_comes_out_and_nothing_was_sent(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, diary: Diary
) -> None:
    diary.refuse = KeyError('no')
    with pytest.raises(KeyError):
        channel.publish('x', 'x', 'k')
    assert channel.unconfirmed == 0
    peer.expect_nothing_more(client)


def test_callbacks_and_handlers_pass_once(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, diary: Diary
) -> None:
    got: list[Any] = []
    begin(peer, lambda: channel.basic_consume('q', 'a', no_ack=True, callback=got.append))
    subscribing = greenlets.spawn(lambda: channel.subscribe('q', got.append, no_ack=True, consumer_tag='b'))
    peer.expect('basic.consume')
    peer.send('basic.consume-ok', 1, consumer_tag='b')
    subscribing.get()
    for number, tag in enumerate('ab', 1):
        peer.send(
            'basic.deliver', 1, consumer_tag=tag, delivery_tag=number, exchange='', routing_key='q', body=tag.encode()
        )
    client.drain_events(timeout=30)
    greenlets.wait_until(lambda: len(got) == 2)
    assert sorted(diary.entries) == [('process', b'a'), ('process', b'b')]


def test_nobody_traces_unless_told_to() -> None:
    assert not inside.traces(gamqp.Connection)
