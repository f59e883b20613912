"""The record of what passed a proxy knows which messages a client has lost, and which are the broker's."""

from __future__ import annotations

from pathlib import Path

from proxy import Proxy
from wire_record import WireRecord

import gamqp
from gamqp.testing import Broker


def test_who_has_lost_a_message(tmp_path: Path) -> None:
    record = WireRecord(tmp_path)
    with Broker() as broker, Proxy(broker.port, record=record) as proxy:
        url = broker.url.replace(f':{broker.port}/', f':{proxy.port}/')
        with gamqp.connect(url) as publishing:
            channel = publishing.channel()
            channel.queue_declare('jobs', durable=True, auto_delete=False)
            for receipt in [channel.publish(body, '', 'jobs') for body in ('acked', 'kept', 'ready')]:
                receipt.wait()
        with gamqp.connect(url) as consuming:
            messages = consuming.channel().consume('jobs', prefetch=1)
            next(messages).ack()
            assert next(messages).body == 'kept'
        cut = gamqp.connect(url)
        messages = cut.channel().consume('jobs', prefetch=1)
        assert next(messages).body == 'kept'
        proxy.cut()
        cut.collect()
    record.read()
    missing = [b'acked', b'kept', b'ready', b'never']
    faults = {b'acked': 'was settled', b'never': 'was not confirmed'}
    assert record.faults_of_client(missing, back=[b'ready']) == faults, 'it may have been given back, and lost then'
    faults[b'kept'] = 'was delivered, and kept until the connection was closed'
    assert record.faults_of_client(missing, back=[b'ready', b'kept']) == faults
