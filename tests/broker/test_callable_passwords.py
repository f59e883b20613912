"""CallablePasswords: each callable is asked once a login, and nothing that it gave is kept."""

from __future__ import annotations

import base64
import json

from gamqp.connection.callable_passwords import CallablePasswords


def token(end: float) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip('=') for one in ({}, {'exp': end})]
    return '.'.join([*parts, 'signature'])


def test_a_callable_of_several_mechanisms_is_asked_once() -> None:
    passwords, asked = CallablePasswords(), []

    def ask() -> str:
        asked.append(1)
        return 'secret'

    passwords.ask([ask, ask])
    assert passwords.take(ask) == 'secret'
    assert len(asked) == 1


def test_what_was_given_is_taken_once_and_asked_for_afterwards() -> None:
    """A mechanism may be started outside of a login, by a program of its own."""
    passwords, given = CallablePasswords(), iter(['first', 'second'])
    ask = given.__next__
    passwords.ask([ask])
    assert passwords.take(ask) == 'first'
    assert passwords.take(ask) == 'second'


def test_nothing_is_kept_and_nothing_is_shown() -> None:
    passwords = CallablePasswords()
    passwords.ask([lambda: 'secret'])
    assert not passwords.is_empty
    assert 'secret' not in repr(passwords)
    passwords.forget()
    assert passwords.is_empty


def test_the_end_of_a_token_is_known_also_when_the_token_is_not() -> None:
    passwords = CallablePasswords()
    passwords.ask([lambda: token(2e9)])
    passwords.forget()
    assert passwords.end == 2e9
    passwords.ask([lambda: 'no token'])
    assert passwords.end is None
