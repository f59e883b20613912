"""The errors with which the broker answers: a reply code and RabbitMQ's words.

Layer 5, pure. A handler of a method raises one of these; the channel or the connection is then closed with it.
Does not belong here: sending the close.
"""

from __future__ import annotations

from ...wire import spec

__all__ = (
    'Refusal',
    'access_refused',
    'closing_text',
    'deprecated',
    'exchange_label',
    'not_allowed',
    'not_found',
    'not_implemented',
    'precondition_failed',
    'queue_label',
    'resource_locked',
    'text_of',
    'undeliverable',
)

_NAMES = {code: name.upper().replace('-', '_') for name, code in spec.REPLY_CODES.items()}
_PRINTED = 78  # characters of a line that Erlang prints
# What closes the channel alone; everything else closes the connection.
_OF_CHANNEL = frozenset({311, 312, 313, 403, 404, 405, 406})


class Refusal(Exception):
    """A method that is answered by channel.close or connection.close.

    code: the reply code. text: RabbitMQ's words behind the name of the code. whole: the reply text is *text* alone,
    without the name. sig: the method to name in the close; None: the one that is being handled.
    """

    def __init__(self, code: int, text: str, *, sig: spec.Sig | None = None, whole: bool = False) -> None:
        super().__init__(code, text)
        self.code = code
        self.reply_text = text if whole else f'{_NAMES.get(code, "ERROR")} - {text}'
        self.sig = sig

    @property
    def closes_connection(self) -> bool:
        """Whether the whole connection ends, not the channel alone."""
        return self.code not in _OF_CHANNEL


def precondition_failed(text: str) -> Refusal:
    """406"""
    return Refusal(406, text)


def deprecated(feature: str) -> Refusal:
    """541 for a feature that is refused because it is deprecated; it closes the connection"""
    setting = f'"deprecated_features.permit.{feature} = false"'
    return Refusal(
        541,
        f'Feature `{feature}` is deprecated.\nIts use is not permitted per the configuration (overriding the default, '
        f'which is permitted):\n    {setting}\nIts use will not be permitted by default in a future minor '
        'RabbitMQ version',
    )


def not_found(text: str) -> Refusal:
    """404"""
    return Refusal(404, text)


def access_refused(text: str) -> Refusal:
    """403"""
    return Refusal(403, text)


def resource_locked(text: str) -> Refusal:
    """405"""
    return Refusal(405, text)


def not_implemented(text: str) -> Refusal:
    """540, which closes the connection"""
    return Refusal(540, text)


def not_allowed(text: str) -> Refusal:
    """530, which closes the connection"""
    return Refusal(530, text)


def undeliverable(queue: str | bytes, vhost: str) -> Refusal:
    """506, which closes the connection: a queue is gone. Erlang breaks the lines of what it prints so."""
    text = 'failed to deliver message: '
    inner = f'{{resource,<<"{vhost}">>,queue,<<"{text_of(queue)}">>}}}}'
    if len(text) + len('{not_found,') + len(inner) <= _PRINTED:
        return Refusal(506, f'{text}{{not_found,{inner}')
    indent = len(text) + 4
    if indent + len(inner) > _PRINTED:
        inner = inner.replace(',queue,', f',queue,\n{" " * (indent + 4)}')
    return Refusal(506, f'{text}{{not_found,\n{" " * indent}{inner}')


def closing_text(refusal: Refusal) -> str:
    """The reply text as it is sent: RabbitMQ ends a long one in dots."""
    octets = refusal.reply_text.encode()
    return refusal.reply_text if len(octets) <= 255 else octets[:252].decode('utf-8', 'ignore') + '...'


def text_of(name: str | bytes) -> str:
    """A name as text, also one that is not UTF-8."""
    return name if isinstance(name, str) else name.decode('utf-8', 'replace')


def queue_label(name: str | bytes, vhost: str) -> str:
    """How RabbitMQ names a queue in its errors."""
    return f"queue '{text_of(name)}' in vhost '{vhost}'"


def exchange_label(name: str | bytes, vhost: str) -> str:
    """How RabbitMQ names an exchange in its errors."""
    return f"exchange '{text_of(name)}' in vhost '{vhost}'"
