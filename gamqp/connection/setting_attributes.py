"""The settings of a connection as attributes, by py-amqp's names, for programs and kombu to read and set.

Layer 4, a base class of Connection. Does not belong here: checks and defaults;
they are in ``state.connection_settings``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .. import exceptions, sasl
from ..state.connection_settings import BlockedPolicy, Settings
from ..state.error_hints import at_login
from .hosts import Hosts

__all__ = ('SettingAttributes',)


class SettingAttributes:
    """Has its arguments checked and keeps them."""

    #: What it was made with; never changes, while the attributes may be set.
    _settings: Settings

    #: Where to connect to. ``gamqp.connect`` gives it those of its URLs.
    _hosts: Hosts

    #: Of the host that is in use, or was tried last.
    _host_settings: Settings

    on_blocked: Callable[[str], Any] | None
    on_unblocked: Callable[[], Any] | None
    read_timeout: float | None

    def _with_login_hint(self, error: exceptions.AMQPError) -> exceptions.AMQPError:
        """The same error, which ended the connection while it was being opened, with what may be wrong with it."""
        # The name alone, and never the password: this goes into the text of an error.
        users = [one.username for one in self.authentication if isinstance(one, (sasl.PLAIN, sasl.AMQPLAIN))]
        return at_login(error, self.host, users[0] if users else None, self.virtual_host)

    def _use_host(self, settings: Settings) -> None:
        """Connect to this host next. Does not switch.

        Sets the attributes that a URL may set, if the connection has several URLs. Of one that has one host alone the
        attributes count, whatever it was made with.
        """
        self._host_settings = settings
        if self._hosts.is_alone:
            return
        self.host = settings.host
        self.virtual_host = settings.virtual_host
        self.ssl = settings.ssl
        self.authentication = settings.mechanisms
        self.name = settings.name
        self.connect_timeout = settings.connect_timeout
        self.client_heartbeat = settings.heartbeat
        self.client_channel_max = settings.channel_max
        self.client_frame_max = settings.frame_max

    def _configure(self, settings: Settings) -> None:
        """Take over the settings. Does not switch."""
        # Each attribute is read where it is used, so a program may set it at any time. Timeouts and callbacks count
        # at once, the others from the next connect().
        self._settings = settings
        self._hosts = Hosts((settings,))
        self._host_settings = settings
        self.host = settings.host
        self.virtual_host = settings.virtual_host
        self.ssl = settings.ssl
        self.socket_settings: Mapping[int, int | None] | None = settings.socket_settings
        self.authentication = settings.mechanisms
        self.locale = settings.locale
        self.name = settings.name
        # A copy: the program may add to it, and its own dict stays as it is.
        self.client_properties = dict(settings.client_properties)
        self.connect_timeout = settings.connect_timeout
        self.rpc_timeout = settings.rpc_timeout
        self.confirm_timeout = settings.confirm_timeout
        self.read_timeout = settings.read_timeout
        self.write_timeout = settings.write_timeout
        # What we want. ``heartbeat``, ``channel_max`` and ``frame_max`` are what was agreed on with the broker.
        self.client_heartbeat = settings.heartbeat
        self.heartbeat_thread = settings.heartbeat_thread
        self.client_channel_max = settings.channel_max
        self.client_frame_max = settings.frame_max
        self.confirm_publish = settings.confirm_publish
        self.outstanding_limit = settings.outstanding_limit
        self.blocked_policy: BlockedPolicy = settings.blocked_policy
        self.blocked_timeout = settings.blocked_timeout
        self.max_inbound_body = settings.max_inbound_body
        self.spool = settings.spool
        self.combine_acks = settings.combine_acks
        self.unsettled_warning = settings.unsettled_warning
        self.on_open = settings.on_open
        self.on_tune_ok = settings.on_tune_ok
        self.on_blocked = settings.on_blocked
        self.on_unblocked = settings.on_unblocked
        self.on_lost = settings.on_lost
        self.on_recovering = settings.on_recovering
        self.on_recovered = settings.on_recovered
        self.on_given_up = settings.on_given_up
        self.metrics = settings.metrics
        self.metrics_interval = settings.metrics_interval
