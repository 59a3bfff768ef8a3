"""Everything that the loop says to Redis goes through one pump.

1. A caller leaves a command and gets a future; a writer leaves an event and gets nothing.
2. The pump sends whatever has gathered as one pipeline, and while it waits for the replies, and
   for :data:`PACE_S`, the next batch gathers: nothing waits when idle, and under load round trips
   are shared. Measured in a prototype: 115–137 µs of CPU a chunk with one PUBLISH each, 42 µs
   when shared.
3. Events of one attempt that are in the same batch become one call of ``append.lua``.
4. What a cut connection has swallowed, or a server in trouble has refused, is sent again until
   Redis takes it, since every script takes what it has seen already as done, and a doorbell may
   ring twice. So nothing that was decided is forgotten while Redis is away; who waits bounds his
   own wait (:mod:`worker.leases`), and events have a bounded place (:data:`BUFFER_LIMIT`).
5. After :meth:`Pump.close` it tries for :data:`CLOSE_S` more, and then tells every caller.

Order is kept: what was left first is sent first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

Command = tuple[Any, ...]
#: Sends commands as one pipeline; errors of single commands are values among the replies.
Send = Callable[[Sequence[Command]], Awaitable[Sequence[Any]]]
#: Names the trouble that a reply or an exception tells of, where it will pass; else None.
Passing = Callable[[Any], str | None]

#: Shortest time between two batches, in seconds. The first of them waits for nothing; 10,000 chunks
#: a second cost 50 µs each so, against 55, and arrive 0.4 ms later. (5 ms: 47 µs, 3 ms later.)
PACE_S: Final = 0.001
#: Pause between tries, in seconds.
PAUSE_S = 0.2
#: How long a closing pump still tries, in seconds: a server that restarts is back by then.
CLOSE_S = 5.0
#: Largest batch in commands: keeps one reply within some milliseconds of Redis's time.
BATCH: Final = 500
#: Most bytes that are sent in one go, unless one command has more: what gathers while Redis is away
#: would not pass a link of 100 Mbit/s within its time-out, never mind how often it is tried.
BATCH_BYTES: Final = 1024 * 1024
#: Most bytes of events that wait for Redis: 400 streams of 25 chunks of 300 bytes a second, for
#: as long as a lease.
BUFFER_LIMIT: Final = 64 * 1024 * 1024

logger = logging.getLogger(__name__)


class Closed(ConnectionError):
    """The worker ends, and Redis did not take this."""


class Pending(Protocol):
    """Something that becomes a command when its turn comes, and takes the reply."""

    @property
    def head(self) -> Command:
        """How the command begins, its key included; known before it is written."""

    @property
    def size(self) -> int:
        """Bytes of what may be large in it, once it is a command."""

    def command(self) -> Command:
        """Write the command; called once, when it is sent for the first time."""

    def replied(self, reply: Any) -> None:
        """Take Redis's reply, or the exception in its place."""


class Operation:
    """A command whose caller waits for the reply."""

    __slots__ = ("_command", "future", "size")

    def __init__(self, command: Command, future: asyncio.Future[Any]) -> None:
        """Keep both. What is large is bytes."""
        self._command = command
        self.size = sum(len(part) for part in command if isinstance(part, bytes))
        self.future = future

    @property
    def head(self) -> Command:
        """The command itself."""
        return self._command

    def command(self) -> Command:
        """Return the command."""
        return self._command

    def replied(self, reply: Any) -> None:
        """Resolve the future; its caller may have gone."""
        if self.future.done():
            return
        if isinstance(reply, Exception):
            self.future.set_exception(reply)
        else:
            self.future.set_result(reply)


class Pump:
    """Pipelines what is left with it, from one loop."""

    def __init__(self, send: Send, passing: Passing, name: str = "Redis") -> None:
        """Take the way out; ``passing`` tells which errors are worth another try.

        ``name`` is what log lines call the server.
        """
        self._send = send
        self._passing = passing
        self._name = name
        self._pending: list[Pending] = []
        self._wake = asyncio.Event()
        self._close_at: float | None = None
        self._ended = False
        #: When the next batch may be sent, by the loop's clock.
        self._next_at = 0.0
        #: What keeps Redis from taking the batch, in words; None while all is well.
        self.trouble: str | None = None
        #: Bytes of events that wait; kept by those who leave them.
        self.buffered = 0
        #: Batches that Redis has answered.
        self.round_trips = 0

    def leave(self, item: Pending) -> None:
        """Take something to be sent in the next batch."""
        if self._ended:
            item.replied(Closed("the worker has ended"))
            return
        self._pending.append(item)
        self._wake.set()

    def ask(self, *command: Any) -> asyncio.Future[Any]:
        """Send a command; its future becomes the reply, or Redis's error.

        Closed where the pump has ended; it waits for a Redis that is away.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.leave(Operation(command, future))
        return future

    async def run(self) -> None:
        """Pump until closed and empty."""
        while self._pending or self._close_at is None:
            if not self._pending:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._pace()
            await self._deliver(self._next())
        self._ended = True

    def close(self) -> None:
        """Let :meth:`run` return once all is sent, or :data:`CLOSE_S` later."""
        if self._close_at is None:
            self._close_at = asyncio.get_running_loop().time() + CLOSE_S
        self._wake.set()

    @property
    def closing(self) -> bool:
        """Whether the pump will end."""
        return self._close_at is not None

    def _next(self) -> list[Pending]:
        """Take the next batch."""
        batch, self._pending = self._pending[:BATCH], self._pending[BATCH:]
        return batch

    async def _pace(self) -> None:
        """Wait until the last batch is long enough ago."""
        loop = asyncio.get_running_loop()
        early_s = self._next_at - loop.time()
        if early_s > 0:
            await asyncio.sleep(early_s)
        self._next_at = loop.time() + PACE_S

    async def _deliver(self, batch: list[Pending]) -> None:
        """Send a batch until each of its commands has its reply."""
        commands = [item.command() for item in batch]
        while not self._late():
            replies = await self._replies(commands[: in_one_go(batch)])
            for item, reply in zip(batch, replies, strict=False):
                item.replied(reply)
            batch, commands = batch[len(replies) :], commands[len(replies) :]
            if not batch:
                return
            if self.trouble:
                await asyncio.sleep(PAUSE_S)
        self._refuse(batch)

    def _refuse(self, batch: Sequence[Pending]) -> None:
        """Tell the callers that the time is up."""
        for item in batch:
            item.replied(Closed(f"{self._name} did not take this: {self.trouble}"))

    async def _replies(self, commands: list[Command]) -> Sequence[Any]:
        """Send the commands; return the replies before the first that is worth another try."""
        try:
            replies = await self._send(commands)
        except Exception as error:  # noqa: BLE001 - every caller gets it
            trouble = self._passing(error)
            self._note(trouble)
            return [] if trouble else [error] * len(commands)
        self.round_trips += 1
        for place, reply in enumerate(replies):
            if isinstance(reply, Exception) and (trouble := self._passing(reply)):
                self._note(trouble)
                return replies[:place]
        self._note(None)
        return replies

    def _note(self, trouble: str | None) -> None:
        """Keep what is wrong; log where it begins and where it is over."""
        if trouble and not self.trouble:
            logger.warning("%s takes no commands (%s); they wait", self._name, trouble)
        elif self.trouble and not trouble:
            logger.warning("%s takes commands again", self._name)
        self.trouble = trouble

    def _late(self) -> bool:
        return self._close_at is not None and asyncio.get_running_loop().time() >= self._close_at


def in_one_go(batch: Sequence[Pending]) -> int:
    """Count what is sent together: one at least."""
    size = 0
    for count, item in enumerate(batch):
        size += item.size
        if size > BATCH_BYTES:
            return max(1, count)
    return len(batch)
