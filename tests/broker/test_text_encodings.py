"""Text that is published: by which content_encoding it goes out, and those that are refused before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest
from script import ScriptedBroker

import gamqp
from gamqp import exceptions


@pytest.mark.parametrize('encoding', ['latin-1', b'latin-1'])
def test_text_goes_out_in_the_encoding_it_names(peer: ScriptedBroker, channel: gamqp.Channel, encoding: Any) -> None:
    channel.basic_publish(gamqp.Message('grün', content_encoding=encoding), '', 'q')
    assert peer.expect('basic.publish').body == b'gr\xfcn'


@pytest.mark.parametrize('encoding', ['a\0b', b'a\0b', b'\xff', 5, 'no such', 'hex', 'ascii'])
def test_an_encoding_that_is_none_is_an_encode_error(
    peer: ScriptedBroker, client: gamqp.Connection, channel: gamqp.Channel, encoding: Any
) -> None:
    with pytest.raises(exceptions.EncodeError, match='cannot be encoded by content_encoding'):
        channel.basic_publish(gamqp.Message('grün', content_encoding=encoding), '', 'q')
    assert client.connected
