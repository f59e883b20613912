"""A Celery worker and its clients on the TLS listener of a real broker, each a process of its own."""

from __future__ import annotations

import signal
import ssl
import uuid
from pathlib import Path

import greenlets
import pytest
from celery_processes import PATIENCE, Application
from certificates import Certificates
from installed import is_installed
from tls_node import Secure

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed('celery'), reason='Celery is not installed'),
    pytest.mark.limit(4 * PATIENCE),
]


@pytest.mark.parametrize('wanted_by', ['broker_use_ssl', 'amqps'])
def test_a_worker_and_its_client(secure: Secure, certificates: Certificates, tmp_path: Path, wanted_by: str) -> None:
    queue = f'celery.{uuid.uuid4()}'
    address = f'guest:guest@localhost:{secure.port}//'
    if wanted_by == 'amqps':
        app = Application(f'amqps://{address}', queue, tmp_path)
        app.environment['SSL_CERT_FILE'] = certificates.trust  # an authority of the system's
    else:
        options = {**secure.trust, 'cert_reqs': int(ssl.CERT_REQUIRED)}
        app = Application(f'amqp://{address}', queue, tmp_path, broker_use_ssl=options)
    with app.worker('-P', greenlets.GREEN, '-c', '20', '-E') as worker:
        wrong = app.client('worker_and_client_are_on_gamqp', 'results_come_back_to_many_greenlets', 'canvas')
        assert not wrong, '\n'.join([*wrong.values(), worker.log()[-4000:]])
        greenlets.wait_until(lambda: len(secure.node.connections()) >= 2)
        assert {one.get('ssl') for one in secure.node.connections() if 'protocol' in one} == {True}
        assert f'transport:   gamqps://guest:**@localhost:{secure.port}//' in worker.log()
        worker.signal(signal.SIGTERM)
        assert worker.wait_for_end() == 0, worker.log()[-4000:]
