"""How the upstream answers: streams of marked chunks, and what is noted of them."""

import asyncio
import random
import sys
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from tests.bench import marks

#: Chunks that a stream without pauses writes before another has its turn.
BURST: Final = 20
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


def _framed(data: bytes) -> bytes:
    """Make an HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _around_mark(finish_reason: bytes) -> tuple[bytes, bytes]:
    """Return what stands before and behind the mark of a chunk, since nothing else changes."""
    event = (
        b'data: {"id":"chatcmpl-8f14e45fceea167a5a36dedd4bea2543","object":"chat.completion.chunk",'
        b'"created":1750000000,"model":"gpt-4o","system_fingerprint":"fp_8f14e45f",'
        b'"choices":[{"index":0,"delta":{"content":"%b"},"logprobs":null,"finish_reason":%b}]}\n\n'
    ) % (bytes(marks.LENGTH), finish_reason)
    before, _, behind = _framed(event).partition(bytes(marks.LENGTH))
    return before, behind


_CHUNK: Final = _around_mark(b"null")
_LAST_CHUNK: Final = _around_mark(b'"stop"')
#: What an answer says of its tokens.
USED: Final = b'"usage":{"prompt_tokens":9,"completion_tokens":100,"total_tokens":109}'
_USAGE_CHUNK: Final = _framed(
    b'data: {"id":"chatcmpl-8f14e45fceea167a5a36dedd4bea2543","object":"chat.completion.chunk",'
    b'"created":1750000000,"model":"gpt-4o","choices":[],' + USED + b"}\n\n"
)
_DONE: Final = _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Wire(Protocol):
    """The connection that a stream is written on."""

    #: Whether its reader is behind.
    full: bool
    #: What waits until he is not.
    resume: Callable[[], None] | None

    def write(self, data: bytes) -> None:
        """Send."""


@dataclass(frozen=True)
class Answering:
    """How calls are answered."""

    #: Of each stream.
    chunks: int = 1
    #: Between two chunks of a stream, in seconds; 0 is without pause.
    gap_s: float = 0.0
    #: Until an answer that is no stream, in seconds.
    delay_s: float = 0.0
    #: Whether streams go on until they are released, however many chunks that takes.
    held: bool = False
    seed: int = 0


@dataclass
class Notes:
    """What happened since the last begin."""

    answering: Answering = field(default_factory=Answering)
    #: By number: when each call had come whole, in ns of the monotonic clock.
    calls: dict[int, list[int]] = field(default_factory=dict)
    #: By number: how many chunks were sent.
    sent: dict[int, int] = field(default_factory=dict)
    open: dict[int, "Stream"] = field(default_factory=dict)
    ended: int = 0
    #: How late each chunk of a stream with gaps was, in ms.
    late_ms: "array[float]" = field(default_factory=lambda: array("d"))

    def __post_init__(self) -> None:
        """Draw the moments of this run from its seed."""
        self.dice = random.Random(self.answering.seed)


class Stream:
    """One answer that is streamed."""

    def __init__(self, wire: Wire, notes: Notes, number: int, *, usage: bool) -> None:
        """Begin it."""
        self._loop = asyncio.get_running_loop()
        self._wire, self._notes, self._number, self._usage = wire, notes, number, usage
        self._answering = notes.answering
        self._seq = notes.sent.get(number, 0)
        self._last = sys.maxsize if self._answering.held else self._seq + self._answering.chunks - 1
        self._timer: asyncio.Handle | None = None
        notes.open[number] = self
        wire.write(_HEAD)
        if self._answering.held:
            self._write(1)
        if self._answering.gap_s:
            self._due = self._loop.time() + notes.dice.random() * self._answering.gap_s
            self._timer = self._loop.call_at(self._due, self._tick)
        else:
            self.burst()

    def _tick(self) -> None:
        self._notes.late_ms.append((self._loop.time() - self._due) * 1000)
        if self._write(1):
            self._due += self._answering.gap_s
            self._timer = self._loop.call_at(self._due, self._tick)

    def burst(self) -> None:
        """Write what is one stream's turn, unless its reader is behind."""
        self._timer = None
        if self._wire.full:
            self._wire.resume = self.burst
        elif self._write(BURST):
            self._timer = self._loop.call_soon(self.burst)

    def release(self) -> None:
        """Write the last chunk now."""
        self.stop()
        self._last = self._seq
        self._write(1)

    def stop(self) -> None:
        """Write nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _write(self, count: int) -> bool:
        """Write so many chunks, or what is left; tell whether there are more to come."""
        upto = min(self._seq + count, self._last + 1)
        pieces = []
        for seq in range(self._seq, upto):
            before, behind = _CHUNK if seq < self._last else _LAST_CHUNK
            mark = marks.write(self._number, seq, time.monotonic_ns())
            pieces.append(b"%b%b%b" % (before, mark, behind))
        self._seq = self._notes.sent[self._number] = upto
        if upto > self._last:
            pieces += [_USAGE_CHUNK] if self._usage else []
            pieces.append(_DONE)
            del self._notes.open[self._number]
            self._notes.ended += 1
        self._wire.write(b"".join(pieces))
        return upto <= self._last
