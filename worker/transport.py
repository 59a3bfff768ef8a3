"""kombu's Redis transport, with a door of ours.

Built on kombu 5.7, whose ``Channel._brpop_read`` this replaces: it is the one place where a
message is still bytes. Its steps are kept; ours are added:

1. Every answer to a request for messages is noted, an empty one too.
2. A message that came while nobody consumes any more goes back to where it came from. kombu reads
   such an answer when it closes, once the last task has ended.
3. What is no message for us is turned away, not delivered.
4. A message that carries a task is noted as unacknowledged, as kombu does. A doorbell is not: it
   may be lost, and noting and forgetting it cost 430 µs of CPU time.
5. A message that Redis gave and does not let us note goes back too. With kombu alone it is lost:
   a connection that is cut in between is enough. Memory that is full, or a server that was
   demoted, would end the worker as well.
6. Only as many messages are asked for as there is room for. Behind a doorbell that came at once,
   since others wait, more doorbells are taken in one round trip.
7. Nothing that a message says ends the worker: what fails on its way to Celery is turned away.
   The queue that it came from is the one that it was found in, whatever it says.

What goes back goes to the right end of its list, from which messages are taken. What is noted and
not forgotten comes again when its time has come; nothing is given back when a connection is lost,
where kombu would ask a master that was demoted again and again, without end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from importlib.resources import files
from queue import Empty
from time import monotonic
from typing import Any, Final, Protocol

from kombu.transport import redis
from kombu.utils.encoding import bytes_to_str

from api_contracts.client.servers import SentinelConnection
from worker import logs
from worker.admission import Admitted, NotAMessage, admit

#: Most doorbells that are taken in one round trip. A worker that is killed before it has obeyed
#: them leaves as many tasks to the reaper.
TOGETHER: Final = 16
#: Longest message that is taken so, in bytes: doorbells have 500.
TOGETHER_BYTES: Final = 1024
_DOORBELLS: Final = files("worker").joinpath("lua/doorbells.lua").read_text()
#: A message that comes sooner than this after it was asked for had probably waited, in seconds:
#: Celery's thread itself waits some ms for the interpreter while the loop is busy.
AT_ONCE_S: Final = 0.02

logger = logging.getLogger(__name__)


class Door(Protocol):
    """What happens to messages at the door. Called in the thread that consumes."""

    @property
    def room(self) -> int:
        """How many more messages may come."""

    def heard(self) -> None:
        """Note that Redis has answered when it was asked for messages."""

    def turn_away(self, queue: str, message: bytes, error: NotAMessage) -> None:
        """Answer or put aside what is no message for us."""

    def put_back(self, queue: str, message: bytes) -> None:
        """Put a message back where it came from; return once that is done."""


class QoS(redis.QoS):
    """kombu's notes of what is unacknowledged, on Redis alone: nothing is kept here."""

    channel: Channel
    _delivered: Any
    #: Whether the next message is to be noted.
    noting = True

    @cached_property
    def _client(self) -> Any:
        channel: Any = self.channel
        return channel._create_client()  # noqa: SLF001 - as kombu's own does

    @contextmanager
    def pipe_or_acquire(self, pipe: Any = None, client: Any = None) -> Iterator[Any]:
        """Give a pipeline to note with.

        kombu makes a client for each note, and all that time the message is nobody's.
        """
        del client
        yield self._client.pipeline() if pipe is None else pipe

    def can_consume(self) -> bool:
        """Tell whether a message may be asked for."""
        return self.channel.door.room > 0

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message that is delivered, if it is one to be noted."""
        if self.noting:
            super().append(message, delivery_tag)
            self._delivered.clear()

    def forget(self, delivery_tag: str) -> None:
        """Take a note away again, if there is one; where that fails the message comes again."""
        notes: Any = self
        try:
            notes._remove_from_indices(delivery_tag).execute()  # noqa: SLF001 - kombu's stubs lack it
        except (*self.channel.connection_errors, self.channel.ResponseError) as error:
            logger.warning("a message comes again: %s", type(error).__name__)

    def restore_visible(self, *arguments: Any, **options: Any) -> None:
        """Give back what nobody acknowledged in time, unless Redis refuses: then at another time.

        kombu lets such a refusal end the worker.
        """
        try:
            super().restore_visible(*arguments, **options)
        except self.channel.ResponseError as error:
            logger.warning("Redis gives no messages back: %s", type(error).__name__)


class Channel(redis.Channel):
    """A channel that looks at a message before it delivers it."""

    QoS = QoS
    qos: Any
    #: The message that is being delivered.
    admitted: Admitted
    #: It is acknowledged on Redis, by the store.
    settle = None
    door: Door

    # Of kombu's own channel, where its type stubs leave them out.
    _queue_cycle: Any
    _in_poll: Any
    _brpop_sent_at: float
    _flush_brpop_reauth: Callable[[], None]
    connection_errors: tuple[type[Exception], ...]
    ResponseError: type[Exception]

    def basic_cancel(self, consumer_tag: str) -> None:
        """Stop consuming a queue; after the last one, wait for the answer that is on its way."""
        super().basic_cancel(consumer_tag)
        if self._in_poll and not self.active_queues:
            with suppress(Empty):
                self._brpop_read()

    def _brpop_read(self, **options: Any) -> bool:
        try:
            popped = self._popped(options)
            self.door.heard()
            if not popped:
                raise Empty
            at_once = monotonic() - self._brpop_sent_at < AT_ONCE_S
            queue = bytes_to_str(popped[0]).rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            is_doorbell = self._take(queue, popped[1])
            if at_once and is_doorbell:
                self._take_more(popped[0], queue)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _popped(self, options: dict[str, Any]) -> list[bytes] | None:
        with self._closed_by_errors():
            popped: list[bytes] | None = self.client.parse_response(
                self.client.connection, "BRPOP", **options
            )
        return popped

    def _take_more(self, key: bytes, queue: str) -> None:
        """Take the doorbells that wait behind a doorbell, as far as there is room."""
        count = min(self.door.room, TOGETHER)
        if count <= 0 or not self.active_queues:
            return
        with self._closed_by_errors():
            self.client.connection.send_command("EVAL", _DOORBELLS, 1, key, count, TOGETHER_BYTES)
            messages: list[bytes] = self.client.connection.read_response()
        for message in messages:
            self._take(queue, message)

    @contextmanager
    def _closed_by_errors(self) -> Iterator[None]:
        """Close the connection where it fails, so that the next round opens it anew."""
        try:
            yield
        except (*self.connection_errors, self.ResponseError):
            self.client.connection.disconnect()
            raise

    @property
    def _refusals(self) -> tuple[type[Exception], ...]:
        """What is raised where Redis does not take a note. kombu counts KeyError among them."""
        lost = (error for error in self.connection_errors if error is not KeyError)
        return (*lost, self.ResponseError)

    def _take(self, queue: str, message: bytes) -> bool:
        """Deliver a message, or see to it otherwise; tell whether it is a doorbell's."""
        if not self.active_queues:
            self.door.put_back(queue, message)
            return False
        try:
            admitted = self.admitted = admit(message, queue)
        except NotAMessage as error:
            self.door.turn_away(queue, message, error)
            return False
        self.qos.noting = not admitted.is_doorbell
        try:
            self.connection._deliver(admitted.message, queue)  # noqa: SLF001 - as kombu's own does
        except self._refusals as error:
            logger.warning("a message could not be noted (%s); it goes back", type(error).__name__)
            self.door.put_back(queue, message)
        except Exception as error:  # noqa: BLE001 - left alone, it would end one worker after the other
            logger.error("a message met a fault of the worker: %s", logs.origin(error))  # noqa: TRY400
            self.qos.forget(admitted.message["properties"]["delivery_tag"])
            self.door.turn_away(queue, message, NotAMessage("it met a fault of the worker"))
        return admitted.is_doorbell


def guarded_transport(door: Door, url: str) -> type[redis.Transport]:
    """Return a transport class for this URL, whose messages pass the door."""
    sentinels = url.startswith("sentinel://")
    transport = redis.SentinelTransport if sentinels else redis.Transport
    parts: dict[str, Any] = {"door": door}
    if sentinels:
        # redis-py's own goes back to a master that was demoted.
        parts["connection_class"] = SentinelConnection
    channel = type("Channel", (Channel, transport.Channel), parts)
    return type("Transport", (transport,), {"Channel": channel})
