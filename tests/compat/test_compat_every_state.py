"""Every public method, in every state of connection and channel: a documented error or none, and never a hang.

The peer is silent on purpose, so that what needs a reply runs into its deadline. Arguments are drawn
with a fixed seed: plausible ones, and now and then one that cannot be sent.
"""

from __future__ import annotations

import inspect
import random
import re
from collections.abc import Callable
from typing import Any

import greenlets
import pytest
from script import ScriptedBroker

import gamqp
from gamqp import exceptions
from gamqp.state import connection_settings

SEED = 20260523
ROUNDS = 5  # draws of arguments for each method in each state; the default run takes the first two
HUNG = 15  # seconds for what is over after a tenth of one
#: Given when the state is reached.
DEADLINES = ('rpc_timeout', 'confirm_timeout', 'connect_timeout', 'blocked_timeout')
SHORT = 0.02

#: What the documentation allows: the errors of AMQP, of the system (and of time), and a refused message.
DOCUMENTED = (exceptions.AMQPError, exceptions.MessageNacked, OSError)
#: The text of a TypeError or ValueError about a number that cannot be meant.
IMPOSSIBLE = re.compile(r'(channel_id|prefetch|prefetch_count|timeout|confirm_timeout|rate): .* wanted, not ')

CONNECTION = (
    'blocking_read', 'channel', 'close', 'collect', 'connect', 'drain', 'drain_events', 'flush', 'heartbeat_tick',
    'forget', 'is_alive', 'queue_name',
    'run_in_hub', 'send_heartbeat', 'stats', 'topology', 'update_secret', 'wait_open', '__enter__', '__repr__',
)  # fmt: skip
CONNECTION_FACTS = (
    'channels', 'connected', 'heartbeat', 'is_blocked', 'is_closing', 'is_open', 'last_heartbeat_received', 'recovery',
    'state', 'last_heartbeat_sent', 'server_capabilities', 'server_properties', 'sock', 'transport', 'channel_errors',
    'connection_errors', 'recoverable_channel_errors', 'recoverable_connection_errors', 'Channel', 'channel_id',
    'client_channel_max', 'client_frame_max', 'client_heartbeat', 'library_properties', 'locales', 'mechanisms',
    'negotiate_capabilities', 'server_heartbeat', 'version_major', 'version_minor',
)  # fmt: skip
CHANNEL = (
    'basic_ack', 'basic_cancel', 'basic_consume', 'basic_get', 'basic_nack', 'basic_publish', 'basic_publish_confirm',
    'basic_qos', 'basic_recover', 'basic_recover_async', 'basic_reject', 'close', 'collect', 'confirm_select',
    'consume',
    'exchange_bind', 'exchange_declare', 'exchange_delete', 'exchange_unbind', 'flow', 'open', 'publish', 'queue_bind',
    'queue_declare', 'queue_delete', 'queue_purge', 'queue_unbind', 'subscribe', 'tx_commit', 'tx_rollback',
    'tx_select', 'wait_for_confirms',
    '__enter__', '__repr__',
)  # fmt: skip
CHANNEL_FACTS = (
    'active', 'auto_decode', 'callbacks', 'cancel_callbacks', 'channel_id', 'connection', 'events', 'is_closing',
    'is_open', 'no_ack_consumers', 'returned_messages', 'unconfirmed', 'unsettled', 'consumer_count',
    'on_open', 'outstanding_limit',
)  # fmt: skip
MESSAGE = ('ack', 'nack', 'reject', '__repr__')

# Values by parameter name, plausible ones first.
NAMES: tuple[Any, ...] = ('', 'name', 'ключ', 'x' * 255, 'x' * 300, None, 5)
SWITCH: tuple[Any, ...] = (False, True)
VALUES: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(('queue', 'exchange', 'routing_key', 'consumer_tag', 'destination', 'source', 'reply_text'), NAMES),
    **dict.fromkeys(('new_secret', 'reason'), NAMES),
    'type': ('direct', 'fanout', 'x' * 300),
    'msg': (
        gamqp.Message('text'),
        gamqp.Message(b'bytes', delivery_mode=2),
        gamqp.Message('x', nonsense=1),
        gamqp.Message('x', priority=300),
        gamqp.Message(None),
        None,
        'str',
    ),
    'delivery_tag': (1, 0, 2**64 - 1, 2**64, -1, None),
    'prefetch_size': (0, 1000),
    'prefetch_count': (0, 10, 70_000, None),
    'arguments': (None, {}, {'x-max-length': 10}, {'bad': object()}),
    'message': (b'bytes', 'text', gamqp.Message('x'), None),
    'prefetch': (10, 0, 70_000),
    'concurrency': (1, 5),
    'handler': (lambda message: None,),
    'on_error': ('requeue', 'stop', lambda message, error: None),
    'fn': (int,),
    'timeout': (0, 0.02),
    'confirm_timeout': (None, 0.02),
    'channel_id': (None, 1, 2, 0, 70_000, -1),
    'reply_code': (0, 200, 70_000),
    'method_sig': ((0, 0), (60, 40)),
    'rate': (2, 0, -1, 0.5),
    'callback': (None, lambda *args: None, gamqp.promise()),
    'on_cancel': (None, lambda tag: None),
}


def arguments(method: Any, draw: random.Random) -> dict[str, Any]:
    """A value for each parameter that has to be given, and for some of the others."""
    chosen = {}
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        required = parameter.default is parameter.empty
        if name != 'argsig' and (required or name in ('timeout', 'confirm_timeout') or draw.random() < 0.4):
            values = VALUES.get(name, SWITCH)
            # Mostly a plausible one: a call that fails at its arguments tests nothing else.
            chosen[name] = values[0] if draw.random() < 0.5 else draw.choice(values)
    return chosen


# -- the states ---------------------------------------------------------------------------------

State = Callable[[ScriptedBroker], tuple[gamqp.Connection, Any]]


def never_opened(peer: ScriptedBroker) -> Any:
    return peer.client(), None


def opening(peer: ScriptedBroker) -> Any:
    connection = peer.client()
    greenlets.spawn(connection.connect)
    peer.handshake(until='tune')
    return connection, None


def is_open(peer: ScriptedBroker) -> Any:
    connection = peer.open(heartbeat=0)
    return connection, peer.open_channel(connection)


def blocked(peer: ScriptedBroker) -> Any:
    connection, channel = is_open(peer)
    peer.send('connection.blocked', reason='low on memory')
    greenlets.wait_until(lambda: connection.is_blocked)
    return connection, channel


def closing(peer: ScriptedBroker) -> Any:
    connection, channel = is_open(peer)
    greenlets.spawn(connection.close)
    greenlets.wait_until(lambda: connection.is_closing)
    return connection, channel


def closed_by_us(peer: ScriptedBroker) -> Any:
    connection, channel = is_open(peer)
    task = greenlets.spawn(connection.close)
    peer.agree_to_close()
    task.get()
    return connection, channel


def closed_by_the_peer(peer: ScriptedBroker) -> Any:
    connection, channel = is_open(peer)
    peer.send('connection.close', reply_code=320, reply_text='going down')
    greenlets.wait_until(lambda: not connection.connected)
    return connection, channel


def lost(peer: ScriptedBroker) -> Any:
    connection, channel = is_open(peer)
    peer.cut(reset=True)
    greenlets.wait_until(lambda: not connection.connected)
    return connection, channel


def collected(peer: ScriptedBroker) -> Any:
    connection, channel = is_open(peer)
    connection.collect()
    return connection, channel


def channel_closing(peer: ScriptedBroker) -> Any:
    connection, channel = is_open(peer)
    greenlets.spawn(channel.close)
    peer.expect('channel.close')
    return connection, channel


def channel_closed_by_us(peer: ScriptedBroker) -> Any:
    connection, channel = is_open(peer)
    task = greenlets.spawn(channel.close)
    peer.expect('channel.close')
    peer.send('channel.close-ok')
    task.get()
    return connection, channel


def channel_closed_by_the_peer(peer: ScriptedBroker) -> Any:
    """It is being reopened, and its error has not been raised."""
    connection, channel = is_open(peer)
    peer.send('channel.close', reply_code=406, reply_text='unknown delivery tag 7', class_id=60, method_id=80)
    peer.expect('channel.close-ok')
    return connection, channel


def channel_reopened(peer: ScriptedBroker) -> Any:
    connection, channel = channel_closed_by_the_peer(peer)
    peer.expect('channel.open')
    peer.send('channel.open-ok')
    greenlets.wait_until(lambda: channel.is_open)
    return connection, channel


STATES: tuple[State, ...] = (
    never_opened, opening, is_open, blocked, closing, closed_by_us, closed_by_the_peer, lost, collected,
    channel_closing, channel_closed_by_us, channel_closed_by_the_peer, channel_reopened,
)  # fmt: skip


# -- the test -----------------------------------------------------------------------------------


def targets() -> list[tuple[str, str]]:
    return [
        *(('connection', name) for name in CONNECTION),
        *(('channel', name) for name in CHANNEL),
        *(('message', name) for name in MESSAGE),
    ]


def verdict(call: Callable[[], Any]) -> str:
    """'' for a result or a documented error within its time; else what happened."""
    task = greenlets.spawn(call)
    try:
        task.get(HUNG)
    except DOCUMENTED:
        return ''
    except AssertionError as error:
        task.kill()
        return f'hung: {error}'
    except (TypeError, ValueError) as error:
        return '' if IMPOSSIBLE.match(str(error)) else f'{type(error).__name__}: {error}'
    except BaseException as error:
        return f'{type(error).__name__}: {error}'
    return ''


@pytest.mark.filterwarnings('ignore:basic_consume without', 'ignore:queue_declare without')
@pytest.mark.filterwarnings('ignore::DeprecationWarning')
@pytest.mark.filterwarnings('ignore::ResourceWarning')
@pytest.mark.parametrize('state', STATES, ids=[state.__name__ for state in STATES])
@pytest.mark.parametrize(
    'rounds', [range(2), pytest.param(range(2, ROUNDS), marks=pytest.mark.slow)], ids=['some', 'more']
)
def test_a_documented_error_or_none(state: State, rounds: range) -> None:
    draw = random.Random(f'{SEED} {state.__name__} {rounds}')
    faults = []
    for target, name in targets():
        for _ in rounds:
            with ScriptedBroker() as peer:
                connection, channel = state(peer)
                for deadline in DEADLINES:
                    setattr(connection, deadline, SHORT)
                message = gamqp.Message('x')
                message.channel, message.delivery_tag = channel, 1
                subject = {'connection': connection, 'channel': channel, 'message': message}[target]
                if subject is None:
                    break
                method = getattr(subject, name)
                given = arguments(method, draw)
                said = verdict(lambda method=method, given=given: method(**given))
                if said:
                    faults.append(f'{target}.{name}({given}): {said}')
                for fact in CONNECTION_FACTS:
                    getattr(connection, fact)
                for fact in CHANNEL_FACTS if channel is not None else ():
                    getattr(channel, fact)
                connection.collect()
    if faults:
        pytest.fail(f'seed {SEED}:\n' + '\n'.join(faults), pytrace=False)


def test_a_channel_can_be_made_on_an_open_connection_only(peer: ScriptedBroker) -> None:
    connection = peer.client()
    with pytest.raises(exceptions.RecoverableConnectionError, match='call its connect'):
        gamqp.Channel(connection)
    opened = peer.open()
    opened.collect()
    with pytest.raises(exceptions.RecoverableConnectionError, match='closed by this program'):
        gamqp.Channel(opened)


def test_the_lists_are_complete(peer: ScriptedBroker) -> None:
    """What a completion on a connection or channel offers is for programs, and is in a list above."""
    connection, channel = is_open(peer)
    arguments = connection_settings.names()  # of Connection, each of which is an attribute by the same name
    for one, known in (
        (connection, CONNECTION + CONNECTION_FACTS),
        (channel, CHANNEL + CHANNEL_FACTS),
    ):
        public = {name for name in dir(one) if not name.startswith('_') and name not in arguments}
        assert public == {name for name in known if not name.startswith('_') and name not in arguments}, one
