"""Queues, exchanges and bindings by commands."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import broker_tools
import greenlets
import pytest
from certificates import Certificates
from commands import PATIENCE, gamqp
from installed import is_installed
from tls_proxy import Front

from gamqp import Message
from gamqp.cli.exit_codes import UsageError
from gamqp.cli.management import ManagementAPI
from gamqp.cli.topology_file import QueueEntry, read_topology
from gamqp.state import connection_settings

SECRET = 'p4ss-w0rd'


@pytest.mark.any_broker
@pytest.mark.slow
def test_made_bound_purged_and_deleted(rabbit: Any, messages: Callable[[str], list[Message]]) -> None:
    def run(*arguments: str) -> Any:
        done = gamqp(*arguments, url=rabbit.url)
        assert done.code == 0 and done.err == '', done
        return done.lines

    queue = broker_tools.fresh_name()
    arguments = ('-a', 'x-max-length=5', '-a', 'note:str=7')
    assert run('declare', 'queue', queue, *arguments) == [{'queue': queue, 'messages': 0, 'consumers': 0}]
    done = gamqp('declare', 'queue', queue, '-a', 'x-max-length=6', url=rabbit.url)
    assert done.code == 1 and "inequivalent arg 'x-max-length'" in done.err
    assert run('declare', 'exchange', 'topics', '--type', 'topic') == [{'exchange': 'topics'}]
    assert run('declare', 'exchange', 'inner', '--type', 'fanout', '--internal') == [{'exchange': 'inner'}]
    run('bind', 'topics', 'inner', '--to-exchange', '--key', '#')
    run('bind', 'inner', queue)
    assert gamqp('publish', '-e', 'topics', '-k', 'a.b', '-b', 'x', '--mandatory', url=rabbit.url).code == 0
    done = gamqp('publish', '-e', 'inner', '-b', 'x', url=rabbit.url)
    assert done.code == 1 and 'ACCESS_REFUSED' in done.err  # an internal one
    done = gamqp('delete', 'queue', queue, '--if-empty', url=rabbit.url)
    assert done.code == 1 and 'not empty' in done.err
    assert run('purge', queue) == [{'queue': queue, 'messages': 1}]
    run('bind', 'inner', queue, '--remove')
    assert gamqp('publish', '-e', 'topics', '-k', 'a.b', '-b', 'x', '--mandatory', url=rabbit.url).code == 2
    assert run('delete', 'queue', queue) == [{'queue': queue, 'messages': 0}]
    assert gamqp('delete', 'queue', queue, url=rabbit.url).code == 2
    for exchange in ('topics', 'inner'):
        assert run('delete', 'exchange', exchange) == [{'exchange': exchange}]
    assert gamqp('delete', 'exchange', 'inner', url=rabbit.url).code == 2
    assert gamqp('purge', queue, url=rabbit.url).code == 2
    assert gamqp('bind', 'inner', queue, url=rabbit.url).code == 2


@pytest.mark.any_broker
def test_a_file_declared_and_compared(rabbit: Any, tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, dict[str, str]]:
        done = gamqp('topology', str(file), *arguments, url=rabbit.url)
        return done.code, {f'{line["kind"]} {line["name"]}': line['result'] for line in done.lines}

    file = tmp_path / 'topology.json'
    topology = {
        'rabbit_version': 'of an export',
        'users': [{'name': 'left out'}],
        'exchanges': [{'name': 'in', 'type': 'topic'}, {'name': 'inner', 'type': 'fanout', 'internal': True}],
        'queues': [
            {
                'name': 'work',
                'vhost': rabbit.vhost,
                'type': 'quorum',
                'durable': True,
                'auto_delete': False,
                'arguments': {'x-delivery-limit': 5},
            },
            {'name': 'elsewhere', 'vhost': 'another'},
        ],
        'bindings': [
            {'source': 'in', 'destination': 'inner', 'destination_type': 'exchange', 'routing_key': '#'},
            {'source': 'inner', 'destination': 'work'},
        ],
    }
    file.write_text(json.dumps(topology))
    names = ('exchange in', 'exchange inner', 'queue work')
    assert run('--check') == (
        1,
        {**dict.fromkeys(names, 'missing'), 'binding in -> inner': 'unknown', 'binding inner -> work': 'unknown'},
    )
    bound = {'binding in -> inner': 'bound', 'binding inner -> work': 'bound'}
    assert run() == (0, {**dict.fromkeys(names, 'created'), **bound})
    assert run() == (0, {**dict.fromkeys(names, 'exists'), **bound})
    management = ('--check', '--management', rabbit.node.management)
    assert run(*management) == (0, dict.fromkeys((*names, *bound), 'exists'))
    with rabbit.connect() as connection:
        channel = connection.channel()
        channel.publish('x', 'in', 'any', mandatory=True).wait()
        topology['queues'][0]['arguments'] = {'x-delivery-limit': 6}
        file.write_text(json.dumps(topology))
        done = gamqp('topology', str(file), '--check', url=rabbit.url)
        (differs,) = (line for line in done.lines if line['result'] == 'differs')
        assert done.code == 1 and differs['name'] == 'work' and "'x-delivery-limit'" in differs['found']
        topology['queues'][0]['arguments'] = {'x-delivery-limit': 5}
        file.write_text(json.dumps(topology))
        channel.queue_unbind('work', 'inner')
        channel.queue_bind('work', 'in', 'old', arguments={'x': 1})
        channel.queue_bind(channel.queue_declare(exclusive=True).queue, 'in')  # of somebody else
        done = gamqp('topology', str(file), *management, url=rabbit.url)
        assert done.code == 1 and [line for line in done.lines if line['result'] != 'exists'] == [
            {'kind': 'binding', 'name': 'inner -> work', 'result': 'missing', 'key': ''},
            {
                'kind': 'binding',
                'name': 'in -> work',
                'result': 'extra',
                'key': 'old',
                'arguments': {'x': 1},
                'found': 'not in the file',
            },
        ]
        done = gamqp('topology', str(file), '--check', '--management', f'http://x:{SECRET}@127.0.0.1:1', url=rabbit.url)
        assert done.code == 1 and 'refused' in done.err and SECRET not in done.err
        channel.queue_delete('work')
        for exchange in ('in', 'inner'):
            channel.exchange_delete(exchange)


@pytest.mark.parametrize(
    ('text', 'error'),
    [
        ('[', 'Expecting'),
        ('[]', 'an object with exchanges'),
        ('{"queus": []}', "unknown key 'queus'"),
        ('{"queues": {}}', 'queues is a list'),
        ('{"queues": [1]}', 'queues, number 1: an object'),
        ('{"queues": [{}]}', 'name must be given'),
        ('{"queues": [{"name": 5}]}', 'name must be str'),
        ('{"queues": [{"name": "a", "durabel": true}]}', "unknown key 'durabel'"),
        ('{"bindings": [{"source": "a"}]}', 'source, destination must be given'),
        ('{"exchanges": [{"name": "a", "arguments": []}]}', 'arguments must be dict'),
    ],
)
def test_what_is_no_topology(text: str, error: str, tmp_path: Path) -> None:
    file = tmp_path / 'topology.json'
    file.write_text(text)
    with pytest.raises(UsageError, match=error):
        read_topology(str(file), '/')


def test_the_same_in_yaml(tmp_path: Path) -> None:
    file = tmp_path / 'topology.yaml'
    file.write_text('queues:\n- name: work\n  arguments: {x-max-length: 5}\n')
    if not is_installed('yaml'):
        with pytest.raises(UsageError, match='PyYAML'):
            read_topology(str(file), '/')
        return
    assert read_topology(str(file), '/').queues == [QueueEntry('work', arguments={'x-max-length': 5})]
    file.write_text('queues: [')
    with pytest.raises(UsageError):
        read_topology(str(file), '/')


@pytest.mark.parametrize('scheme', ['http', 'https'])
def test_other_greenlets_run_while_the_management_is_asked(
    scheme: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('SSL_CERT_FILE', str(certificates.trust))
    another_ran, asked = threading.Event(), threading.Event()

    def answer() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.recv(10_000)
            asked.set()
            if another_ran.wait(PATIENCE):
                sock.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n[{"name": "rabbit@a"}]')

    def another() -> None:
        greenlets.wait_until(asked.is_set, PATIENCE)
        another_ran.set()

    with socket.create_server(('127.0.0.1', 0)) as listener:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        with Front(port, certificates.server) as front:
            where = f'localhost:{front.port if scheme == "https" else port}'
            greenlet = greenlets.spawn(another)
            api = ManagementAPI(f'{scheme}://{where}', connection_settings.from_uri('amqp://guest:guest@localhost', {}))
            assert api.node_names() == ['rabbit@a']
            greenlet.get()
        thread.join(PATIENCE)
