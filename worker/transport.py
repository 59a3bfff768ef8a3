"""kombu's Redis transport, with a door: what is no message for us is parked, not delivered.

Built on kombu 5.7, whose ``Channel._brpop_read`` this replaces: it is the one place where a
message is still bytes. Its steps are kept; only the reading of the message is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty
from typing import Any

from kombu.transport import redis
from kombu.utils.encoding import bytes_to_str

from worker.admission import NotAMessage, admit

#: Puts a message aside: the queue that it came from, its bytes, and why.
Park = Callable[[str, bytes, str], None]


def guarded_transport(park: Park) -> type[redis.Transport]:
    """Return a transport class that parks what :func:`~.admission.admit` refuses."""

    class Channel(redis.Channel):
        """A channel that reads a message before it delivers it."""

        # Of kombu's own channel, where its type stubs leave them out.
        _queue_cycle: Any
        _flush_brpop_reauth: Callable[[], None]
        connection_errors: tuple[type[Exception], ...]

        def _brpop_read(self, **options: Any) -> bool:
            try:
                popped = self._popped(options)
                if not popped:
                    raise Empty
                queue = bytes_to_str(popped[0]).rsplit(self.sep, 1)[0]
                self._queue_cycle.rotate(queue)
                try:
                    message = admit(popped[1])
                except NotAMessage as error:
                    park(queue, popped[1], str(error))
                    return False
                self.connection._deliver(message, queue)  # noqa: SLF001 - as kombu's own does
                return True
            finally:
                self._in_poll = None
                self._flush_brpop_reauth()

        def _popped(self, options: dict[str, Any]) -> list[bytes] | None:
            try:
                popped: list[bytes] | None = self.client.parse_response(
                    self.client.connection, "BRPOP", **options
                )
            except self.connection_errors:
                # Closed, so that the next round opens it anew.
                self.client.connection.disconnect()
                raise
            return popped

    class Transport(redis.Transport):
        """Redis, with that channel."""

    Transport.Channel = Channel
    return Transport
