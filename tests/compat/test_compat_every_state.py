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

import api_page
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


def methods(cls: type) -> list[str]:
    """The public methods of a class, by the API reference."""
    known = sorted(name for name in api_page.documented(cls) if inspect.isroutine(getattr(cls, name, None)))
    return [*known, *(name for name in ('__enter__', '__repr__') if hasattr(cls, name))]


def facts(cls: type) -> list[str]:
    """Its other public attributes."""
    return sorted(api_page.documented(cls).difference(methods(cls)))


TARGETS = {'connection': gamqp.Connection, 'channel': gamqp.Channel, 'message': gamqp.Message}
METHODS = [(target, name) for target, cls in TARGETS.items() for name in methods(cls)]
CONNECTION_FACTS, CHANNEL_FACTS = facts(gamqp.Connection), facts(gamqp.Channel)

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
    for target, name in METHODS:
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


def test_what_is_held_has_no_other_names(peer: ScriptedBroker) -> None:
    """What a completion offers is what the API reference says, as ``test_public_names.py`` has it for the classes."""
    connection, channel = is_open(peer)
    held = [connection, channel, gamqp.Message('x')]
    held += (getattr(connection, name) for name in CONNECTION_FACTS)
    held += (getattr(channel, name) for name in CHANNEL_FACTS)
    for one in held:
        cls = type(one)
        if api_page.is_ours(cls):
            own = {name for name in dir(one) if not name.startswith('_')} - set(dir(cls)) | api_page.public(cls)
            assert own - api_page.documented(cls) <= (connection_settings.names() if one is connection else set()), cls
