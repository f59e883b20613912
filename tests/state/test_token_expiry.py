"""The end of a token, read without verifying anything."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gamqp.state.token_expiry import end_of


def jwt(claims: Any) -> str:
    return f'head.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")}.signature'


@pytest.mark.parametrize('more', ['', 'x', 'xx', 'xxx', 'ä?>~'])
def test_the_end_of_a_jwt(more: str) -> None:
    assert end_of(jwt({'exp': 1700000000, 'sub': more})) == 1700000000


@pytest.mark.parametrize(
    'token',
    [
        '', 'guest', 'a.b', 'a.b.c', '..', 'ä.ä.ä', f'a.{"A" * 10_000}.c', f'a.{"W1tb" * 50_000}.c',
        jwt({}), jwt([]), jwt('exp'), jwt(5), jwt(None), jwt({'exp': '1700000000'}), jwt({'exp': True}),
        jwt({'exp': None}), jwt({'exp': []}), jwt({'exp': float('nan')}), jwt({'exp': float('inf')}),
        jwt({'exp': 10**400}),
    ],
    ids=lambda token: token[:20],
)  # fmt: skip
def test_other_texts_have_none(token: str) -> None:
    assert end_of(token) is None
