"""The arguments of a Connection with their types, for calls that pass them on: ``gamqp.connect`` and ``Pool``.

Layer 4. Only type checkers use it. A test compares names and types with ``Connection.__init__``. Does not belong
here: checks and defaults; they are in ``state.connection_settings``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from .. import sasl
from ..recovery.outage import RecoveryReport
from ..state.connection_settings import BlockedPolicy
from ..state.recovery_settings import Recovery
from ..transport import TLSOptions

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ('ConnectionArguments',)


class ConnectionArguments(TypedDict, total=False):
    """Every argument of Connection, each of which may be left out."""

    # In the order of Connection.__init__, py-amqp's first; from ``name`` on they are by keyword only.
    host: str
    userid: str | None
    password: sasl.Password
    login_method: str | tuple[str, ...] | None
    login_response: bytes | None
    authentication: sasl.SASL | Iterable[sasl.SASL]
    virtual_host: str
    locale: str
    client_properties: Mapping[str, Any] | None
    ssl: TLSOptions
    connect_timeout: float | None
    channel_max: int | None
    frame_max: int | None
    heartbeat: float | None
    on_open: Callable[[Connection], object] | None
    on_blocked: Callable[[str], object] | None
    on_unblocked: Callable[[], object] | None
    confirm_publish: bool
    on_tune_ok: Callable[[], object] | None
    read_timeout: float | None
    write_timeout: float | None
    socket_settings: Mapping[int, int | None] | None
    frame_handler: object
    frame_writer: object
    name: str | None
    rpc_timeout: float
    confirm_timeout: float
    refresh_secret: bool | float
    blocked_policy: BlockedPolicy
    blocked_timeout: float | None
    max_inbound_body: int
    max_undelivered_bytes: int
    max_undelivered_messages: int
    spool: bool
    combine_acks: bool
    unsettled_warning: float | None
    outstanding_limit: int
    metrics: Callable[[dict[str, Any]], object] | None
    metrics_interval: float
    heartbeat_thread: bool
    on_lost: Callable[[BaseException], object] | None
    recover: bool | Recovery
    on_recovering: Callable[[int, float, BaseException], object] | None
    on_recovered: Callable[[RecoveryReport], object] | None
    on_given_up: Callable[[BaseException], object] | None
