"""The HTTP API of RabbitMQ's management plugin, as far as tests need it.

Layer 5. Its calls block. Does not belong here: AMQP.
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any

__all__ = ('Management', 'ManagementError')

_TIMEOUT = 30.0  # seconds


class ManagementError(RuntimeError):
    """The management plugin refuses a request."""


class Management:
    """The API at a base URL such as http://localhost:15672, with a user and a password."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url.rstrip('/')
        self._authorization = 'Basic ' + base64.b64encode(f'{user}:{password}'.encode()).decode()

    def __repr__(self) -> str:
        return f'<Management {self.url}>'

    def get(self, path: str) -> Any:
        """The decoded answer to GET /api/*path*. Raises ManagementError, OSError."""
        return self._ask('GET', path, None)

    def put(self, path: str, **values: Any) -> None:
        """PUT; raises the same."""
        self._ask('PUT', path, values)

    def delete(self, path: str) -> None:
        """DELETE; what is not there counts as deleted. Raises the same."""
        try:
            self._ask('DELETE', path, None)
        except ManagementError as exc:
            if not isinstance(exc.__cause__, urllib.error.HTTPError) or exc.__cause__.code != 404:
                raise

    def _ask(self, method: str, path: str, values: dict[str, Any] | None) -> Any:
        data = None if values is None else json.dumps(values).encode()
        request = urllib.request.Request(f'{self.url}/api/{path}', data, method=method)
        request.add_header('Authorization', self._authorization)
        request.add_header('Content-Type', 'application/json')
        # Without the proxies of the machine, which may be meant for this address, too.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_TIMEOUT) as response:
                text = response.read()
        except urllib.error.HTTPError as exc:
            with exc:
                raise ManagementError(
                    f'{method} {path}: {exc.code} {exc.read()[:500].decode("utf-8", "replace")}'
                ) from exc
        return json.loads(text) if text else None
