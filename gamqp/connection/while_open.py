"""What goes on as long as a connection is open: its read timeout, the renewal of its secret, two reports.

Layer 4. Begun by ``connecting.note_opened`` and by the first consumer, stopped when the socket has ended, and made anew
for the next one; the metrics hook is called through an outage, too. Does not belong here: what each of them does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..telemetry.stats import MetricsReporter
from .read_timeout import ReadTimeout
from .secret_renewal import SecretRenewal
from .unacked_warning import UnackedWarning

if TYPE_CHECKING:
    from .connection import Connection
    from .dispatch import Dispatch

__all__ = ('WhileOpen',)


class WhileOpen:
    """Of one connection. Each of these is None where there is none: the program does not want it, or it is not open.

    read_timeout: where there is a limit. renewal: of a secret that ends. reporter: calls the metrics hook. unacked:
    looks for consumers that get nothing more.
    """

    __slots__ = ('read_timeout', 'renewal', 'reporter', 'unacked')

    def __init__(self) -> None:
        self.read_timeout: ReadTimeout | None = None
        self.renewal: SecretRenewal | None = None
        self.reporter: MetricsReporter | None = None
        self.unacked: UnackedWarning | None = None

    def begin(self, connection: Connection, renewal: SecretRenewal | None) -> None:
        """The connection is open. Does not switch."""
        self.renewal = renewal
        if connection.read_timeout is not None:
            self.read_timeout = ReadTimeout(connection, connection.read_timeout)
        if connection.metrics is not None and self.reporter is None:
            self.reporter = MetricsReporter(connection, connection.metrics_interval)

    def watch_unacked(self, connection: Dispatch) -> None:
        """There is a consumer whose messages the program has to settle. Does not switch."""
        if self.unacked is None and connection.unsettled_warning is not None:
            self.unacked = UnackedWarning(connection, connection.unsettled_warning)

    def end_socket(self) -> None:
        """The socket has ended. The next one may follow, and meanwhile there is something to report.

        Does not switch.
        """
        for one in (self.read_timeout, self.unacked, self.renewal):
            if one is not None:
                one.stop()
        # A stopped one refers to the old socket or secret.
        self.read_timeout = self.unacked = self.renewal = None

    def stop(self) -> None:
        """The connection has ended. Does not switch."""
        self.end_socket()
        if self.reporter is not None:
            self.reporter.stop()
            self.reporter = None
