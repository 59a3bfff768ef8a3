"""What the upstream can give by itself: read by bare connections that throw everything away.

    python -m tests.bench.ceiling PORT

It says `ready`. Each line of its standard input is `REQUESTS CONNECTIONS stream|answer`, and is
answered with the seconds that this took. It ends with its standard input.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from typing import Final, cast

import uvloop

from tests.bench.children import say
from tests.bench.work import request

_END: Final = {"stream": b"\r\n0\r\n\r\n", "answer": b"}"}


class Reader(asyncio.Protocol):
    """One connection, which sends the next request when the last is answered."""

    def __init__(self, numbers: Iterator[int], what: str) -> None:
        """Share the numbers of the requests with the other connections."""
        self._numbers, self._what, self._end = numbers, what, _END[what]
        self._tail = b""
        #: Done when no number is left.
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first."""
        # uvloop's is none by its class.
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Look for the end alone."""
        self._tail = (self._tail + data)[-len(self._end) :]
        if self._tail == self._end:
            self._tail = b""
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail where the upstream closes."""
        if not self.over.done():
            self.over.set_exception(exc or ConnectionError("the upstream has closed"))

    def _send(self) -> None:
        number = next(self._numbers, None)
        if number is None:
            self.over.set_result(None)
            self._transport.close()
            return
        body = json.dumps(request(number, stream=self._what == "stream").body).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)


async def read(port: int, requests: int, connections: int, what: str) -> float:
    """Make the requests; return how many seconds they took."""
    loop = asyncio.get_running_loop()
    numbers = iter(range(requests))
    begun = time.monotonic()
    made = [
        await loop.create_connection(lambda: Reader(numbers, what), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(reader.over for _, reader in made))
    return time.monotonic() - begun


async def main(port: int) -> None:
    """Read as is asked until standard input ends."""
    loop = asyncio.get_running_loop()
    say("ready")
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        requests, connections, what = line.split()
        say(str(await read(port, int(requests), int(connections), what)))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
