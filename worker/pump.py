"""Everything that the loop says to Redis goes through one pump.

1. A caller leaves a command and gets a future; a writer leaves an event and gets nothing.
2. The pump sends whatever has gathered as one pipeline, and while it waits for the replies the
   next batch gathers: nothing waits when idle, and under load round trips are shared. Measured
   in a prototype: 115–137 µs of CPU a chunk with one PUBLISH each, 42 µs when shared.
3. Events of one attempt that are in the same batch become one call of ``append.lua``.
4. A batch that a cut connection has swallowed is sent again, since every script takes what it
   has seen already as done, and a doorbell may ring twice. After :data:`GIVE_UP_S` its callers
   get the error.

Order is kept: what was left first is sent first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

Command = tuple[Any, ...]
#: Sends commands as one pipeline; errors of single commands are values among the replies.
Send = Callable[[Sequence[Command]], Awaitable[Sequence[Any]]]

#: How long a batch is tried again, in seconds: as long as a lease. Later another worker may own
#: the attempts.
GIVE_UP_S = 20.0
#: Pause between tries, in seconds.
PAUSE_S = 0.2
#: Largest batch in commands: keeps one reply within some milliseconds of Redis's time.
BATCH = 500


class Pending(Protocol):
    """Something that becomes a command when its turn comes, and takes the reply."""

    def command(self) -> Command:
        """Write the command; called once, when it is sent for the first time."""

    def replied(self, reply: Any) -> None:
        """Take Redis's reply, or the exception in its place."""


class Operation:
    """A command whose caller waits for the reply."""

    __slots__ = ("_command", "future")

    def __init__(self, command: Command, future: asyncio.Future[Any]) -> None:
        """Keep both."""
        self._command = command
        self.future = future

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

    def __init__(self, send: Send, transient: tuple[type[Exception], ...]) -> None:
        """``transient`` are the errors of ``send`` after which a batch is sent again."""
        self._send = send
        self._transient = transient
        self._pending: list[Pending] = []
        self._wake = asyncio.Event()
        self._closing = False

    def leave(self, item: Pending) -> None:
        """Take something to be sent in the next batch."""
        self._pending.append(item)
        self._wake.set()

    async def ask(self, *command: Any) -> Any:
        """Send a command; return its reply, or raise Redis's error."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.leave(Operation(command, future))
        return await future

    async def run(self) -> None:
        """Pump until closed and empty."""
        while self._pending or not self._closing:
            if not self._pending:
                self._wake.clear()
                await self._wake.wait()
                continue
            batch, self._pending = self._pending[:BATCH], self._pending[BATCH:]
            await self._deliver(batch)

    def close(self) -> None:
        """Let :meth:`run` return once all is sent."""
        self._closing = True
        self._wake.set()

    async def _deliver(self, batch: list[Pending]) -> None:
        replies = await self._replies([item.command() for item in batch])
        for item, reply in zip(batch, replies, strict=True):
            item.replied(reply)

    async def _replies(self, commands: list[Command]) -> Sequence[Any]:
        """Send until Redis has answered; the error, as every command's reply, if it does not."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + GIVE_UP_S
        while True:
            try:
                return await self._send(commands)
            except self._transient as error:
                if loop.time() > give_up:
                    return [error] * len(commands)
                await asyncio.sleep(PAUSE_S)
            except Exception as error:  # noqa: BLE001 - every caller gets it
                return [error] * len(commands)
