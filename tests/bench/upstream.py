"""The router of the benchmark: an HTTP server that streams marked chunks and notes every call.

    python -m tests.bench.upstream PORT

1. ``POST /bench/begin`` says how it shall answer from now on (:class:`Answering`), and forgets
   the calls so far.
2. Any other POST is a call. Its body names its number in ``user``, and says whether to stream.
3. A stream has its first chunk at once or, where there is a gap, at a random moment of the first
   gap, so that streams that begin together do not tick together (one that is held has both). Each
   chunk is written as one HTTP chunk, with a mark of the moment.
4. ``GET /bench/state`` counts, ``POST /bench/release`` ends the streams that are held open, and
   ``GET /bench/report`` gives all that was noted.

It ends with its standard input. One process on raw asyncio protocols: its own ceiling is measured
in each run (`tests.bench.ceiling`).
"""

import asyncio
import json
import re
import sys
import time
from collections.abc import Callable
from typing import Any, Final, cast

import uvloop

from tests.bench import marks
from tests.bench.children import say
from tests.bench.figures import percentile
from tests.bench.streams import USED, Answering, Notes, Stream

#: Bytes at either end of a body that are searched: what we look for stands there, and a body may
#: have 28 MB.
_EDGE: Final = 1024
#: Connections that may wait to be taken: all streams of a workload connect at once.
_BACKLOG: Final = 4096

_NUMBER: Final = re.compile(rb'"user":\s*"(\d+)"')
_STREAM: Final = re.compile(rb'"stream":\s*true')
_USAGE: Final = re.compile(rb'"include_usage":\s*true')
_LENGTH: Final = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)

_ANSWER: Final = (
    b'{"id":"chatcmpl-8f14e45fceea167a5a36dedd4bea2543","object":"chat.completion",'
    b'"created":1750000000,"model":"gpt-4o","system_fingerprint":"fp_8f14e45f",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"%b"},"logprobs":null,'
    b'"finish_reason":"stop"}],' + USED + b"}"
)


class Wire(asyncio.Protocol):
    """One connection: requests come one after the other."""

    def __init__(self, router: "Upstream") -> None:
        """Belong to a server."""
        self._router = router
        self._read = bytearray()
        #: Of the request whose body is being read, and how long that is.
        self._path: bytes | None = None
        self._wanted = 0
        #: Whether the reader of our answer is behind.
        self.full = False
        #: Whether it has gone.
        self.gone = False
        #: What waits for it.
        self.resume: Callable[[], None] | None = None
        #: The stream that is being written here.
        self.stream: Stream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        # uvloop's is none by its class.
        self._transport = cast("asyncio.Transport", transport)

    def write(self, data: bytes) -> None:
        """Send."""
        self._transport.write(data)

    def pause_writing(self) -> None:
        """Note that the reader is behind."""
        self.full = True

    def resume_writing(self) -> None:
        """Go on."""
        self.full = False
        resume, self.resume = self.resume, None
        if resume is not None:
            resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop what is being written to nobody; it stays open in the notes."""
        del exc
        self.gone = True
        if self.stream is not None:
            self.stream.stop()

    def data_received(self, data: bytes) -> None:
        """Collect requests; answer each when it is whole."""
        self._read += data
        while (request := self._next()) is not None:
            self._router.answer(self, *request)

    def _next(self) -> tuple[bytes, bytes] | None:
        """Take path and body of a request, where it is whole."""
        if self._path is None:
            end = self._read.find(b"\r\n\r\n")
            if end < 0:
                return None
            head = bytes(self._read[:end])
            del self._read[: end + 4]
            length = _LENGTH.search(head)
            self._path, self._wanted = head.split(b" ", 2)[1], int(length[1]) if length else 0
        if len(self._read) < self._wanted:
            return None
        path, self._path = self._path, None
        body = bytes(self._read[: self._wanted])
        del self._read[: self._wanted]
        return path, body


class Upstream:
    """Answers calls, and the harness that asks about them."""

    def __init__(self) -> None:
        """Answer with one chunk until told otherwise."""
        self._notes = Notes()
        self._control: dict[bytes, Callable[[bytes], Any]] = {
            b"/bench/begin": self._begin,
            b"/bench/release": self._release,
            b"/bench/state": self._state,
            b"/bench/report": self._report,
        }

    def answer(self, wire: Wire, path: bytes, body: bytes) -> None:
        """Answer a request."""
        control = self._control.get(path)
        if control is not None:
            wire.write(_whole(json.dumps(control(body)).encode()))
            return
        now = time.monotonic_ns()
        notes = self._notes
        edges = body if len(body) <= 2 * _EDGE else body[:_EDGE] + body[-_EDGE:]
        found = _NUMBER.search(edges)
        number = int(found[1]) if found else -1
        notes.calls.setdefault(number, []).append(now)
        if _STREAM.search(edges):
            wire.stream = Stream(wire, notes, number, usage=bool(_USAGE.search(edges)))
        elif notes.answering.delay_s:
            loop = asyncio.get_running_loop()
            loop.call_later(notes.answering.delay_s, _answer, wire, notes, number)
        else:
            _answer(wire, notes, number)

    def _begin(self, body: bytes) -> None:
        for stream in self._notes.open.values():
            stream.stop()
        self._notes = Notes(Answering(**json.loads(body)))

    def _release(self, _: bytes) -> None:
        for stream in list(self._notes.open.values()):
            stream.release()

    def _state(self, _: bytes) -> dict[str, int]:
        notes = self._notes
        return {
            "calls": sum(map(len, notes.calls.values())),
            "open": len(notes.open),
            "ended": notes.ended,
        }

    def _report(self, _: bytes) -> dict[str, Any]:
        notes = self._notes
        late = percentile(sorted(notes.late_ms), 0.99) if notes.late_ms else 0.0
        return {"calls": notes.calls, "sent": notes.sent, "late_ms_p99": late}


def _answer(wire: Wire, notes: Notes, number: int) -> None:
    """Write an answer that is no stream, unless nobody waits for it any more."""
    if wire.gone:
        return
    notes.sent[number] = notes.sent.get(number, 0) + 1
    notes.ended += 1
    mark = marks.write(number, notes.sent[number] - 1, time.monotonic_ns())
    wire.write(_whole(_ANSWER % mark))


def _whole(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    upstream = Upstream()
    await loop.create_server(lambda: Wire(upstream), "127.0.0.1", port, backlog=_BACKLOG)
    say("ready")
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
