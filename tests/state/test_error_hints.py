"""What is said beside the broker's own words."""

from __future__ import annotations

import pickle

import pytest

from gamqp import exceptions
from gamqp.state.error_hints import add_hint, at_login, idle, name_consumer

LATE = 'PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms'


def refusal(code: int, text: str) -> exceptions.AMQPError:
    return exceptions.error_for_code(code, text, (60, 80), exceptions.ChannelError)


@pytest.mark.parametrize(
    ('code', 'text', 'hint'),
    [
        (540, "NOT_IMPLEMENTED - queue 'q' in vhost '/' does not support global qos", 'a_global=False'),
        (541, 'INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.', 'durable=True'),
        (406, LATE, 'consumer_timeout'),
        (406, 'PRECONDITION_FAILED - unknown delivery tag 7', 'settled twice'),
        (540, 'NOT_IMPLEMENTED - basic.nack and basic.reject not supported by stream queues', 'ack what you have read'),
    ],
)
def test_a_hint_stands_beside_the_text(code: int, text: str, hint: str) -> None:
    error = add_hint(refusal(code, text))
    assert error.reply_text == text
    assert error.hint is not None and hint in error.hint
    assert text in str(error) and error.hint in str(error)


def test_most_errors_have_none() -> None:
    assert add_hint(refusal(404, "NOT_FOUND - no queue 'q'")).hint is None
    assert add_hint(refusal(404, LATE)).hint is None  # the code counts, too


def test_a_late_settlement_names_the_delivery() -> None:
    error = name_consumer(add_hint(refusal(406, LATE)), (7, 'slow', 1.0))
    assert isinstance(error, exceptions.ConsumerTimeout)
    assert (error.consumer_tag, error.delivery_tag, error.reply_code) == ('slow', 7, 406)
    assert "delivery 7 of consumer 'slow'" in str(error)
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), copied.consumer_tag, copied.delivery_tag) == (exceptions.ConsumerTimeout, 'slow', 7)


def test_a_late_settlement_of_what_nobody_knows() -> None:
    error = name_consumer(refusal(406, LATE), None)
    assert isinstance(error, exceptions.ConsumerTimeout)
    assert (error.consumer_tag, error.delivery_tag) == ('', None)


def test_another_error_stays_what_it_is() -> None:
    for error in (refusal(406, 'PRECONDITION_FAILED - unknown delivery tag 7'), refusal(404, LATE)):
        assert name_consumer(error, (7, 'slow', 1.0)) is error


@pytest.mark.parametrize('user', ['guest', 'me', ''])
def test_a_refused_login_says_whose_and_where(user: str) -> None:
    error = at_login(exceptions.AccessRefused('ACCESS_REFUSED - Login was refused'), 'h:1', user, '/')
    assert f'user {user!r} at h:1' in str(error)
    assert ('localhost' in str(error)) is (user == 'guest')
    assert at_login(exceptions.AccessRefused('x'), 'h:1', None, '/').hint is None  # a certificate, not a password


def test_a_virtual_host_without_a_name_says_where_it_comes_from() -> None:
    text = 'NOT_ALLOWED - vhost  not found'
    assert "a '/' at the end of a URL" in str(at_login(exceptions.NotAllowed(text), 'h', 'me', ''))
    assert at_login(exceptions.NotAllowed(text), 'h', 'me', 'v').hint is None
    assert at_login(exceptions.NotAllowed('refused for user'), 'h', 'me', '').hint is None


def test_a_connection_that_was_idle_before_it_was_closed_says_so() -> None:
    assert idle(2, 1000, 60) is None
    said = idle(50.2, 49.6, 60) or ''
    assert 'came 50 s before' in said and 'went 50 s before' in said and 'every 60 s' in said and 'balancer' in said
    assert 'heartbeats were off' in (idle(50, 50, 0) or '')
