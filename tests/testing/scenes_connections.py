"""Connections and channels: how they open, what is out of place, how they end.

Scenes, see ``scenes``. Does not belong here: expectations.
"""

from __future__ import annotations

from conversations import Talker
from scenes import queue, scene


@scene
def channel_numbers(talk: Talker) -> None:
    talk.open(1, tune={'channel_max': 5, 'frame_max': 131072, 'heartbeat': 0})
    talk.ask('channel.open', 5)
    talk.ask('channel.open', 6)


@scene
def channel_opened_twice(talk: Talker) -> None:
    talk.open(1)
    talk.ask('channel.open', 1)


@scene
def method_without_channel(talk: Talker) -> None:
    talk.open()
    talk.ask('basic.get', 3, queue='~q')


@scene
def close_of_no_channel(talk: Talker) -> None:
    talk.open()
    talk.ask('channel.close', 3)


@scene
def channel_flow(talk: Talker) -> None:
    talk.open(1)
    talk.ask('channel.flow', active=True)
    talk.ask('channel.flow', active=False)


@scene
def connection_close(talk: Talker) -> None:
    talk.open(1)
    queue(talk)
    talk.ask('connection.close', reply_code=200, reply_text='bye')


@scene
def wrong_vhost(talk: Talker) -> None:
    talk.open(vhost='~nowhere')
    talk.settle()


@scene
def wrong_password(talk: Talker) -> None:
    talk.password = 'wrong'
    talk.open()
    talk.settle()


@scene
def small_frame_max(talk: Talker) -> None:
    talk.open(tune={'channel_max': 5, 'frame_max': 4096, 'heartbeat': 0})
    talk.settle()


@scene
def too_small_frame_max(talk: Talker) -> None:
    talk.open(tune={'channel_max': 5, 'frame_max': 100, 'heartbeat': 0})
    talk.settle()


@scene
def too_large_frame_max(talk: Talker) -> None:
    talk.open(tune={'channel_max': 5, 'frame_max': 131073, 'heartbeat': 0})
    talk.settle()


@scene
def too_large_channel_max(talk: Talker) -> None:
    talk.open(tune={'channel_max': 3000, 'frame_max': 131072, 'heartbeat': 0})
    talk.settle()


@scene
def other_protocol(talk: Talker) -> None:
    talk.raw(b'HTTP/1.1')
    talk.settle()


@scene
def unknown_mechanism(talk: Talker) -> None:
    talk.raw(b'AMQP\x00\x00\x09\x01')
    talk.wait_for('connection.start')
    talk.send('connection.start-ok', mechanism='NONSENSE', response=b'')
    talk.settle(5)


@scene
def update_secret(talk: Talker) -> None:
    talk.open(1)
    talk.ask('connection.update-secret', new_secret=b'x', reason='because')


@scene
def access_request(talk: Talker) -> None:
    talk.open(1)
    talk.ask('access.request', realm='/data')


@scene
def exclusive_queue_goes_with_its_connection(talk: Talker) -> None:
    talk.open(1)
    queue(talk)
    talk.ask('queue.declare', queue='~q', passive=True)
    talk.ask('queue.declare', queue='~q', durable=True)
    talk.ask('queue.declare', queue='~q', exclusive=True, durable=True)
    talk.ask('queue.declare', queue='~q', exclusive=True, auto_delete=True)
