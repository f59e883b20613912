"""What a channel takes in memory: programs have thousands of them."""

from __future__ import annotations

from typing import Any

import greenlets
from script import ScriptedBroker, frames

import gamqp

# Up to so many attributes, objects of one class share one table of their names. An object with more has a table of
# its own, which takes as much memory as all the rest of a channel.
SHARED = 30


def test_a_channel_in_use_shares_the_names_of_its_attributes(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, got: list[Any]
) -> None:
    consuming = greenlets.spawn(
        lambda: (channel.basic_qos(0, 10, False), channel.basic_consume('q', callback=got.append))
    )
    peer.expect('basic.qos')
    peer.send('basic.qos-ok')
    tag = peer.expect('basic.consume').consumer_tag
    peer.raw(frames('basic.consume-ok', consumer_tag=tag) + frames('basic.deliver', consumer_tag=tag, delivery_tag=1))
    consuming.get()
    client.drain_events(timeout=5)
    got[0].ack()
    receipt = channel.publish(b'x', '', 'q')
    peer.expect('basic.ack')
    peer.expect('confirm.select')
    peer.raw(frames('confirm.select-ok') + frames('basic.ack', delivery_tag=1))
    receipt.wait()
    assert len(vars(channel)) <= SHARED, sorted(vars(channel))
    assert '_events' not in vars(channel)  # made where the program asks for ``events``
    channel.events['basic_ack'].add(got.append)
    assert channel.events['basic_ack'] == {got.append}


def test_channels_share_the_names_whatever_each_is_used_for(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel
) -> None:
    """The table has room for so many names of all channels of a program together."""
    names = set(vars(channel))
    consuming = greenlets.spawn(lambda: channel.basic_consume('q', callback=print))
    tag = peer.expect('basic.consume').consumer_tag
    peer.raw(frames('basic.consume-ok', consumer_tag=tag) + frames('basic.deliver', consumer_tag=tag, delivery_tag=1))
    consuming.get()
    limiting = greenlets.spawn(lambda: channel.basic_qos(0, 10, False))
    peer.expect('basic.qos')
    peer.send('basic.qos-ok')
    limiting.get()
    channel.basic_ack(0, multiple=True)
    channel.publish(b'x', '', 'q')
    names |= set(vars(channel))
    closing = greenlets.spawn(channel.close)
    peer.expect('basic.ack')
    peer.expect('confirm.select')
    peer.expect('basic.publish')
    peer.expect('channel.close')
    peer.raw(frames('confirm.select-ok') + frames('channel.close-ok'))
    closing.get()
    names |= set(vars(channel))
    assert len(names) <= SHARED, sorted(names)
