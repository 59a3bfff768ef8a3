"""How many chunks one Redis carries: appends and publishes them as fast as it takes them.

    python -m tests.bench.redis_ceiling PORT

It makes the records of running tasks on the Redis at this port and says ``ready``. Then a line of
``SECONDS EVENTS`` is answered with the number of chunks that Redis has taken in that time, where
each call of ``append.lua`` brings so many. It ends with its standard input.
"""

import itertools
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import hiredis
import redis

from api_contracts.events import EVENT_LIMIT
from api_contracts.names import Keys
from tests.bench.children import say
from worker import wire
from worker.store.link import SHAS, SOURCES

#: Tasks that run at once, and calls in a pipeline: what a worker sends where 400 streams have 25
#: chunks a second.
TASKS: Final = 400
_CALLS: Final = 20
_KEYS: Final = Keys("rw")
_TOKEN: Final = "token"
#: A chunk as OpenAI sends it.
_DATA: Final = (
    b'{"id":"chatcmpl-8f14e45fceea167a5a36dedd4bea2543","object":"chat.completion.chunk",'
    b'"created":1750000000,"model":"gpt-4o","system_fingerprint":"fp_8f14e45f","choices":'
    b'[{"index":0,"delta":{"content":" ocean"},"logprobs":null,"finish_reason":null}]}'
)


class Load:
    """Running tasks, whose events are appended over one connection."""

    def __init__(self, port: int) -> None:
        """Make the tasks."""
        client = redis.Redis(port=port)
        client.script_load(SOURCES["append"])
        self._seqs = {str(uuid4()): itertools.count(1) for _ in range(TASKS)}
        for task_id in self._seqs:
            client.hset(_KEYS.record(task_id), mapping={"state": "running", "token": _TOKEN})
            client.xadd(_KEYS.events(task_id), {"event": "{}"}, id="1-0")
        self._ids = itertools.cycle(self._seqs)
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._reader = hiredis.Reader()

    def run(self, seconds: float, events: int) -> int:
        """Append for so long, so many events in a call; return how many there were."""
        done = 0
        over = time.monotonic() + seconds
        self._send(events)
        while time.monotonic() < over:
            # One pipeline is always on its way, so that Redis has never to wait.
            self._send(events)
            self._take()
            done += _CALLS * events
        self._take()
        return done + _CALLS * events

    def _send(self, events: int) -> None:
        calls = (self._call(next(self._ids), events) for _ in range(_CALLS))
        self._socket.sendall(b"".join(map(hiredis.pack_command, calls)))

    def _take(self) -> None:
        for reply in itertools.islice(self._replies(), _CALLS):
            if reply != 1:
                message = f"append.lua said {reply!r}"
                raise RuntimeError(message)

    def _replies(self) -> Iterator[Any]:
        while True:
            while (reply := self._reader.gets()) is False:
                data = self._socket.recv(1 << 16)
                if not data:
                    message = "Redis has closed the connection"
                    raise ConnectionError(message)
                self._reader.feed(data)
            yield reply

    def _call(self, task_id: str, events: int) -> tuple[Any, ...]:
        numbers = self._seqs[task_id]
        first = next(numbers)
        for _ in range(events - 1):
            next(numbers)
        at = int(time.time() * 1000)
        return (
            *("EVALSHA", SHAS["append"], 2, _KEYS.record(task_id), _KEYS.events(task_id)),
            *(task_id, _KEYS.live(task_id), 1, _TOKEN, first, EVENT_LIMIT),
            *wire.chunks(task_id.encode(), 1, first, at, [_DATA] * events),
        )


def main(port: int) -> None:
    """Obey the lines of standard input."""
    load = Load(port)
    say("ready")
    for line in sys.stdin:
        seconds, events = line.split()
        say(str(load.run(float(seconds), int(events))))


if __name__ == "__main__":
    main(int(sys.argv[1]))
