"""Where a connection connects to: the hosts of its URLs, and which of them is tried first.

Layer 4. Held by each Connection; those of a pool share one. Asked anew at each attempt, by ``connect`` and by whoever
else opens a connection again. Does not belong here: the rules of the order (``state.host_order``), what a
URL means (``state.url_list``), connecting (``connecting``).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from .. import exceptions
from ..state import url_list
from ..state.connection_settings import Settings, check_names
from ..state.host_order import Address, HostOrder
from ..state.secret_hiding import discreet
from ..transport import check_ssl_options

__all__ = ('URL', 'Hosts', 'hosts_of')

#: One AMQP URI, several with semicolons between them, or a list of URIs.
_URLs: TypeAlias = str | Iterable[str]
#: What says where to connect to: those, or a callable that returns them, asked at each attempt.
URL: TypeAlias = _URLs | Callable[[], _URLs]


class Hosts:
    """The hosts of one connection, or of several that share what is known of each host.

    fixed: the Settings of each URL; or none of them with *ask*, which returns them at each attempt. base: what a
    Connection is made with, None for the first of *fixed*. shuffle: whether the order is random. loads: returns how
    many connections each host has, of those that are to be spread evenly; None for no such rule. order: what is known
    of each host, None to begin with nothing.
    """

    __slots__ = ('_ask', '_avoided', '_fixed', '_loads', '_order', 'base', 'shuffle')

    def __init__(
        self,
        fixed: tuple[Settings, ...],
        shuffle: bool = False,
        *,
        ask: Asking | None = None,
        base: Settings | None = None,
        loads: Callable[[], Mapping[Address, int]] | None = None,
        order: HostOrder | None = None,
    ) -> None:
        self._fixed = fixed
        self._ask = ask
        self._loads = loads
        self._avoided: tuple[Address, ...] = ()
        self._order = HostOrder() if order is None else order
        self.base = fixed[0] if base is None else base
        self.shuffle = shuffle

    def __repr__(self) -> str:
        hosts = ', '.join(_shown(one.address) for one in self._fixed) or 'by a callable'
        return f'<Hosts {hosts}{self.failed_text}>'

    @property
    def is_alone(self) -> bool:
        """Whether there is one host, for good."""
        return self._ask is None and len(self._fixed) == 1

    @property
    def where(self) -> str:
        """Hosts and virtual hosts, for logs."""
        return ', '.join(f'{one.host} vhost {one.virtual_host!r}' for one in self._fixed) or 'hosts by a callable'

    @property
    def failed_text(self) -> str:
        """Which hosts have failed lately, for the repr of a connection that has several; '' for none."""
        failed = {} if self.is_alone else self.failed()
        return f' (failed: {", ".join(map(_shown, failed))})' if failed else ''

    def given(self, answer: list[Any]) -> Hosts:
        """Those that a callable has given, which go with these: the arguments, and what is known of each host.

        answer: a list with what it has given, which is taken out of it. Raises RecoverableConnectionError for what
        cannot be used. Does not switch.
        """
        assert self._ask is not None
        return Hosts(self._ask.read(answer), self.shuffle, loads=self._loads, order=self._order)

    def attempt_order(self, avoid: Settings | None = None) -> list[Settings]:
        """The Settings of every host, in the order in which the next attempt has to try them.

        avoid: of the host that is not to be tried before all others have failed. Raises
        RecoverableConnectionError where a callable has not said which hosts there are, with its error as cause.
        Switches if that callable does.
        """
        found = list(self._fixed if self._ask is None else self._ask())
        if self.shuffle:
            random.shuffle(found)
        avoided = self._avoided if avoid is None else (avoid.address,)
        # With a preferred order a host has as many connections as come: none is to go to a later one for that.
        loads = self._loads() if self._loads is not None and self.shuffle else None
        return self._order.sort(found, lambda one: one.address, time.monotonic(), avoided, loads)

    def avoiding(self, settings: Settings) -> Hosts:
        """The same hosts, of which this one is tried last. Which have failed lately does not count. Does not switch."""
        hosts = Hosts(self._fixed, self.shuffle, ask=self._ask, base=self.base, loads=self._loads)
        hosts._avoided = (settings.address,)
        return hosts

    def note_failure(self, settings: Settings, error: BaseException) -> None:
        """This host could not be connected to: it is tried behind the others for a while. Does not switch."""
        self._order.note_failure(settings.address, time.monotonic(), type(error).__name__)

    def note_success(self, settings: Settings) -> None:
        """A connection to this host is open. Does not switch."""
        self._order.note_success(settings.address)

    def failed(self) -> dict[Address, str]:
        """The hosts that have failed lately, with the names of the errors. Does not switch."""
        return self._order.failed(time.monotonic())


@discreet
def hosts_of(
    url: URL,
    arguments: Mapping[str, Any],
    whose: str = 'connect',
    others: Iterable[str] = (),
    shuffle: bool = True,
    loads: Callable[[], Mapping[Address, int]] | None = None,
) -> Hosts:
    """The Hosts that a program's url argument means, all of it checked. Neither asks a callable nor switches.

    arguments: those of a Connection, which go before those of a URL. whose, others: as for
    ``connection_settings.from_uri``. loads: as for Hosts. Raises TypeError and ValueError.
    """
    if callable(url):
        check_names(whose, arguments, others)
        if 'host' in arguments:
            raise ValueError('host: the URLs of the callable have a host each, and leave no place for this argument')
        base = _checked(Settings(**arguments))
        return Hosts((), shuffle, ask=Asking(url, arguments, whose, others), base=base, loads=loads)
    return Hosts(tuple(map(_checked, url_list.settings_of(url, arguments, whose, others))), shuffle, loads=loads)


class Asking:
    """Asks the program's callable which hosts there are."""

    __slots__ = ('_arguments', '_others', '_url', '_whose')

    def __init__(
        self, url: Callable[[], _URLs], arguments: Mapping[str, Any], whose: str, others: Iterable[str]
    ) -> None:
        self._url = url
        self._arguments = dict(arguments)
        self._whose = whose
        self._others = tuple(others)

    def __call__(self) -> tuple[Settings, ...]:
        """Switches if the callable does. Raises RecoverableConnectionError: the next attempt asks again."""
        # In a list, and taken out of it: no frame of an error that is raised later shows the URLs.
        try:
            answer = [self._url()]
        except Exception as exc:
            # The text of the error may have a URL in it; the cause has it.
            name = type(exc).__name__
            raise exceptions.RecoverableConnectionError(f'the callable for the URLs failed: {name}') from exc
        return self.read(answer)

    def read(self, answer: list[Any]) -> tuple[Settings, ...]:
        """What its answer means, which is taken out of the list. Raises RecoverableConnectionError."""
        try:
            # Doubles are left out: who asks a directory of services gets a node twice now and then.
            found = url_list.settings_of(answer.pop(), self._arguments, self._whose, self._others, doubles=True)
            return tuple(map(_checked, found))
        except (TypeError, ValueError) as exc:
            text = f'what the callable for the URLs has returned cannot be used: {exc}'
            raise exceptions.RecoverableConnectionError(text) from exc


def _checked(settings: Settings) -> Settings:
    """The same. Raises TypeError or ValueError for what a Connection would refuse."""
    if settings.secure:
        check_ssl_options(settings.ssl)
    # Made here, where nothing has begun: it raises for a mechanism that is none.
    settings.mechanisms  # noqa: B018
    return settings


def _shown(address: Address) -> str:
    name, port = address
    return f'[{name}]:{port}' if ':' in name else f'{name}:{port}'
