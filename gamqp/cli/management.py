"""RabbitMQ's management API, for what AMQP does not tell: names of nodes, bindings.

Layer 5. Only reads, in a thread: TLS of the standard library waits within the process, and connections to brokers have
heartbeats. No error quotes a URL, or what was sent. Does not belong here: what is done with the answers.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from .. import green
from ..state.connection_settings import Settings
from .exit_codes import CommandFailed, UsageError

__all__ = ('ManagementAPI', 'add_management')

_PORTS = {'http': 15672, 'https': 15671}

# Bytes of an answer, at most: an export of very many bindings.
_LARGEST = 256 * 1024 * 1024


def add_management(parser: argparse.ArgumentParser, tells: str) -> None:
    """The option --management. tells: what it is for."""
    parser.add_argument(
        '--management',
        metavar='URL',
        help=f'the management API, such as http://broker:15672: {tells} (user and password: of the broker, if none '
        'are in it)',
    )


class _Refused(CommandFailed):
    """It has answered, by an error."""


class ManagementAPI:
    """Answers of one API. settings: of the broker, for user, password and time limit where the URL has none."""

    def __init__(self, url: str, settings: Settings) -> None:
        """Raises UsageError for a URL that makes no sense."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(''), None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise UsageError('--management: a URL is wanted, http or https, of the host')
        self._host, self._port = parts.hostname, port or _PORTS[parts.scheme]
        self._path, self._tls, self._timeout = parts.path.rstrip('/'), parts.scheme == 'https', settings.connect_timeout
        user = unquote(parts.username) if parts.username else settings.userid or ''
        own = settings.password if isinstance(settings.password, str) else ''
        password = unquote(parts.password) if parts.password else own
        self._login = base64.b64encode(f'{user}:{password}'.encode()).decode('ascii')

    def get(self, *path: str) -> Any:
        """What is found below ``/api``, by the parts of its path. Switches. Raises CommandFailed."""
        return green.backend().in_thread(self._get, '/'.join(quote(part, safe='') for part in path))

    def _get(self, path: str) -> Any:
        make = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        connection = make(self._host, self._port, timeout=self._timeout)
        try:
            connection.request('GET', f'{self._path}/api/{path}', headers={'Authorization': f'Basic {self._login}'})
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                why = _WHY.get(answer.status, '')
                raise _Refused(f'the management API answers {answer.status} {answer.reason}{why}')
            return json.loads(answer.read(_LARGEST))
        except (OSError, http.client.HTTPException) as exc:
            text = getattr(exc, 'strerror', None) or str(exc) or type(exc).__name__
            raise CommandFailed(f'the management API at {self._host}:{self._port}: {text}') from None
        except ValueError:
            raise CommandFailed(f'what answers at {self._host}:{self._port} is no management API') from None
        finally:
            connection.close()

    def node_names(self) -> list[str]:
        """The nodes of the cluster, in order. Switches. Raises CommandFailed."""
        try:
            found = {one['name'] for one in self.get('nodes')}
        except _Refused:  # it is for users with the tag monitoring; with management they see their virtual hosts
            found = {name for one in self.get('vhosts') for name in one.get('cluster_state', {})}
        return sorted(map(str, found))

    def bindings(self, virtual_host: str) -> list[dict[str, Any]]:
        """All bindings of a virtual host, but those of the default exchange. Switches. Raises CommandFailed."""
        return [one for one in self.get('bindings', virtual_host) if one.get('source')]


_WHY = {
    401: ': wrong user or password, or the user has none of the tags management, monitoring, administrator',
    404: ': no such virtual host for this user, or no management API',
}
