"""Many TLS connections at once: turns of the hub between their handshakes, and one context for one set of options."""

from __future__ import annotations

import itertools
import os
import shutil
import ssl
from typing import Any

import greenlets
import inside
import pytest
from certificates import Certificates
from tls_proxy import Front

from gamqp.transport import SSLTransport
from gamqp.transport.tls_context import MOST_CONTEXTS, make_context

MANY = 20


class Engine:
    """A TLS engine, and when it was asked to go on with its handshake."""

    def __init__(self, engine: Any, log: list[str]) -> None:
        self._engine, self._log = engine, log

    def do_handshake(self) -> Any:
        self._log.append('step')
        return self._engine.do_handshake()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class LoggingContext(ssl.SSLContext):
    log: list[str]

    def wrap_bio(self, *args: Any, **arguments: Any) -> Any:
        return Engine(super().wrap_bio(*args, **arguments), self.log)


def test_the_hub_has_a_turn_between_two_steps_of_handshakes(certificates: Certificates) -> None:
    context = LoggingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates.trust)
    log = context.log = []
    ticking = [True]

    def tick() -> None:
        log.append('turn')
        if ticking:
            greenlets.backend.call_later(0.000001, tick)

    with Front(None, certificates.server) as front:
        transports = [SSLTransport(front.host, 20, context, backend=greenlets.backend) for _ in range(MANY)]
        tick()
        tasks = [greenlets.spawn(transport.connect) for transport in transports]
        for task in tasks:
            task.get(20)
        ticking.clear()
        for transport in transports:
            transport.close()
    assert log.count('step') >= 2 * MANY
    assert not any(one == other == 'step' for one, other in itertools.pairwise(log))


def test_a_handshake_that_is_killed_while_it_waits_for_its_turn_keeps_nobody_waiting(
    certificates: Certificates,
) -> None:
    with Front(None, certificates.server) as front:
        options = {'ca_certs': certificates.trust}
        transports = [SSLTransport(front.host, 20, options, backend=greenlets.backend) for _ in range(MANY)]
        tasks = [greenlets.spawn(transport.connect) for transport in transports]
        greenlets.sleep()
        for task in tasks[::2]:
            task.kill()
        for task in tasks[1::2]:
            task.get(20)
        for transport in transports:
            transport.close()


def test_the_same_options_are_one_context_until_a_file_is_renewed(certificates: Certificates, tmp_path: Any) -> None:
    authority = tmp_path / 'authority.pem'
    shutil.copyfile(certificates.trust, authority)
    options = {'ca_certs': str(authority)}
    first, _ = make_context(options, 'host')
    assert make_context(dict(options), 'other')[0] is first
    assert make_context({**options, 'server_hostname': 'name'}, 'host')[0] is first
    assert make_context({**options, 'check_hostname': False}, 'host')[0] is not first
    assert make_context({**options, 'ciphers': 'HIGH'}, 'host')[0] is not first
    os.utime(authority, ns=(1, 1))
    assert make_context(options, 'host')[0] is not first
    assert make_context(True, 'host')[0] is make_context(True, 'host')[0]


def test_a_password_is_part_of_the_options_and_not_kept(certificates: Certificates) -> None:
    locked = certificates.client('locked', password='s3cret')
    make_context({**locked.files, 'password': 's3cret'}, 'host')
    with pytest.raises(ssl.SSLError, match='wrong password of the key'):
        make_context({**locked.files, 'password': 'another'}, 'host')
    assert 's3cret' not in repr(inside.tls_contexts())


def test_only_the_latest_contexts_are_kept() -> None:
    for number in range(MOST_CONTEXTS + 5):
        make_context({'context': {'cadata': None}, 'server_hostname': str(number)}, 'host')
        make_context({'ciphers': ':'.join(['HIGH'] * (number + 1))}, 'host')
    assert len(inside.tls_contexts()) <= MOST_CONTEXTS
