"""Several AMQP URIs: what counts as one, and errors that name the argument and show no secret."""

from __future__ import annotations

from typing import Any

import pytest

import gamqp
from gamqp.state.url_list import settings_of, split

SECRET = 'correct-horse-battery'


@pytest.mark.parametrize(
    ('value', 'urls'),
    [
        ('amqp://a', ['amqp://a']),
        ('amqp://a;amqp://b', ['amqp://a', 'amqp://b']),
        ('amqp://a ; amqps://b/v', ['amqp://a', 'amqps://b/v']),
        # part of a password, of a virtual host
        ('amqp://u:p;w@a;amqp://b', ['amqp://u:p;w@a', 'amqp://b']),
        ('amqp://a/v;w', ['amqp://a/v;w']),
        (['amqp://a'], ['amqp://a']),
        (('amqp://a', 'amqp://b;amqp://c'), ['amqp://a', 'amqp://b', 'amqp://c']),
        (iter(['amqp://a', 'amqp://b']), ['amqp://a', 'amqp://b']),
    ],
)
def test_what_is_one(value: Any, urls: list[str]) -> None:
    assert split(value) == urls


@pytest.mark.parametrize(
    ('value', 'error', 'text'),
    [
        ([], ValueError, 'url: the list has no AMQP URI'),
        (None, TypeError, 'url: an AMQP URI or a list of them is wanted, not NoneType'),
        (5, TypeError, 'url: .* not int'),
        (b'amqp://a', TypeError, 'url: .* not bytes'),
        ({'amqp://a': 1}, TypeError, 'url: .* not dict'),
        (['amqp://a', 5], TypeError, 'url: item 2 of the list .* but int'),
        (['amqp://a', None], TypeError, 'url: item 2 .* NoneType'),
        (['amqp://a', ['amqp://b']], TypeError, 'url: item 2 .* list'),
        (['amqp://a', 'http://b'], ValueError, "url: item 2 of 2: an AMQP URI begins with 'amqp://'"),
        (['amqp://a', ''], ValueError, 'url: item 2 of 2: an AMQP URI begins'),
        (f'amqp://a;amqp://u:{SECRET}#@b', ValueError, 'url: item 2 of 2'),
        (['amqp://a', f'amqp://u:{SECRET}@b?heartbeat=x'], ValueError, 'url: item 2 of 2: the parameter heartbeat'),
        (['amqp://a', 'amqp://b', 'amqp://a'], ValueError, 'url: items 1 and 3 are the same'),
        (['amqp://a', 'amqp://a:5672'], None, ''),
    ],
)
def test_what_cannot_be_meant(value: Any, error: Any, text: str) -> None:
    if error is None:
        assert len(settings_of(value, {}, 'connect')) == 2
        return
    for refuse in (lambda: settings_of(value, {}, 'connect'), lambda: gamqp.connect(value)):
        with pytest.raises(error, match=text) as caught:
            refuse()
        assert SECRET not in str(caught.value)
        assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize(
    'url', ['amqp://a;b', 'amqp://a,b/v', 'amqp://a,amqp://b', f'amqp://u:{SECRET}@a:1;b:2', 'amqp://a;']
)
def test_several_hosts_in_one_url_are_no_list(url: str) -> None:
    with pytest.raises(ValueError, match=r"several are 'amqp://one;amqp://two', or a list") as caught:
        gamqp.connect(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(('host', 'error'), [(['a', 'b'], TypeError), ('a;b', ValueError), ('a,b:1', ValueError)])
def test_nor_are_several_in_a_host(host: Any, error: Any) -> None:
    with pytest.raises(error, match=r'^host: .* several .*gamqp\.connect'):
        gamqp.Connection(host)


def test_each_has_its_own_and_arguments_go_before_all() -> None:
    urls = ['amqp://u:p@a:1/x?heartbeat=5&name=one', 'amqps://v:q@b/y?server_name_indication=z&connection_timeout=700']
    one, two = settings_of(urls, {'frame_max': 8192}, 'connect')
    assert (one.userid, one.password, one.address, one.virtual_host) == ('u', 'p', ('a', 1), 'x')
    assert (one.heartbeat, one.name, one.ssl) == (5, 'one', False)
    assert (two.userid, two.password, two.address, two.virtual_host) == ('v', 'q', ('b', 5671), 'y')
    assert (two.heartbeat, two.connect_timeout, two.ssl) == (None, 0.7, {'server_hostname': 'z'})
    assert one.frame_max == two.frame_max == 8192
    again = settings_of(urls, {'userid': 'w', 'heartbeat': 9}, 'connect')
    assert [(each.userid, each.heartbeat) for each in again] == [('w', 9), ('w', 9)]


def test_an_argument_that_is_wrong_is_not_the_fault_of_a_url() -> None:
    with pytest.raises(ValueError, match=r'^heartbeat: '):
        settings_of(['amqp://a', 'amqp://b'], {'heartbeat': -1}, 'connect')
    with pytest.raises(TypeError, match="connect: there is no argument 'heartbeet'; did you mean heartbeat"):
        settings_of(['amqp://a', 'amqp://b'], {'heartbeet': 1}, 'connect')
    with pytest.raises(ValueError, match=r'^host: several AMQP URIs have a host each'):
        settings_of(['amqp://a', 'amqp://b'], {'host': 'c'}, 'connect')


def test_doubles_may_be_left_out() -> None:
    found = settings_of(['amqp://a', 'amqp://b', 'amqp://a'], {}, 'connect', doubles=True)
    assert [one.host for one in found] == ['a', 'b']
