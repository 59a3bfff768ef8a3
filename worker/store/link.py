"""The way to Redis: connections, scripts, and what its errors mean."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from api_contracts.client.connection import connection_options
from api_contracts.client.servers import open_async
from api_contracts.client.submission import CREATE
from api_contracts.names import Keys
from worker.pump import Command, Pump
from worker.store.pipe import Pipe

#: Longest wait for a pipeline's replies, in seconds.
TIMEOUT_S = 5.0
#: Connections at most: one for the pump, one for the channel of cancellations, and some beside.
_CONNECTIONS: Final = 8
#: Refusals that pass: a failover (the connections are made anew), a server that starts or is
#: held up by a script, or has just forgotten ours; a disk that is full. Full memory is none: what
#: is smaller may still fit.
_PASSING: Final = (
    RedisConnectionError, RedisTimeoutError, OSError, ReadOnlyError, ClusterDownError,
    MasterDownError, TryAgainError, NoScriptError,
)  # fmt: skip
_PASSING_CODES: Final = ("MISCONF", "BUSY", "NOREPLICAS")

SOURCES: Final = {
    name: files("worker").joinpath(f"lua/{name}.lua").read_text()
    for name in ("claim", "append", "settle", "renew", "take", "look", "over", "elect")
} | {"create": CREATE}
SHAS: Final = {
    name: sha1(source.encode(), usedforsecurity=False).hexdigest()
    for name, source in SOURCES.items()
}


class Link:
    """Redis of the records, reached through the pump, and the broker beside it."""

    def __init__(self, url: str, broker_url: str, keys: Keys) -> None:
        """Prepare; call from the loop that will use it."""
        self.keys = keys
        self.redis = connect(url)
        self.broker = self.redis if url == broker_url else connect(broker_url)
        self._pipe = Pipe(self.redis.connection_pool, TIMEOUT_S)
        self.pump = Pump(self._send, passing)

    def script(self, name: str, task_id: str, *arguments: Any) -> Command:
        """Write the call of a script on one task's keys; its id and channel come first."""
        keys = self.keys
        return (
            "EVALSHA", SHAS[name], 2, keys.record(task_id), keys.events(task_id),
            task_id, keys.live(task_id), *arguments,
        )  # fmt: skip

    async def tell_broker(self, *command: Any) -> None:
        """Send the broker a command; through the pump, in its order, where it is the same Redis."""
        if self.broker is self.redis:
            await self.pump.ask(*command)
        else:
            await self.broker.execute_command(*command)  # type: ignore[no-untyped-call]

    async def ping(self) -> None:
        """Raise unless Redis answers, and the broker where it is another."""
        await self.pump.ask("PING")
        if self.broker is not self.redis:
            await self.broker.ping()

    async def close(self) -> None:
        """Close the connections; the pump must have ended."""
        await self.redis.aclose()
        if self.broker is not self.redis:
            await self.broker.aclose()

    async def _send(self, commands: Sequence[Command]) -> Sequence[Any]:
        """Send a batch; once more where Redis did not know a script, whole for its order's sake."""
        replies = await self._pipe.send(commands)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            for source in SOURCES.values():
                await self.redis.script_load(source)
            replies = await self._pipe.send(commands)
        if any(isinstance(reply, ReadOnlyError) for reply in replies):
            # The server that we speak to is no master any more: look for the new one.
            await self._pipe.disconnect()
            await self.redis.connection_pool.disconnect()
        return replies


def connect(url: str) -> Redis:
    """Make a client for this loop. Who finds all connections in use waits."""
    options = connection_options(TIMEOUT_S)
    return open_async(url, wait_s=TIMEOUT_S, max_connections=_CONNECTIONS, **options)


def passing(error: Any) -> str | None:
    """Name the trouble that an error tells of, where it is worth another try."""
    code = str(error).partition(" ")[0]
    if code in _PASSING_CODES:
        return code
    return type(error).__name__ if isinstance(error, _PASSING) else None


def full(error: Exception) -> bool:
    """Tell whether Redis refused a command because its memory is full."""
    # Servers before 7 wrap the refusal where a script met it.
    return isinstance(error, OutOfMemoryError) or "OOM command not allowed" in str(error)
