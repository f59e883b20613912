"""The table of the protocol, against the numbers typed a second time."""

from __future__ import annotations

from typing import Any

import pytest

from gamqp import exceptions

# class id, method id, name, letters of the arguments, whether content follows, replies
VECTOR = """
10 10 connection.start ooFSS - start-ok
10 11 connection.start-ok FsSs -
10 20 connection.secure S - secure-ok
10 21 connection.secure-ok S -
10 30 connection.tune BlB - tune-ok
10 31 connection.tune-ok BlB -
10 40 connection.open ssb - open-ok
10 41 connection.open-ok s -
10 50 connection.close BsBB - close-ok
10 51 connection.close-ok - -
10 60 connection.blocked s -
10 61 connection.unblocked - -
10 70 connection.update-secret Ss - update-secret-ok
10 71 connection.update-secret-ok - -
20 10 channel.open s - open-ok
20 11 channel.open-ok S -
20 20 channel.flow b - flow-ok
20 21 channel.flow-ok b -
20 40 channel.close BsBB - close-ok
20 41 channel.close-ok - -
30 10 access.request sbbbbb - request-ok
30 11 access.request-ok B -
40 10 exchange.declare BssbbbbbF - declare-ok
40 11 exchange.declare-ok - -
40 20 exchange.delete Bsbb - delete-ok
40 21 exchange.delete-ok - -
40 30 exchange.bind BsssbF - bind-ok
40 31 exchange.bind-ok - -
40 40 exchange.unbind BsssbF - unbind-ok
40 51 exchange.unbind-ok - -
50 10 queue.declare BsbbbbbF - declare-ok
50 11 queue.declare-ok sll -
50 20 queue.bind BsssbF - bind-ok
50 21 queue.bind-ok - -
50 30 queue.purge Bsb - purge-ok
50 31 queue.purge-ok l -
50 40 queue.delete Bsbbb - delete-ok
50 41 queue.delete-ok l -
50 50 queue.unbind BsssF - unbind-ok
50 51 queue.unbind-ok - -
60 10 basic.qos lBb - qos-ok
60 11 basic.qos-ok - -
60 20 basic.consume BssbbbbF - consume-ok
60 21 basic.consume-ok s -
60 30 basic.cancel sb - cancel-ok
60 31 basic.cancel-ok s -
60 40 basic.publish Bssbb content
60 50 basic.return Bsss content
60 60 basic.deliver sLbss content
60 70 basic.get Bsb - get-ok get-empty
60 71 basic.get-ok Lbssl content
60 72 basic.get-empty s -
60 80 basic.ack Lb -
60 90 basic.reject Lb -
60 100 basic.recover-async b -
60 110 basic.recover b - recover-ok
60 111 basic.recover-ok - -
60 120 basic.nack Lbb -
85 10 confirm.select b - select-ok
85 11 confirm.select-ok - -
90 10 tx.select - - select-ok
90 11 tx.select-ok - -
90 20 tx.commit - - commit-ok
90 21 tx.commit-ok - -
90 30 tx.rollback - - rollback-ok
90 31 tx.rollback-ok - -
"""
ROWS = [line.split() for line in VECTOR.strip().splitlines()]


def test_no_method_is_missing_or_too_many(wire: Any) -> None:
    assert {(int(row[0]), int(row[1])) for row in ROWS} == set(wire.spec.METHODS)


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row[2])
def test_each_row(wire: Any, row: list[str]) -> None:
    class_id, method_id, name, letters, content, *replies = row
    method = wire.spec.METHODS[int(class_id), int(method_id)]
    assert method.sig == (int(class_id), int(method_id))
    assert method.name == name
    assert ''.join(letter for _, letter in method.args) == letters.strip('-')
    assert method.content is (content == 'content')
    class_name = name.partition('.')[0]
    assert [wire.spec.METHODS[sig].name for sig in method.replies] == [f'{class_name}.{reply}' for reply in replies]


def test_names_of_arguments_can_be_keyword_arguments(wire: Any) -> None:
    names = {name for method in wire.spec.METHODS.values() for name, _ in method.args}
    assert all(name.isidentifier() for name in names)


def test_namespaces_name_the_same_numbers(wire: Any) -> None:
    spec = wire.spec
    assert spec.Basic.Ack == (60, 80)
    assert spec.Basic.GetOk == (60, 71)
    assert spec.Basic.RecoverAsync == (60, 100)
    assert spec.Connection.UpdateSecretOk == (10, 71)
    assert spec.Exchange.UnbindOk == (40, 51)
    assert spec.Basic.CLASS_ID == 60
    spaces = (
        spec.Connection,
        spec.Channel,
        spec.Access,
        spec.Exchange,
        spec.Queue,
        spec.Basic,
        spec.Confirm,
        spec.Tx,
    )
    named = {value for space in spaces for value in vars(space).values() if isinstance(value, tuple)}
    assert named == set(spec.METHODS)


def test_names_in_error_texts_are_of_the_same_methods(wire: Any) -> None:
    names = {sig: name.lower().replace('_', '-') for sig, name in exceptions.METHOD_NAME_MAP.items()}
    assert names == {sig: method.name for sig, method in wire.spec.METHODS.items()}


def test_constants(wire: Any) -> None:
    spec = wire.spec
    assert (spec.FRAME_METHOD, spec.FRAME_HEADER, spec.FRAME_BODY, spec.FRAME_HEARTBEAT) == (1, 2, 3, 8)
    assert (spec.FRAME_END, spec.FRAME_MIN_SIZE, spec.FRAME_OVERHEAD) == (206, 4096, 8)
    codes = [200, 311, 312, 313, 320, 402, 403, 404, 405, 406, 501, 502, 503, 504, 505, 506, 530, 540, 541]
    assert sorted(spec.REPLY_CODES.values()) == codes
    assert spec.REPLY_CODES['not-found'] == 404


def test_properties(wire: Any) -> None:
    assert ''.join(letter for _, letter in wire.spec.PROPERTIES) == 'ssFoossssTssss'
    assert wire.spec.PROPERTIES[0][0] == 'content_type'
    assert wire.spec.PROPERTIES[2][0] == 'application_headers'
    assert wire.spec.PROPERTIES[13][0] == 'cluster_id'
