"""The benchmark's subscriber: receives what a worker publishes, and counts it.

    python -m tests.bench.subscriber PORT PATTERN CONNECTIONS stream|answer

It subscribes to a pattern of channels of the Redis on this port, on so many connections, and says
`ready`. Then it answers each line of its standard input with a line of JSON: `state` with counts,
`report` with all that it knows (:class:`Counts`). It ends with its standard input.

A message is noted with the moment at which its bytes were read: the latency of a chunk ends there.
"""

import json
import os
import re
import selectors
import socket
import sys
import time
from array import array
from collections import Counter
from typing import Any, Final

import hiredis

from tests.bench import marks
from tests.bench.children import say

_BLOCK: Final = 1 << 18
#: The head of an event of router-worker; the type is its first group.
_EVENT: Final = re.compile(rb'\{"id":"\d+-\d+","task_id":"[^"]*",(?:"at":\d+,)?"type":"(\w+)"')


class Counts:
    """What was received."""

    def __init__(self, *, streams: bool) -> None:
        """Begin with nothing; ``streams`` tells whether answers come in chunks, or whole."""
        self._streams = streams
        #: How often each chunk came, by number and place in its stream.
        self._seen: Counter[tuple[int, int]] = Counter()
        #: How often each channel said that its answer is whole.
        self._endings: Counter[bytes] = Counter()
        self._failed = 0
        self._last_ns = 0
        #: When each chunk was sent, and how long it took from there.
        self._sent_ns = array("q")
        self._latency_ms = array("d")

    def take(self, channel: bytes, message: bytes, now_ns: int) -> None:
        """Count a message.

        router-worker publishes events. The others publish what the router sent: the data of each
        server-sent event, `[DONE]` at last; or a whole answer.
        """
        event = _EVENT.match(message)
        kind = event[1] if event else self._kind(message)
        if kind == b"chunk" or (kind == b"completed" and not self._streams):
            self._chunk(message, now_ns)
        if kind == b"completed":
            self._endings[channel] += 1
            self._last_ns = now_ns
        elif kind in (b"failed", b"cancelled", b"expired"):
            self._failed += 1

    def _kind(self, message: bytes) -> bytes:
        return b"completed" if message == b"[DONE]" or not self._streams else b"chunk"

    def _chunk(self, message: bytes, now_ns: int) -> None:
        mark = marks.read(message)
        if mark is not None:
            self._seen[mark.number, mark.seq] += 1
            self._sent_ns.append(mark.sent_ns)
            self._latency_ms.append((now_ns - mark.sent_ns) / 1e6)
            self._last_ns = now_ns

    def state(self) -> dict[str, int]:
        """Tell how far it is."""
        return {
            "chunks": len(self._latency_ms),
            "ended": len(self._endings),
            "failed": self._failed,
        }

    def report(self) -> dict[str, Any]:
        """Tell everything.

        `seen` has for each number how many different chunks came; `doubled` counts those and the
        endings that came more often than there are connections to be told by the caller. `sent_ns`
        and `latency_ms` have a value for each chunk.
        """
        different = Counter(number for number, _ in self._seen)
        return {
            **self.state(),
            "seen": different,
            "times": Counter(self._seen.values()),
            "endings_times": Counter(self._endings.values()),
            "last_ns": self._last_ns,
            "sent_ns": list(self._sent_ns),
            "latency_ms": list(self._latency_ms),
        }


class Connection:
    """One connection that is subscribed to a pattern."""

    def __init__(self, port: int, pattern: str) -> None:
        """Subscribe, and wait until that is confirmed."""
        self.socket = socket.create_connection(("127.0.0.1", port))
        self._reader = hiredis.Reader()
        self.socket.sendall(f"PSUBSCRIBE {pattern}\r\n".encode())
        while self._reader.gets() is False:
            self._reader.feed(self.socket.recv(_BLOCK))

    def read(self, counts: Counts) -> bool:
        """Count what has come; False where the server has closed."""
        data = self.socket.recv(_BLOCK)
        now_ns = time.monotonic_ns()
        self._reader.feed(data)
        while (message := self._reader.gets()) is not False:
            counts.take(message[2], message[3], now_ns)
        return bool(data)


def main(port: int, pattern: str, connections: int, what: str) -> None:
    """Count until standard input ends."""
    counts = Counts(streams=what == "stream")
    questions = {"state": counts.state, "report": counts.report}
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            connection = Connection(port, pattern)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        say("ready")
        while True:
            for key, _ in selector.select():
                if isinstance(key.data, Connection):
                    if not key.data.read(counts):
                        selector.unregister(key.fileobj)
                    continue
                asked = os.read(sys.stdin.fileno(), 64).decode()
                if not asked:
                    return
                for line in asked.split():
                    say(json.dumps(questions[line]()))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
