"""Class basic, the sending side, and class confirm: publish and publisher confirms.

A publish checks, waits where it must (a blocked connection, a full writer), and
then encodes, takes its sequence number and hands the frames over in one step
without a switch, so the numbers always agree with the order on the wire. It
never reads. Errors: see ``gamqp.methods``.
"""

from __future__ import annotations

from typing import Any

from .. import exceptions, green
from ..calls import Caller
from ..state.confirms import Confirms
from ..state.notices import Notices
from ..wire import Content, encode_publish
from ..wire.spec import Basic, Confirm

__all__ = ('PublishMethods',)


class PublishMethods(Caller):
    """Mixin of Channel."""

    _confirms: Confirms | None
    _notices: Notices
    _usable: bool
    _writer: Any

    def basic_publish(
        self,
        msg: Any,
        exchange: str = '',
        routing_key: str = '',
        mandatory: bool = False,
        immediate: bool = False,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
        argsig: Any = None,
    ) -> None:
        """Publish a Message; on a connection with confirm_publish=True also wait for its confirm.

        mandatory: the broker returns the message when no queue takes it.
        immediate: not supported by RabbitMQ; AMQPNotImplementedError is raised.
        timeout: seconds for the message to be handed to the operating system
        (None: as soon as it can be, without waiting for it); when they pass, the
        connection is closed and RecoverableConnectionError raised, since a part
        may have been sent. confirm_timeout: seconds to wait for the confirm, by
        default *timeout*, else the connection's confirm_timeout.

        Without confirms it switches greenlets only to wait for a blocked
        connection or a full send queue, and now and then to let others run.
        Raises MessageNacked when the broker refuses the message and TimeoutError
        when no confirm came in time; the message may have been taken then.
        """
        if self._root().confirm_publish:
            self.basic_publish_confirm(
                msg, exchange, routing_key, mandatory, immediate, timeout, confirm_timeout=confirm_timeout
            )
        else:
            self._publish(msg, exchange, routing_key, mandatory, immediate, timeout)

    _basic_publish = basic_publish

    def basic_publish_confirm(
        self,
        msg: Any,
        exchange: str = '',
        routing_key: str = '',
        mandatory: bool = False,
        immediate: bool = False,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
        argsig: Any = None,
    ) -> None:
        """Publish and wait for this message's own confirm, turning confirm mode on if it is off.

        Any number of greenlets may do so on one channel. Arguments and errors as basic_publish.
        """
        root = self._root()
        slot = green.Slot(root.green)
        self._publish(msg, exchange, routing_key, mandatory, immediate, timeout, slot)
        wait = confirm_timeout or timeout or root.confirm_timeout
        root.wait_begins()
        try:
            confirmed = root.wait_for(slot, wait)
        finally:
            root.wait_ends()
        if self._notices.calls:
            self.run_handlers()
        if not confirmed:
            raise TimeoutError(f'basic.publish: no confirm within {wait} s; the broker may have taken the message')
        if not slot.result():
            raise exceptions.MessageNacked(f'the broker refused the message for {exchange!r}, {routing_key!r}')

    def confirm_select(self, nowait: bool = False) -> None:
        """Turn confirm mode on: the broker acks each publish from now on (RabbitMQ extension).

        Doing it twice is harmless. A transactional channel is refused (PreconditionFailed).
        """
        self._check(Confirm.Select)
        if self._confirms is None:
            self._confirms = Confirms()
        self._request(Confirm.Select, (nowait,), nowait)

    def _publish(
        self,
        msg: Any,
        exchange: str,
        routing_key: str,
        mandatory: bool,
        immediate: bool,
        timeout: float | None,
        slot: green.Slot | None = None,
    ) -> None:
        if not self._usable:
            self._check(Basic.Publish)
        if immediate:
            raise exceptions.AMQPNotImplementedError('RabbitMQ has no immediate flag', Basic.Publish)
        if not isinstance(msg, Content):
            raise exceptions.EncodeError(f'basic_publish takes a Message, not {type(msg).__name__}', Basic.Publish)
        root = self._root()
        deadline = None if timeout is None else green.Deadline(timeout)
        if root.must_wait_to_publish:
            root.wait_to_publish(deadline)
            self._check(Basic.Publish)
        body, properties = msg.body, msg.properties
        if isinstance(body, str):
            body, properties = _encode_text(body, properties)
        frames = encode_publish(
            self.channel_id, exchange, routing_key, mandatory, immediate, properties, body, root.frame_max
        )
        if slot is not None and self._confirms is None:
            # Pipelined: the broker handles confirm.select before the publish behind it.
            self.confirm_select_unawaited()
        try:
            if self._confirms is not None:
                self._confirms.publish(slot)
            self._writer.send(frames)
        except BaseException as exc:
            # Only a signal handler can raise here, and then our count of publishes may differ from the broker's.
            root.link.lose(exc)
            raise
        if deadline is not None:
            root.wait_until_sent(deadline)
        elif root.breath_due(len(frames)):
            root.breathe()

    def run_handlers(self) -> None:
        raise NotImplementedError

    def confirm_select_unawaited(self) -> None:
        self._confirms = Confirms()
        self._call(Confirm.Select, (False,), wait=False)


def _encode_text(body: str, properties: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """A text body in the encoding its properties name, which is UTF-8 and then said so where they name none."""
    encoding = properties.get('content_encoding')
    if not encoding:
        encoding = 'utf-8'
        properties = {**properties, 'content_encoding': encoding}
    try:
        return body.encode(encoding), properties
    except (LookupError, UnicodeError) as exc:
        raise exceptions.EncodeError(
            f'the body cannot be encoded by content_encoding {encoding!r}: {exc}', Basic.Publish
        ) from exc
