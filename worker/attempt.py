"""One attempt: send the call, publish and fold what comes, say what it came to.

    send ──> not 2xx: refuse ──────────────────────────────┐
        ├──> whole:   read ───────────────────> Answered   ├──> Unanswered
        └──> stream:  decode, fold, publish ──> Answered   │
                      └─ no finish frame: truncated ───────┘

Time is bounded in four ways by one timer, which moves on as bytes come: first chunk, gap between
bytes, the whole attempt, and the task's own deadline.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from api_contracts.errors import ErrorCode
from worker import wire
from worker.errors import AttemptFailed, Failure
from worker.frames import Decoder, parse
from worker.outcome import Answered, Unanswered
from worker.protocols.base import Answer, Call, Fold, ProtocolModule
from worker.protocols.refusal import request_id_of
from worker.router import Response, Router
from worker.writer import Writer

#: Largest answer, whole or streamed, in bytes: Redis takes 512 MiB, a reader's patience less.
ANSWER_LIMIT: Final = 64 * 1024 * 1024
#: As much of a refusal as is read, in bytes: its message is cut to 2 KiB anyway.
REFUSAL_LIMIT: Final = 256 * 1024
#: How far the timer may lag behind the last byte, as a share of the longest gap: moving it for
#: every chunk would cost more than the precision is worth.
TIMER_LAG: Final = 0.05
#: How long a stream may stay open behind its finish frame, in seconds: usage follows at once.
LINGER_S: Final = 5.0
#: Failures of the network that spoil nothing once the finish frame has come.
_NETWORK: Final = frozenset({ErrorCode.CONNECTION, ErrorCode.TIMEOUT, ErrorCode.TRUNCATED})
_SUCCESS: Final = range(200, 300)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an attempt may take, in seconds."""

    first_chunk_s: float
    gap_s: float
    total_s: float


class Pace(Protocol):
    """Counts the chunks of a stream behind its first."""

    def next(self, gap_s: float, chunks: int) -> None:
        """Count chunks that came together, so many seconds after the one before."""


class Meter(Protocol):
    """What an attempt tells of its chunks while they come."""

    def first_chunk(self, vendor: str, waited_s: float) -> Pace:
        """Count a stream's first chunk, so many seconds after the call."""


class Timer:
    """The moment by which an attempt must have moved on, and why."""

    def __init__(self, limits: Limits, deadline_ms: int | None, *, stream: bool) -> None:
        """Begin now. A call that is not streamed has its total and its deadline alone."""
        now = asyncio.get_running_loop().time()
        self._limits = limits
        left_s = math.inf if deadline_ms is None else deadline_ms / 1000 - time.time()
        self._end = now + min(limits.total_s, left_s)
        self._deadline_first = left_s <= limits.total_s
        first_at = now + limits.first_chunk_s if stream else self._end
        self.timeout = asyncio.timeout_at(min(first_at, self._end))
        self._lag_s = TIMER_LAG * limits.gap_s
        self._moved_at: float | None = None
        self._reason = f"no chunk came within {limits.first_chunk_s:g} s"

    def moved(self, now: float, *, finished: bool) -> None:
        """Note that bytes came behind the first chunk, or with it.

        Behind the finish frame there is little to wait for.
        """
        if finished:
            self.timeout.reschedule(min(now + LINGER_S, self._end))
        elif self._moved_at is None or now - self._moved_at > self._lag_s:
            self._moved_at = now
            self.timeout.reschedule(min(now + self._limits.gap_s + self._lag_s, self._end))
            self._reason = f"the stream paused for longer than {self._limits.gap_s:g} s"

    def failure(self) -> Failure:
        """Name what the timer has ended.

        By the moment that it was set to, not by the clock: a loop may wake some µs early.
        """
        when = self.timeout.when()
        if when is not None and when < self._end:
            return Failure(ErrorCode.TIMEOUT, self._reason)
        if self._deadline_first:
            return Failure(ErrorCode.DEADLINE, "the deadline passed during the call")
        reason = f"the call took longer than {self._limits.total_s:g} s"
        return Failure(ErrorCode.TIMEOUT, reason)


class Attempt:
    """One call for one task, writing through one writer."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of one attempt, joined here alone
        self, router: Router, writer: Writer, meter: Meter, vendor: str,
        protocol: ProtocolModule, call: Call,
    ) -> None:  # fmt: skip
        """Join the parts; nothing is sent yet. ``vendor`` is whom the chunks are counted for."""
        self._router = router
        self._writer = writer
        self._meter = meter
        self._vendor = vendor
        self._pace: Pace | None = None
        self._protocol = protocol
        self._call = call
        self._fold = protocol.fold(call)
        self._response: Response | None = None
        self._began = self._last = asyncio.get_running_loop().time()
        self._first_chunk_ms: int | None = None

    async def run(self, limits: Limits, deadline_ms: int | None) -> Answered | Unanswered:
        """Make the call and see it through; ``deadline_ms`` is unix time."""
        timer = Timer(limits, deadline_ms, stream=self._call.stream)
        try:
            async with timer.timeout, self._router.send(self._call) as response:
                self._response = response
                return self._answered(response, await self._answer(response, timer))
        except TimeoutError:
            if self._response is not None and self._fold.complete:
                return self._answered(self._response, self._fold.answer())
            return self.unanswered(timer.failure())
        except AttemptFailed as error:
            return self.unanswered(error.failure)

    async def _answer(self, response: Response, timer: Timer) -> Answer:
        if response.status not in _SUCCESS:
            body = await response.beginning(REFUSAL_LIMIT)
            headers = response.headers
            raise AttemptFailed(self._protocol.refuse(response.status, headers, body, time.time()))
        if not self._call.stream:
            return self._protocol.read(parse(await response.read(ANSWER_LIMIT)))
        await self._stream(self._protocol.decoder(response.content_type), response, timer)
        return self._fold.answer()

    async def _stream(self, decoder: Decoder, response: Response, timer: Timer) -> None:
        """Publish and fold the stream until it ends; AttemptFailed unless it was whole."""
        loop = asyncio.get_running_loop()
        fold = self._fold
        size = 0
        try:
            with response.reading() as pieces:
                async for piece in pieces:
                    now = loop.time()
                    size += len(piece)
                    if size > ANSWER_LIMIT:
                        raise AttemptFailed(_too_large(response))  # noqa: TRY301 - with its kin
                    self._take(decoder.feed(piece), fold, now)
                    if self._pace is not None:
                        timer.moved(now, finished=fold.complete)
            self._take(decoder.close(), fold, loop.time())
        except AttemptFailed as error:
            if not (fold.complete and error.failure.code in _NETWORK):
                raise
        if not fold.complete:
            raise AttemptFailed(Failure(ErrorCode.TRUNCATED))

    def _take(self, frames: Sequence[bytes], fold: Fold, now: float) -> None:
        """Fold frames that came together, and publish them up to one that cannot be folded."""
        published: list[bytes] = []
        try:
            for frame in frames:
                if fold.add(frame):
                    published.append(frame)  # noqa: PERF401 - one may raise
        finally:
            if published:
                self._publish(published, now)

    def _publish(self, frames: Sequence[bytes], now: float) -> None:
        writer = self._writer
        at = int(time.time() * 1000)
        writer.append(wire.chunks(writer.task_id, writer.attempt, writer.seq + 1, at, frames))
        if self._pace is None:
            waited_s = now - self._began
            self._pace = self._meter.first_chunk(self._vendor, waited_s)
            self._first_chunk_ms = int(waited_s * 1000)
            self._last = now
            frames = frames[1:]
        if frames:
            self._pace.next(now - self._last, len(frames))
            self._last = now

    def _answered(self, response: Response, answer: Answer) -> Answered:
        return Answered(
            answer=answer,
            protocol=self._protocol.NAME,
            status=response.status,
            request_id=self._router.hide_keys(request_id_of(response.headers)),
            first_chunk_ms=self._first_chunk_ms,
        )

    def unanswered(self, failure: Failure) -> Unanswered:
        """Say that the attempt has failed, with what is known of its call."""
        if self._response is not None:
            failure = replace(
                failure,
                status=failure.status or self._response.status,
                request_id=failure.request_id or request_id_of(self._response.headers),
            )
        return Unanswered(self._router.without_keys(failure), self._fold.partial_usage())


def _too_large(response: Response) -> Failure:
    message = f"the stream has more than {ANSWER_LIMIT} bytes"
    return Failure(ErrorCode.TOO_LARGE, message, response.status)
