"""Mistakes that a user's type checker has to find, one a line. Never run, see ``check.py``.

Behind each: the kind of error that mypy has to report on this line, and pyright.
"""

from __future__ import annotations

import gamqp
from gamqp.rpc import RPCClient, RPCServer


def connections(connection: gamqp.Connection) -> None:
    gamqp.connect('amqp://broker/', hartbeat=30)  # wrong: call-arg, reportCallIssue
    gamqp.connect('amqp://broker/', heartbeat='30')  # wrong: arg-type, reportArgumentType
    gamqp.Connection(blocked_policy='block')  # wrong: arg-type, reportArgumentType
    gamqp.Connection(ssl='yes')  # wrong: arg-type, reportArgumentType
    gamqp.Connection(on_lost=lambda: None)  # wrong: arg-type misc, reportArgumentType
    gamqp.Connection(on_open=handle)  # wrong: arg-type, reportArgumentType
    connection.chanel()  # wrong: attr-defined, reportAttributeAccessIssue
    connection.channel('1')  # wrong: arg-type, reportArgumentType
    connection.drain_events('1')  # wrong: arg-type, reportArgumentType
    connection.run_in_hub(len, 'abc').upper()  # wrong: attr-defined, reportAttributeAccessIssue


def queues(channel: gamqp.Channel, nowait: bool) -> None:
    print(channel.queue_declare('jobs', nowait=nowait).queue)  # wrong: union-attr, reportOptionalMemberAccess
    print(channel.queue_declare('jobs', nowait=True).queue)  # wrong: attr-defined, reportAttributeAccessIssue
    print(channel.queue_declare('jobs').messages)  # wrong: attr-defined, reportAttributeAccessIssue
    channel.queue_declare('jobs', arguments=['x-expires'])  # wrong: call-overload, reportCallIssue reportArgumentType
    channel.queue_delete('jobs', nowait=nowait) + 1  # wrong: operator, reportOptionalOperand


def publishing(channel: gamqp.Channel) -> None:
    channel.publish(5)  # wrong: arg-type, reportArgumentType
    channel.publish({'a': 1})  # wrong: arg-type, reportArgumentType
    channel.publish('text', delivery_mod=2)  # wrong: call-arg, reportCallIssue
    channel.publish('text', delivery_mode='2')  # wrong: arg-type, reportArgumentType
    channel.basic_publish('text', routing_key='jobs')  # wrong: arg-type, reportArgumentType
    gamqp.Message('text', headers={})  # wrong: call-arg, reportCallIssue
    if channel.publish('text').state == 'ack':  # wrong: comparison-overlap, reportUnnecessaryComparison
        raise ValueError
    if channel.publish('text').wait():  # wrong: func-returns-value,
        raise ValueError


def consuming(channel: gamqp.Channel) -> None:
    for message in channel.consume('jobs', prefetch='5'):  # wrong: arg-type, reportArgumentType
        message.acknowledge()  # wrong: attr-defined, reportAttributeAccessIssue
        message.reply_to = 'queue'  # wrong: assignment, reportAttributeAccessIssue
        message.body.decode()  # wrong: union-attr, reportAttributeAccessIssue
        message.channel.basic_akc(message.delivery_tag)  # wrong: union-attr, reportAttributeAccessIssue
    channel.basic_get('jobs').ack()  # wrong: union-attr, reportOptionalMemberAccess
    channel.subscribe('jobs', handle, on_error='drop')  # wrong: arg-type, reportArgumentType
    channel.subscribe('jobs', handle, on_error=lambda error: 'stop')  # wrong: arg-type misc, reportArgumentType
    channel.subscribe('jobs', handle_nothing)  # wrong: arg-type, reportArgumentType
    channel.basic_consume('jobs', callback=handle_nothing)  # wrong: arg-type, reportArgumentType
    channel.basic_consume('jobs', on_cancel=handle)  # wrong: arg-type, reportArgumentType


def handle(message: gamqp.Message) -> None:
    message.ack(requeue=True)  # wrong: call-arg, reportCallIssue


def handle_nothing() -> None:
    pass


def pools(pool: gamqp.Pool) -> None:
    gamqp.Pool('amqp://broker/', conections=2)  # wrong: call-arg, reportCallIssue
    gamqp.Pool(lambda: 5)  # wrong: arg-type return-value, reportArgumentType
    pool.channel().publish('text')  # wrong: attr-defined, reportAttributeAccessIssue
    pool.publish('text', routing_kye='jobs')  # wrong: call-arg, reportCallIssue


def requests(connection: gamqp.Connection) -> None:
    RPCServer(connection, 'requests', lambda request: 5)  # wrong: arg-type return-value, reportArgumentType
    print(RPCClient(connection).call('question', 'requests').text)  # wrong: attr-defined, reportAttributeAccessIssue
    RPCClient('amqp://broker/')  # wrong: arg-type, reportArgumentType
