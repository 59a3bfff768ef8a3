"""How an answer is sent: as bytes, waits and cuts, in order. Pure: the server only plays them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, cycle, takewhile
from typing import Final

from worker.simulator.conversation import Frame
from worker.simulator.faults import Faults

#: Sizes of the pieces of ``split=bytes``, in bytes, over and over: odd on purpose.
_SPLITS: Final = (1, 2, 3, 5, 7, 11, 13, 17)
#: Pause between two pieces of ``split=bytes``, in seconds, so that each is a read of its own.
_SPLIT_GAP_S: Final = 0.001
#: A frame that is no JSON.
_BROKEN: Final = Frame(b'{"broken": [', "content_block_delta")


@dataclass(frozen=True, slots=True)
class Send:
    """Write these bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """Write nothing for that many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection as it is. Always the last step."""


Step = Send | Wait | Cut


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the model speaks where the call does not say, in seconds."""

    first_s: float = 0.2
    gap_s: float = 0.04


@dataclass(frozen=True, slots=True)
class Framing:
    """How the frames of a stream follow each other on the wire.

    ``lead`` and ``trail`` stand around each frame, ``separator`` between two. ``opening`` is sent
    at once, ``closing`` last, however the stream ends. ``named``: Anthropic's ``event`` lines.
    """

    content_type: str = "text/event-stream"
    opening: bytes = b""
    lead: bytes = b"data: "
    trail: bytes = b"\n\n"
    separator: bytes = b""
    closing: bytes = b""
    named: bool = False

    def wrap(self, frame: Frame, place: int) -> bytes:
        """Write the frame in that place, counted from 0."""
        name = b"event: " + frame.name.encode() + b"\n" if self.named else b""
        between = self.separator if place else b""
        return between + name + self.lead + frame.data + self.trail


def stream_steps(
    frames: Sequence[Frame], framing: Framing, error: Frame, faults: Faults, pace: Pace
) -> Iterator[Step]:
    """Plan a stream. ``error`` is what ``error=N`` sends.

    A fault after more chunks than there are happens just before the finish frame.
    """
    body = [frame for frame in frames if not (faults.no_finish and frame.finish)]
    finish = next((place for place, frame in enumerate(body) if frame.finish), len(body))
    gap = pace.gap_s if faults.gap_s is None else faults.gap_s
    yield from _sends(framing.opening, faults)
    yield Wait(pace.first_s if faults.first_s is None else faults.first_s)
    for place, frame in enumerate([*body, Frame(b"")]):
        if place == _at(faults.stall_after, finish):
            yield Wait(faults.stall_s)
        if place == _at(faults.cut, finish):
            yield Cut()
            return
        if place == _at(faults.error, finish):
            yield from _sends(framing.wrap(error, place) + framing.closing, faults)
            return
        if place == _at(faults.malformed, finish):
            yield from _sends(framing.wrap(_BROKEN, place), faults)
        if place < len(body):
            yield from _sends(framing.wrap(frame, place), faults)
            yield Wait(0 if frame.finish else gap)
    yield from _sends(framing.closing, faults)


def _at(after: int | None, finish: int) -> int | None:
    return None if after is None else min(after, finish)


def whole_body(body: bytes, error: bytes, faults: Faults) -> bytes:
    """Return what an answer in one piece says: itself, an error under 200, or its first half."""
    if faults.error is not None:
        return error
    return body if faults.malformed is None else body[: len(body) // 2]


def whole_steps(body: bytes, faults: Faults, pace: Pace) -> Iterator[Step]:
    """Plan an answer in one piece. What a stream does after N chunks happens half-way."""
    half = len(body) // 2
    yield Wait(pace.first_s if faults.first_s is None else faults.first_s)
    yield from _sends(body[:half], faults)
    if faults.stall_after is not None:
        yield Wait(faults.stall_s)
    if faults.cut is not None:
        yield Cut()
        return
    yield from _sends(body[half:], faults)


def _sends(data: bytes, faults: Faults) -> Iterator[Step]:
    if not faults.split:
        yield Send(data)
        return
    for piece in split(data):
        yield Send(piece)
        yield Wait(_SPLIT_GAP_S)


def split(data: bytes) -> Iterator[bytes]:
    """Cut bytes into odd pieces, and inside every character of more than one byte."""
    places = set(takewhile(lambda place: place < len(data), accumulate(cycle(_SPLITS))))
    places |= {place for place, byte in enumerate(data) if byte & 0xC0 == 0x80}  # noqa: PLR2004
    start = 0
    for place in sorted(places | {len(data)}):
        yield data[start:place]
        start = place
