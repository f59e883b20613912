"""Users, their passwords, and what they may do in which virtual host.

Layer 5, pure. Does not belong here: SASL.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import Refusal, access_refused, text_of

__all__ = ('Permissions', 'TopicPermissions', 'User', 'Users')

Name = str | bytes


class Permissions(NamedTuple):
    """Regular expressions for the names of what may be configured, written to and read from."""

    configure: str = '.*'
    write: str = '.*'
    read: str = '.*'


class TopicPermissions(NamedTuple):
    """Regular expressions for routing keys, in which {username} and {vhost} stand for those."""

    write: str = '.*'
    read: str = '.*'


class User:
    """One user. tags: such as 'administrator', 'impersonator'."""

    def __init__(self, name: str, password: str, tags: tuple[str, ...]) -> None:
        self.name = name
        self.password = password
        self.tags = tags
        self.permissions: dict[str, Permissions] = {}
        #: (virtual host, exchange) -> for the routing keys of a topic exchange; without an entry all may be used.
        self.topic_permissions: dict[tuple[str, Name], TopicPermissions] = {}

    def __repr__(self) -> str:
        return f'<User {self.name!r}>'

    def may(self, permission: str, vhost: str, name: Name) -> bool:
        """Whether the user has a permission ('configure', 'write', 'read') for a name."""
        granted = self.permissions.get(vhost)
        if granted is None:
            return False
        text = text_of(name) or 'amq.default'
        pattern: str = getattr(granted, permission)
        return re.search(pattern, text) is not None if pattern else False

    def demand(self, permission: str, vhost: str, kind: str, name: Name, names_permission: bool) -> None:
        """Raise a Refusal unless the user has it. kind: 'queue' or 'exchange'."""
        if not self.may(permission, vhost, name):
            what = f'{permission} access' if names_permission else 'access'
            shown = text_of(name) or 'amq.default'
            raise access_refused(f"{what} to {kind} '{shown}' in vhost '{vhost}' refused for user '{self.name}'")

    def demand_topic(self, permission: str, vhost: str, exchange: Name, key: Name, names_permission: bool) -> None:
        """Raise a Refusal unless the user may publish with ('write'), or bind by ('read'), a key of an exchange."""
        granted = self.topic_permissions.get((vhost, exchange))
        if granted is None:
            return
        pattern: str = getattr(granted, permission) or '^$'
        pattern = pattern.replace('{username}', self.name).replace('{vhost}', vhost)
        if re.search(pattern, text_of(key)) is None:
            what = f'{permission} access' if names_permission else 'access'
            raise access_refused(
                f"{what} to topic '{text_of(key)}' in exchange '{text_of(exchange)}' in vhost '{vhost}' refused for "
                f"user '{self.name}'"
            )


class Users:
    """All users. generation: changes with everything that permissions depend on."""

    def __init__(self) -> None:
        self._users: dict[str, User] = {}
        self.generation = 0

    def add(self, name: str, password: str, tags: tuple[str, ...] = ()) -> User:
        """Add a user, or give it another password; permissions are set apart."""
        user = self._users.get(name)
        if user is None:
            user = self._users[name] = User(name, password, tags)
        user.password, user.tags = password, tags
        self.generation += 1
        return user

    def set_permissions(self, name: str, vhost: str, permissions: Permissions) -> None:
        """What a user may do in a virtual host. Raises KeyError for a user that there is not."""
        self._users[name].permissions[vhost] = permissions
        self.generation += 1

    def set_topic_permissions(self, name: str, vhost: str, exchange: str, permissions: TopicPermissions) -> None:
        """The same for the routing keys of one topic exchange."""
        self._users[name].topic_permissions[vhost, exchange] = permissions
        self.generation += 1

    def grant_all(self, vhost: str) -> None:
        """Let all users do everything in a virtual host."""
        for user in self._users.values():
            user.permissions.setdefault(vhost, Permissions())
        self.generation += 1

    def find(self, name: str) -> User | None:
        """The user of that name."""
        return self._users.get(name)

    def log_in(self, name: str, password: str) -> User | None:
        """The user, if name and password are right."""
        user = self._users.get(name)
        return user if user is not None and user.password == password else None


def login_refused(mechanism: str) -> Refusal:
    """The answer to a wrong name or password."""
    return access_refused(
        f'Login was refused using authentication mechanism {mechanism}. For details see the broker logfile.'
    )
