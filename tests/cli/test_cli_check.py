"""``gamqp check``: what it finds, and what it says is to be done, with real brokers and scripted peers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import greenlets
import pytest
from broker_tools import in_thread
from certificates import Certificates
from commands import Done, finished, gamqp, started
from node import Node
from script import ScriptedBroker
from tls_proxy import Front

from gamqp.cli.node_names import guesses, named, number_of

SECRET = 'p4ss-w0rd'


def steps(done: Done, broker: str = '') -> dict[str, Any]:
    """Step -> its line, of one broker where there are several."""
    return {line['step']: line for line in done.lines if line['broker'] == broker or not broker}


def results(done: Done, broker: str = '') -> dict[str, str]:
    return {step: line['result'] for step, line in steps(done, broker).items()}


@pytest.fixture
def listener() -> Iterator[Any]:
    """Takes connections (the kernel does) and says nothing."""
    sock = greenlets.backend.socket_class()()
    sock.bind(('127.0.0.1', 0))
    sock.listen(5)
    yield sock
    sock.close()


@pytest.fixture
def black_hole() -> Iterator[str]:
    """An address that drops what comes: the queue of its listener is full."""
    make = greenlets.backend.socket_class()
    listener = make()
    listener.bind(('127.0.0.1', 0))
    listener.listen(0)
    fillers = [make() for _ in range(3)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
    yield f'127.0.0.1:{listener.getsockname()[1]}'
    for sock in (*fillers, listener):
        sock.close()


def test_a_broker_that_can_be_used(rabbit: Any) -> None:
    done = gamqp('check', '--json', url=rabbit.url)
    assert done.code == 0 and done.err == '', done
    assert set(results(done).values()) == {'ok'}, done.out
    told = steps(done)
    assert list(told) == [
        *('name', 'address', 'broker', 'capabilities', 'login', 'limits', 'virtual host', 'queue', 'publish'),
        *('blocked', 'consume', 'node', 'clock', 'heartbeat'),
    ]
    assert told['broker']['product'] == 'RabbitMQ' and told['broker']['version'].startswith(rabbit.version[:3])
    assert told['broker']['cluster_name'] and 'publisher_confirms' in told['capabilities']['capabilities']
    assert told['node']['name'] == rabbit.node.nodename
    assert told['limits']['frame_max'] == 131072 and told['limits']['heartbeat'] == 60
    assert abs(told['clock']['skew']) < 5
    with rabbit.connect() as connection:  # nothing is left
        assert not [one for one in rabbit.node.api(f'queues/{quote(rabbit.vhost, "")}') if one['exclusive']]
        assert connection.is_open


@pytest.mark.any_broker
def test_the_management_api_tells_which_node(rabbit: Any) -> None:
    password, user = SECRET, 'check.management'
    rabbit.node.api(f'users/{user}', 'PUT', {'password': password, 'tags': 'management'})
    rights = dict.fromkeys(('configure', 'write', 'read'), '')
    rabbit.node.api(f'permissions/{quote(rabbit.vhost, "")}/{user}', 'PUT', rights)
    api = rabbit.node.management.removeprefix('http://')
    try:
        for url, result, found in (
            (f'http://{api}', 'ok', rabbit.node.nodename),
            (f'http://{user}:{password}@{api}/', 'ok', rabbit.node.nodename),
            (f'http://{user}:wrong-{password}@{api}', 'warning', '401'),
            (f'http://{user}:{password}@127.0.0.1:1', 'warning', 'refused'),
        ):
            done = gamqp('check', '--json', '--no-heartbeat', '--management', url, url=rabbit.url)
            node = steps(done)['node']
            assert (done.code, node['result']) == (0, result) and found in node['found'], done
            assert password not in done.out + done.err
    finally:
        rabbit.node.api(f'users/{user}', 'DELETE')
    done = gamqp('check', '--management', f'ftp://{password}', url=rabbit.url)
    assert done.code == 64 and '--management' in done.err and password not in done.err + done.out


def test_numbers_of_nodes_and_what_nodes_may_be_called() -> None:
    """The numbers are Erlang's, of two nodes."""
    names = {'gamqp-5645-3c6578@localhost': '99439732', 'gamqp-5645-224c06@localhost': '56333636'}
    for name, number in names.items():
        assert named(number, ['rabbit@elsewhere', *names]) == name
    assert named('1', names) == named('', names) == ''
    found = guesses('rabbit@one.example.com', ['broker.example.com'])
    assert {'rabbit@one', 'rabbit@one.example.com', 'rabbit@broker', 'rabbit@localhost'} <= set(found)
    assert 'rabbit@broker' in guesses('orders', ['broker.example.com']) and guesses('', [])[0] == 'rabbit@localhost'
    # Not after its first node, but after another one, and by an operator that has named it.
    for cluster, host, name in (
        ('rabbit@mq-0.mq-headless.shop.svc', '10.0.0.5', 'rabbit@mq-2.mq-headless.shop.svc'),
        ('hare@node01', 'balancer', 'hare@node03'),
        ('orders', 'orders.shop.svc.cluster.local', 'rabbit@orders-server-2.orders-nodes.shop'),
        ('заказы @@ 1', '[::1]', 'rabbit@localhost'),
    ):
        assert named(str(number_of(name)), guesses(cluster, [host])) == name
    assert named('1', guesses('rabbit@mq-0', ['mq-0.example.com'])) == ''


@pytest.mark.any_broker
def test_what_is_wrong_below_amqp_and_at_the_login(
    rabbit: Any, listener: Any, black_hole: str, certificates: Certificates
) -> None:
    """All in one process: each broker by its own address."""
    port = rabbit.node.port
    silent = f'127.0.0.1:{listener.getsockname()[1]}'
    with greenlets.backend.socket_class()() as sock:
        sock.bind(('127.0.0.1', 0))
        unused = f'127.0.0.1:{sock.getsockname()[1]}'
    server, trust = certificates.server, certificates.trust
    with (
        Front(port, server) as good,
        Front(port, certificates.leaf('expired', expired=True)) as expired,
        Front(port, certificates.leaf('elsewhere', names=('elsewhere.test',))) as elsewhere,
    ):
        wrong = {
            unused: f'amqp://app:{SECRET}@{unused}',
            black_hole: f'amqp://app:{SECRET}@{black_hole}',
            silent: f'amqp://app:{SECRET}@{silent}',
            'no-such-host.invalid': f'amqp://app:{SECRET}@no-such-host.invalid',
            f'127.0.0.1:{port}': f'amqp://nobody:{SECRET}@127.0.0.1:{port}',
            'tls': f'amqps://app:{SECRET}@127.0.0.1:{port}',
            f'localhost:{port}': f'amqp://localhost:{port}/no-such-virtual-host',
            good.host: f'amqp://app:{SECRET}@{good.host}',
            expired.host: f'amqps://app:{SECRET}@{expired.host}?cacertfile={trust}',
            elsewhere.host: f'amqps://app:{SECRET}@{elsewhere.host}?cacertfile={trust}',
        }
        done = gamqp('check', '--json', '--timeout', '2', *wrong.values())
    assert done.code == 1
    assert SECRET not in done.out + done.err
    lines = done.lines
    failed = [
        (line['broker'], line['step'], line['found'], line['advice']) for line in lines if line['result'] == 'failed'
    ]
    expected = [
        (unused, 'address', 'refused', 'is the broker up, and is it this port'),
        (black_hole, 'address', 'no answer', 'firewall'),
        (silent, 'AMQP', 'no Connection.start', 'says nothing'),
        ('no-such-host.invalid', 'name', 'no address', 'name service'),
        (f'127.0.0.1:{port}', 'login', 'ACCESS_REFUSED', 'authenticate_user nobody'),
        (f'127.0.0.1:{port}', 'certificate', 'does not speak TLS', 'use amqp://'),
        (f'localhost:{port}', 'virtual host', 'not found', "add_vhost 'no-such-virtual-host'"),
        (good.host, 'AMQP', 'no AMQP', 'use amqps://'),
        (expired.host, 'certificate', 'CN=expired', 'has expired'),
        (expired.host, 'trust', 'has expired', 'new one'),
        (elsewhere.host, 'trust', 'mismatch', 'server_name_indication'),
    ]
    assert len(failed) == len(expected), json.dumps(failed, indent=1)
    for (broker, step, found, advice), line in zip(expected, failed, strict=True):
        assert (broker, step) == line[:2], line
        assert found in line[2] and advice in line[3], line


def test_the_facts_of_a_certificate(rabbit: Any, certificates: Certificates) -> None:
    with Front(rabbit.node.port, certificates.server) as front:
        vhost = quote(rabbit.vhost, '')
        url = f'amqps://guest:guest@{front.host}/{vhost}?cacertfile={certificates.trust}'
        done = gamqp('check', '--json', '--no-heartbeat', url)
    assert done.code == 0, done
    facts = steps(done)['certificate']
    assert facts['tls_version'] == 'TLSv1.3' and facts['names'] == ['localhost', '127.0.0.1', 'broker.test']
    assert facts['subject'] == 'CN=server' and facts['issuer'] == 'CN=gamqp test authority ca'
    assert facts['result'] == 'warning' and 'expires in' in facts['advice']  # these certificates are for a day
    assert re.fullmatch('[0-9a-f]{64}', facts['sha256'])


@pytest.mark.parametrize(
    ('permissions', 'step', 'advice'),
    [
        (('', '.*', '.*'), 'queue', 'may not configure'),
        (('.*', '^amq.gen', '.*'), 'publish', "may not write to 'amq.default'"),
        (('.*', '.*', ''), 'consume', 'may not read'),
    ],
)
@pytest.mark.any_broker
def test_missing_permissions(rabbit: Any, permissions: tuple[str, str, str], step: str, advice: str) -> None:
    user, vhost = f'check.{step}', quote(rabbit.vhost, '')
    rabbit.node.api(f'users/{user}', 'PUT', {'password': SECRET, 'tags': ''})
    try:
        rights = dict(zip(('configure', 'write', 'read'), permissions, strict=True))
        rabbit.node.api(f'permissions/{vhost}/{user}', 'PUT', rights)
        done = gamqp('check', '--json', f'amqp://{user}:{SECRET}@127.0.0.1:{rabbit.node.port}/{vhost}')
    finally:
        rabbit.node.api(f'users/{user}', 'DELETE')
    assert done.code == 1 and SECRET not in done.out
    last = done.lines[-1]
    assert (last['step'], last['result']) == (step, 'failed') and advice in last['advice'], last


@pytest.mark.any_broker
@pytest.mark.slow
def test_a_memory_alarm(node: Node) -> None:
    node.set_memory_watermark(0.0)
    try:
        done = gamqp('check', '--json', '--timeout', '3', node.url())
    finally:
        node.set_memory_watermark(0.4)
    assert done.code == 1
    last = done.lines[-1]
    assert (last['step'], last['result']) == ('blocked', 'failed') and 'memory' in last['reason'], last
    assert 'vm_memory_high_watermark' in last['advice']


class TestScripted:
    """Brokers that there are not to be had."""

    @pytest.fixture
    def skipping(self, peer: ScriptedBroker) -> ScriptedBroker:
        """The peer takes the connection that only looks at the address before the one that speaks."""
        accept = peer.accept

        def accept_second(*args: Any) -> None:
            peer.dismiss()
            accept(*args)

        peer.accept = accept_second
        return peer

    def test_a_frame_max_that_is_too_small(self, skipping: ScriptedBroker) -> None:
        properties = {'product': 'RabbitMQ', 'version': '4.3.0', 'platform': 'Script'}
        with started('check', '--json', '--timeout', '3', f'amqp://{skipping.host}?frame_max=4096') as process:
            skipping.accept()
            skipping.shake_hands('tune', properties=properties)
            skipping.send('connection.tune', channel_max=2047, frame_max=131072, heartbeat=60)
            done = in_thread(finished, process)
        assert done.code == 1
        last = done.lines[-1]
        assert (last['step'], last['result']) == ('limits', 'failed') and 'no less than 8192' in last['advice'], last
        assert steps(done)['capabilities']['result'] == 'warning'  # one without any

    def test_a_broker_that_does_not_answer_the_login(self, skipping: ScriptedBroker) -> None:
        with started('check', '--json', '--timeout', '1', f'amqp://{skipping.host}') as process:
            skipping.accept()
            skipping.shake_hands('tune')
            done = in_thread(finished, process)
        assert done.code == 1
        last = done.lines[-1]
        assert (last['step'], last['result']) == ('login', 'failed') and 'backend' in last['advice'], last
