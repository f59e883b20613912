"""One error for several hosts: the class of the most telling one, and in the text why each failed."""

from __future__ import annotations

import errno
import pickle
import socket
import ssl
from typing import Any

import pytest

from gamqp import exceptions
from gamqp.state.connect_failures import ConnectFailures

REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, 'Connection refused: 10.0.0.1 port 5672')
LATE = TimeoutError('b: no Connection.start from the broker within 3 s')
UNKNOWN = socket.gaierror(socket.EAI_NONAME, 'b: Name or service not known')
LOGIN = exceptions.AccessRefused('ACCESS_REFUSED - Login was refused', (10, 11))
VHOST = exceptions.NotAllowed('NOT_ALLOWED - vhost x not found', (10, 40))
GONE = exceptions.RecoverableConnectionError('the broker closed the socket')
CERTIFICATE = ssl.SSLCertVerificationError(1, 'b:5671: the certificate is refused: it has expired')
CERTIFICATE.verify_code = 10


def of(*errors: Exception) -> Exception:
    failures = ConnectFailures()
    for number, error in enumerate(errors):
        failures.add(f'host-{number}', error)
    return failures.take_error()


def test_a_single_one_is_itself() -> None:
    assert of(REFUSED) is REFUSED


@pytest.mark.parametrize(
    ('errors', 'telling'),
    [
        ((LOGIN, REFUSED, LATE, VHOST, CERTIFICATE), LOGIN), ((REFUSED, LATE), LATE), ((LATE, REFUSED), LATE),
        ((REFUSED, CERTIFICATE, LATE), CERTIFICATE), ((CERTIFICATE, VHOST, GONE), VHOST), ((GONE, LATE), GONE),
        ((UNKNOWN, REFUSED), UNKNOWN), ((GONE, CERTIFICATE), CERTIFICATE), ((LATE, UNKNOWN), UNKNOWN),
    ],
)  # fmt: skip
def test_the_most_telling_one_has_the_class_and_each_has_its_words(errors: Any, telling: Exception) -> None:
    before = [str(error) for error in errors]
    error = of(*errors)
    assert type(error) is type(telling) and error is not telling
    assert error.__traceback__ is None
    text = str(error)
    assert text.startswith(str(telling))
    for number, one in enumerate(errors):
        assert f'host-{number}' in text
        if one is not telling:
            assert f'host-{number}: {type(one).__name__}: {one}' in text
    assert [str(each) for each in errors] == before  # they are others' too
    for name in ('errno', 'reply_code', 'method_sig', 'verify_code'):
        assert getattr(error, name, None) == getattr(telling, name, None)
    assert str(pickle.loads(pickle.dumps(error))) == text


def test_among_equals_the_last_counts() -> None:
    other = ConnectionRefusedError(errno.ECONNREFUSED, 'Connection refused: 10.0.0.2 port 5672')
    assert str(of(REFUSED, other)).startswith(str(other))


def test_a_hint_of_its_own_stays() -> None:
    error = exceptions.AccessRefused('ACCESS_REFUSED', (10, 11))
    error.hint = 'wrong password'
    assert 'wrong password; at host-1; host-0: ' in str(of(REFUSED, error))
    assert error.hint == 'wrong password'


def test_the_cause_stays() -> None:
    lost = exceptions.RecoverableConnectionError('connection lost')
    lost.__cause__ = LATE
    assert of(REFUSED, lost).__cause__ is LATE


def test_a_class_that_cannot_be_copied_is_told_all_the_same() -> None:
    class Odd(OSError):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f'{one} {two}')

    error = of(REFUSED, Odd(1, 2))
    assert isinstance(error, exceptions.RecoverableConnectionError)
    assert 'Odd: 1 2' in str(error) and 'host-0' in str(error)


def test_a_long_text_is_cut() -> None:
    assert len(str(of(OSError('x' * 10_000), LOGIN))) < 600
