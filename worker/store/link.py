"""The way to Redis: connections, scripts, and what its errors mean."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
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

from api_contracts.client.brokers import is_amqp
from api_contracts.client.connection import connection_options
from api_contracts.client.links import AsyncCluster, open_async_link
from api_contracts.client.scripts import sharded
from api_contracts.client.servers import open_async
from api_contracts.client.submission import CREATE
from api_contracts.names import Keys
from worker.pump import Command, Pump, Send
from worker.store.lanes import Lanes
from worker.store.pipe import Pipe
from worker.store.queues import Queues, RabbitQueues, RedisQueues

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


def _digests(sources: Mapping[str, str]) -> dict[str, str]:
    return {
        name: sha1(source.encode(), usedforsecurity=False).hexdigest()
        for name, source in sources.items()
    }


SOURCES: Final = {
    name: files("worker").joinpath(f"lua/{name}.lua").read_text()
    for name in ("claim", "append", "settle", "renew", "take", "look", "over", "elect")
} | {"create": CREATE}
SHAS: Final = _digests(SOURCES)
#: The same for a cluster.
_SHARDED: Final = {name: sharded(source) for name, source in SOURCES.items()}
_SHARDED_SHAS: Final = _digests(_SHARDED)


class Link:
    """Redis of the records, reached through the pump, and the queues beside it."""

    def __init__(self, url: str, broker_url: str, keys: Keys) -> None:
        """Prepare; call from the loop that will use it."""
        self.keys = keys
        #: For what need not go through the pump.
        self.beside = open_async_link(url, **_options())
        self.pump: Pump | Lanes
        if isinstance(self.beside, AsyncCluster):
            self.shas = _SHARDED_SHAS
            self.pump = Lanes(self.beside, _sending(_SHARDED), passing)
        else:
            self.shas = SHAS
            self.pump = Pump(_sending(SOURCES)(self.beside.anybody()), passing)
        self.queues = self._queues(broker_url, same=url == broker_url)

    def script(self, name: str, task_id: str, *arguments: Any) -> Command:
        """Write the call of a script on one task's keys; its id and channel come first."""
        keys = self.keys
        return (
            "EVALSHA", self.shas[name], 2, keys.record(task_id), keys.events(task_id),
            task_id, keys.live(task_id), *arguments,
        )  # fmt: skip

    def server_of(self, task_id: str) -> object:
        """Tell apart the servers that have tasks; where there is one, all have the same."""
        if isinstance(self.pump, Lanes):
            return self.pump.owner(self.keys.record(task_id))
        return None

    @property
    def one_server(self) -> bool:
        """Whether one server has all of it, so that a script may touch any keys."""
        return not isinstance(self.pump, Lanes)

    async def in_order(self, asked: asyncio.Future[Any]) -> None:
        """Wait for what must be done before anything is asked of another key.

        One server keeps the order by itself, and nobody waits.
        """
        if isinstance(self.pump, Lanes):
            await asked

    async def ping(self) -> None:
        """Raise unless Redis answers, and that of the queues where it is another."""
        if isinstance(self.pump, Lanes):
            await self.pump.ping()
        else:
            await self.pump.ask("PING")
        await self.queues.ping()

    async def close(self) -> None:
        """Close the connections; the pump must have ended."""
        await self.beside.aclose()
        await self.queues.close()

    def _queues(self, url: str, *, same: bool) -> Queues:
        if is_amqp(url):
            return RabbitQueues(url, TIMEOUT_S)
        redis = self.beside.anybody() if same else connect(url)
        return RedisQueues(self.pump, redis, own=not same)


class _Line:
    """The way to one server, which gets the scripts that it lacks."""

    def __init__(self, redis: Redis, sources: Mapping[str, str]) -> None:
        self._redis = redis
        self._sources = sources
        self._pipe = Pipe(redis.connection_pool, TIMEOUT_S)

    async def send(self, commands: Sequence[Command]) -> Sequence[Any]:
        """Send a batch; once more where Redis did not know a script, whole for its order's sake."""
        replies = await self._pipe.send(commands)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            for source in self._sources.values():
                await self._redis.script_load(source)
            replies = await self._pipe.send(commands)
        if any(isinstance(reply, ReadOnlyError) for reply in replies):
            # The server that we speak to is no master any more: look for the new one.
            await self._pipe.disconnect()
            await self._redis.connection_pool.disconnect()
        return replies


def _sending(sources: Mapping[str, str]) -> Callable[[Redis], Send]:
    """Make ways to servers that get these scripts."""
    return lambda redis: _Line(redis, sources).send


def connect(url: str) -> Redis:
    """Make a client for this loop. Who finds all connections in use waits."""
    return open_async(url, **_options())


def _options() -> dict[str, Any]:
    return {
        "wait_s": TIMEOUT_S,
        "max_connections": _CONNECTIONS,
        **connection_options(TIMEOUT_S),
    }


def passing(error: Any) -> str | None:
    """Name the trouble that an error tells of, where it is worth another try."""
    code = str(error).partition(" ")[0]
    if code in _PASSING_CODES:
        return code
    return type(error).__name__ if isinstance(error, _PASSING) else None


def full(error: Exception) -> bool:
    """Tell whether Redis refused a command because its memory is full."""
    return isinstance(error, OutOfMemoryError)
