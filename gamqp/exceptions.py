"""Every exception that gamqp raises, and the reply codes of AMQP 0-9-1.

Layer 0: plain data, imports nothing of gamqp. The hierarchy and its names are
py-amqp's, because programs and kombu decide by class whether to reconnect.
Does not belong here: I/O, state, or any decision when to raise. ::

    AMQPError
     +- ConnectionError              the connection is gone
     |   +- RecoverableConnectionError      connect again and go on
     |   |   +- Blocked, ConsumerCancelled, ConnectionForced, Lost, ResourceError
     |   +- IrrecoverableConnectionError    connecting again alone will not help
     |       +- InvalidPath, FrameError, FrameSyntaxError, InvalidCommand,
     |          ChannelNotOpen, UnexpectedFrame, NotAllowed,
     |          AMQPNotImplementedError, InternalError
     +- ChannelError                 the channel was closed, the connection is fine
         +- RecoverableChannelError         ContentTooLarge, NoConsumers, ResourceLocked
         +- IrrecoverableChannelError       AccessRefused, NotFound, PreconditionFailed
    MessageNacked                    the broker refused one message, nothing is closed
    RPCError                         the handler of an RPC server failed, nothing is closed
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .basic_message import Message

__all__ = (
    'AMQPDeprecationWarning',
    'AMQPError',
    'AMQPNotImplementedError',
    'AccessRefused',
    'Blocked',
    'CertificateRefused',
    'ChannelError',
    'ChannelNotOpen',
    'ConnectionError',
    'ConnectionForced',
    'ConsumerCancelled',
    'ConsumerTimeout',
    'ContentTooLarge',
    'EncodeError',
    'FrameError',
    'FrameSyntaxError',
    'InboundBodyTooLarge',
    'InternalError',
    'InvalidCommand',
    'InvalidPath',
    'IrrecoverableChannelError',
    'IrrecoverableConnectionError',
    'Lost',
    'MessageNacked',
    'NoConsumers',
    'NotAllowed',
    'NotFound',
    'PreconditionFailed',
    'RPCError',
    'RecoverableChannelError',
    'RecoverableConnectionError',
    'ResourceError',
    'ResourceLocked',
    'Returned',
    'UnexpectedFrame',
    'WrongThread',
    'error_for_code',
)


class AMQPDeprecationWarning(UserWarning):
    """Something that still works, but should not be used in new code."""


class _Base(Exception):
    """Makes room for further base classes: Python lets no class have others that has only Exception."""


class MessageNacked(_Base):
    """The broker answered a publish with ``basic.nack``: it did not take the message."""


class RPCError(Exception):
    """The handler of an RPC server failed on a request; nothing is closed.

    text: the error's text. error_type: the name of its class, '' if the server hides
    it. reply: the Message that reported it.
    """

    def __init__(self, text: str, error_type: str = '', reply: Message | None = None) -> None:
        super().__init__(text, error_type, reply)
        self.text = text
        self.error_type = error_type
        self.reply = reply

    def __str__(self) -> str:
        return f'{self.error_type}: {self.text}' if self.error_type else self.text


class WrongThread(RuntimeError):
    """A connection was used in another thread than the one it was connected in; nothing has changed.

    ``Connection.run_in_hub`` is the way in for other threads.
    """


class AMQPError(_Base):
    """Base of all errors of the protocol.

    reply_text: what happened, the broker's own words where it was the broker.
    method_sig: (class id, method id) of the method that failed, or None.
    method_name: the same as text, e.g. ``Queue.declare``; filled in from method_sig.
    reply_code: AMQP reply code, by default the one of the class, ``code`` (0: none).
    message: the same as reply_text, as in py-amqp.
    """

    code = 0
    #: What to do about it, where gamqp knows more than the broker's text says; else None.
    hint: str | None = None

    def __init__(
        self,
        reply_text: str | None = None,
        method_sig: tuple[int, int] | None = None,
        method_name: str | None = None,
        reply_code: int | None = None,
    ) -> None:
        self.message = reply_text
        self.reply_code = reply_code or self.code
        self.reply_text = reply_text
        self.method_sig = method_sig
        self.method_name = method_name or METHOD_NAME_MAP.get(method_sig, '')
        Exception.__init__(self, self.reply_code, reply_text, method_sig, self.method_name)

    def __reduce__(self) -> Any:
        # The arguments in self.args have another order than the constructor's parameters.
        rebuilt = (self.reply_text, self.method_sig, self.method_name, self.reply_code)
        return type(self), rebuilt, self.__dict__

    def __str__(self) -> str:
        hint = f' ({self.hint})' if self.hint else ''
        if self.method and self.method != (0, 0):  # 0, 0: of no method in particular
            return f'{self.method}: ({self.reply_code}) {self.reply_text}{hint}'  # as py-amqp, also without a text
        return (self.reply_text or f'<{type(self).__name__}: unknown error>') + hint

    @property
    def method(self) -> str | tuple[int, int] | None:
        """Name of the method that failed, its number where the name is unknown, or None."""
        return self.method_name or self.method_sig


class ConnectionError(AMQPError):
    """The connection is closed, or could not be opened."""


class ChannelError(AMQPError):
    """The broker closed the channel; the connection lives on."""


class Returned(ChannelError):
    """312: a message published with mandatory=True came back, because no queue takes it.

    returned: the Message as it came back.
    """

    code = 312
    returned: Message | None = None


class RecoverableChannelError(ChannelError):
    """A channel error that may go away by trying again."""


class IrrecoverableChannelError(ChannelError):
    """A channel error that comes back when the same thing is tried again."""


class RecoverableConnectionError(ConnectionError):
    """The connection was lost or refused for a passing reason: connect again."""


class IrrecoverableConnectionError(ConnectionError):
    """The connection ended for a reason that connecting again does not remove."""


class CertificateRefused(IrrecoverableConnectionError):
    """TLS: the broker lets nobody in without a client certificate, or not with ours. Trying again will not help."""


class Blocked(RecoverableConnectionError):
    """The broker takes no messages at present (``connection.blocked``)."""


class ConsumerCancelled(RecoverableConnectionError, RecoverableChannelError):
    """The broker cancelled a consumer, e.g. because its queue was deleted. Channel and connection live on.

    Of both families: a channel is concerned, but programs written for py-amqp look for a connection error.
    consumer_tag, queue: whose it was, the text of the error being the tag as in py-amqp. The broker
    does not say why; ``hint`` says what it can be.
    """

    consumer_tag = ''
    queue = ''


class Lost(RecoverableConnectionError):
    """A connection that recovers was lost while this was under way; the connection goes on, this does not.

    sent: False if nothing of it has left this process, so that it may be done again safely; None if that is not
    known: the broker may have done it. ``__cause__`` is why the connection was lost.
    """

    sent: bool | None = None


class ContentTooLarge(RecoverableChannelError):
    """311: the broker refused a message for its size."""

    code = 311


class NoConsumers(RecoverableChannelError):
    """313: an immediate message found no consumer."""

    code = 313


class ConnectionForced(RecoverableConnectionError):
    """320: an operator, or the heartbeat watch, ended the connection."""

    code = 320


class InvalidPath(IrrecoverableConnectionError):
    """402: there is no such virtual host."""

    code = 402


class AccessRefused(IrrecoverableChannelError):
    """403: wrong credentials, or no permission."""

    code = 403


class NotFound(IrrecoverableChannelError):
    """404: there is no such queue or exchange."""

    code = 404


class ResourceLocked(RecoverableChannelError):
    """405: the queue is exclusive to another connection."""

    code = 405


class PreconditionFailed(IrrecoverableChannelError):
    """406: e.g. declared again with other arguments, or an unknown delivery tag."""

    code = 406


class ConsumerTimeout(PreconditionFailed):
    """A delivery was not settled within the broker's consumer_timeout, and the broker closed the channel.

    consumer_tag, delivery_tag: of the delivery that had waited longest ('' and None if we know of none).
    """

    consumer_tag = ''
    delivery_tag: int | None = None


class FrameError(IrrecoverableConnectionError):
    """501: bytes arrived that are no AMQP frame."""

    code = 501


class FrameSyntaxError(IrrecoverableConnectionError):
    """502: a frame held values that do not decode."""

    code = 502


class InboundBodyTooLarge(FrameError):
    """The peer announced a message body above ``max_inbound_body``."""


class EncodeError(FrameSyntaxError, ValueError):
    """An argument of ours cannot be sent; nothing of it was, and the connection is unharmed."""


class InvalidCommand(IrrecoverableConnectionError):
    """503: a method that does not exist, or not here."""

    code = 503


class ChannelNotOpen(IrrecoverableConnectionError):
    """504: something was done on a channel that is not open."""

    code = 504


class UnexpectedFrame(IrrecoverableConnectionError):
    """505: a frame that does not fit the ones before it."""

    code = 505


class ResourceError(RecoverableConnectionError):
    """506: out of something, e.g. of channel numbers."""

    code = 506


class NotAllowed(IrrecoverableConnectionError):
    """530: e.g. no access to the virtual host."""

    code = 530


class AMQPNotImplementedError(IrrecoverableConnectionError):
    """540: the peer does not do that."""

    code = 540


class InternalError(IrrecoverableConnectionError):
    """541: the broker failed, or refuses a feature."""

    code = 541


ERROR_MAP: dict[int, type[AMQPError]] = {
    error.code: error
    for error in (
        ContentTooLarge,
        Returned,
        NoConsumers,
        ConnectionForced,
        InvalidPath,
        AccessRefused,
        NotFound,
        ResourceLocked,
        PreconditionFailed,
        FrameError,
        FrameSyntaxError,
        InvalidCommand,
        ChannelNotOpen,
        UnexpectedFrame,
        ResourceError,
        NotAllowed,
        AMQPNotImplementedError,
        InternalError,
    )
}


def as_text(words: str | bytes) -> str:
    """The broker's text as a str, also where its bytes are not UTF-8."""
    return words if isinstance(words, str) else words.decode('utf-8', 'replace')


def error_for_code(code: int, text: str | bytes, method: tuple[int, int] | None, default: type[AMQPError]) -> AMQPError:
    """The error object for a reply code; of class *default* where the code is unknown.

    text: bytes where it is not UTF-8; RabbitMQ cuts long ones, and may do so amid a character.
    method is (class id, method id) of what failed. Raises nothing.
    """
    text = as_text(text)
    return ERROR_MAP.get(code, default)(text, method, reply_code=code)


#: (class id, method id) -> the name in error texts, as py-amqp writes it: ``Queue.declare_ok``.
#: Empty here: ``gamqp.wire.spec`` fills it from the table of methods. The wire layer imports this
#: module for its errors, so this module cannot import the wire layer.
METHOD_NAME_MAP: dict[Any, str] = {}
