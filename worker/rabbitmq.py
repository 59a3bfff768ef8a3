"""kombu's transport for RabbitMQ (py-amqp), with a door of ours.

Built on kombu 5.7 and py-amqp 5.4. A message's way:

1. Whatever comes is noted, heartbeats too: a connection that has died silently is noticed by them.
2. What py-amqp cannot read of a message (properties or names that are no text) is left out. With
   py-amqp alone it ends one worker after the other.
3. What is no message for us is turned away, not delivered, and acknowledged once that is done.
4. One for which no slot is free is held until one is, or until the connection closes.
5. It is acknowledged once it need not come again: when its task is claimed, or nobody's to run. A
   foreign task is on record by then. Not when the task ends: RabbitMQ closes a channel
   that leaves a message unacknowledged for 30 minutes (``consumer_timeout``).

An acknowledgement is also what asks RabbitMQ for the next message of a queue. So where few slots
are free it is kept back: a worker that is full is sent no more, and holds none that another could
take. But each queue is counted by itself, as every version of RabbitMQ and every kind of queue has
it: of one that was empty before, a full worker may be sent :data:`PREFETCH`, and holds them until
slots are free.

What is not acknowledged goes back to its place when the connection closes, and comes again; the
claim decides. Everything here runs in Celery's thread, but for :attr:`Channel.settle`.
"""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from amqp import spec
from amqp.method_framing import frame_handler
from amqp.serialization import decode_properties_basic
from kombu.transport import pyamqp

from api_contracts.client.rabbitmq import ERRORS, make_queue
from worker import logs
from worker.admission import Admitted, Content, NotAMessage, admit_content

#: Most messages that are asked for at once, and so most that a worker which is killed had taken for
#: nothing: 16, as on Redis.
PREFETCH: Final = 16
#: How often RabbitMQ and the worker give each other a sign of life, in seconds; each does twice as
#: often. After two without one the connection is made anew.
HEARTBEAT_S: Final = 10
#: Type of the frame that has a message's properties, and how much of it stands before them.
_HEADER: Final = 2
_BEFORE_PROPERTIES: Final = 12

logger = logging.getLogger(__name__)


class Door(Protocol):
    """What happens to messages at the door. Called in the thread that consumes."""

    @property
    def room(self) -> int:
        """How many more messages may come."""

    def heard(self) -> None:
        """Note that RabbitMQ has said something."""

    def came(self, queue: str, rung_at: int) -> None:
        """Note that a doorbell has come which was rung then, in unix ms."""

    def refuse(
        self, queue: str, message: bytes, error: NotAMessage, settle: Callable[[], None]
    ) -> None:
        """Answer or put aside what is no message for us, and settle it then; return at once."""


@dataclass(slots=True)
class _Account:
    """A queue: its messages that are not acknowledged, by their tags."""

    unsettled: set[int] = field(default_factory=set)
    settled: deque[int] = field(default_factory=deque)

    @property
    def unacknowledged(self) -> int:
        """How many RabbitMQ counts."""
        return len(self.unsettled) + len(self.settled)


class Channel(pyamqp.Channel):
    """A channel that looks at a message before it delivers it."""

    door: Door
    #: The message that is being delivered.
    admitted: Admitted
    #: Says that it need not come again; any thread may call it, and more than once.
    settle: Callable[[], None]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Open it."""
        super().__init__(*arguments, **options)
        # A body's encoding is its producer's: some of Python's take minutes.
        self.auto_decode = False
        self._queues: dict[str, str] = {}
        self._prefetch = PREFETCH
        self._accounts: dict[str, _Account] = defaultdict(_Account)
        self._held: deque[Callable[[], None]] = deque()
        self._settled: deque[tuple[_Account, int]] = deque()

    def basic_qos(
        self,
        prefetch_size: int,
        prefetch_count: int,
        a_global: bool,  # noqa: FBT001 - py-amqp's own
        argsig: str = "lBb",
    ) -> None:
        """Say how many messages of each queue may be unacknowledged."""
        self._prefetch = prefetch_count
        super().basic_qos(prefetch_size, prefetch_count, a_global, argsig)

    def basic_consume(self, queue: str = "", consumer_tag: str = "", **options: Any) -> str:  # type: ignore[override]  # by name, as kombu calls it
        """Begin to consume a queue."""
        self._queues[consumer_tag] = queue
        return super().basic_consume(queue, consumer_tag, **options)

    def dispatch_method(self, method_sig: tuple[int, int], payload: bytes, content: Any) -> None:
        """Obey what came; the names in a delivery are its producer's, and are not read."""
        if method_sig == spec.Basic.Deliver:
            # The method, the consumer's tag behind its length, a number, a flag; then the names.
            names = 4 + 1 + payload[4] + 8 + 1
            payload = bytes(payload[:names]) + b"\0\0"
        super().dispatch_method(method_sig, payload, content)

    def go_on(self) -> None:
        """Deliver what is held and acknowledge what is settled, as far as slots are free."""
        while self._held and self.door.room > 0:
            self._held.popleft()()
        self._sort_settled()
        for account in self._accounts.values():
            while account.settled and self._prefetch - account.unacknowledged < self.door.room:
                self.basic_ack(account.settled.popleft())

    def close(self, *arguments: Any, **options: Any) -> None:
        """Acknowledge what is settled, and close: all else goes back."""
        self._sort_settled()
        with suppress(*ERRORS):
            for account in self._accounts.values():
                while account.settled:
                    self.basic_ack(account.settled.popleft())
        super().close(*arguments, **options)

    def _on_basic_deliver(  # noqa: PLR0913, PLR0917 - py-amqp's own
        self,
        consumer_tag: str,
        delivery_tag: int,
        redelivered: bool,  # noqa: FBT001
        exchange: str,
        routing_key: str,
        msg: Any,
    ) -> None:
        del exchange, routing_key
        queue = self._queues[consumer_tag]
        account = self._accounts[queue]
        account.unsettled.add(delivery_tag)
        settle = partial(self._settled.append, (account, delivery_tag))
        content = _content(msg)
        try:
            admitted = admit_content(content)
        except NotAMessage as error:
            self.door.refuse(queue, content.written, error, settle)
            return
        # As they were read: Celery has the same before it.
        msg.properties["application_headers"] = admitted.message["headers"]
        told = super()._on_basic_deliver  # type: ignore[misc]  # py-amqp's stubs lack it
        tell = partial(told, consumer_tag, delivery_tag, redelivered, "", queue, msg)
        self._held.append(partial(self._deliver, admitted, queue, settle, tell))
        self.go_on()

    def _deliver(
        self,
        admitted: Admitted,
        queue: str,
        settle: Callable[[], None],
        tell: Callable[[], None],
    ) -> None:
        """Deliver a message, whatever comes of that."""
        self.admitted, self.settle = admitted, settle
        rung_at = admitted.message["headers"].get("rung_at")
        if admitted.is_doorbell and type(rung_at) is int:
            self.door.came(queue, rung_at)
        try:
            tell()
        except Exception as error:  # noqa: BLE001 - left alone, it would end one worker after the other
            logger.error("a message met a fault of the worker: %s", logs.origin(error))  # noqa: TRY400
            reason = NotAMessage("it met a fault of the worker")
            self.door.refuse(queue, admitted.text, reason, settle)

    def _sort_settled(self) -> None:
        """Take over what other threads have settled."""
        while self._settled:
            account, tag = self._settled.popleft()
            if tag in account.unsettled:
                account.unsettled.remove(tag)
                account.settled.append(tag)


class Connection(pyamqp.Connection):
    """A connection whose every frame is noted, and of which none ends the worker."""

    door: Door

    def __init__(self, **options: Any) -> None:
        """Prepare, as py-amqp does."""
        super().__init__(frame_handler=self._frames, **options)

    def _frames(self, _: object, callback: Callable[..., None]) -> Callable[..., bool]:
        """Return what reads frames: py-amqp's own, behind a look at each."""
        handle = frame_handler(self, callback)

        def on_frame(frame: tuple[int, int, bytes]) -> bool:
            self.door.heard()
            kind, channel, data = frame
            if kind == _HEADER and not _readable(data):
                # Behind these stands which properties there are: none.
                frame = kind, channel, bytes(data[:_BEFORE_PROPERTIES]) + b"\0\0"
            return bool(handle(frame))

        return on_frame


class Transport(pyamqp.Transport):
    """A transport whose queues are there when it is connected."""

    queues: tuple[str, ...]
    #: What keeps it from connecting, a refused password too, is tried again after a pause. kombu
    #: gives such an error up, whereupon Celery tries anew at once, hundreds of times a minute.
    recoverable_connection_errors = ERRORS

    def establish_connection(self) -> Any:
        """Connect."""
        connection = super().establish_connection()
        channel = connection.channel()
        for queue in self.queues:
            make_queue(channel, queue)
        channel.close()
        return connection

    def qos_semantics_matches_spec(self, connection: Any) -> bool:
        """Let Celery bound each queue by itself: not all queues can be bound together."""
        del connection
        return True

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Let Celery's loop read what comes, and see in each round to what is to be done."""
        super().register_with_event_loop(connection, loop)

        def round_() -> None:
            if not connection.connected:
                loop.on_tick.discard(round_)
                return
            for channel in list(connection.channels.values()):
                if isinstance(channel, Channel):
                    channel.go_on()

        loop.on_tick.add(round_)


def guarded_transport(door: Door, queues: tuple[str, ...]) -> type[Transport]:
    """Return a transport class for these queues, whose messages pass the door."""
    channel = type("Channel", (Channel,), {"door": door})
    connection = type("Connection", (Connection,), {"door": door, "Channel": channel})
    return type("Transport", (Transport,), {"Connection": connection, "queues": queues})


def _content(msg: Any) -> Content:
    said, body = msg.properties, msg.body
    return Content(
        content_type=said.get("content_type"),
        content_encoding=said.get("content_encoding"),
        headers=said.get("application_headers") or {},
        # py-amqp's word for none is a text.
        body=body.encode() if isinstance(body, str) else bytes(body),
    )


def _readable(data: bytes) -> bool:
    """Tell whether py-amqp can read the properties in a frame."""
    try:
        decode_properties_basic(data, _BEFORE_PROPERTIES)
    except Exception:  # noqa: BLE001 - whatever it stumbles over
        return False
    return True
