"""The limit: what remains without a queue and without records.

Bare asyncio on uvloop, aiohttp, and PUBLISH in pipelines, written by hiredis onto a bare
connection. All tasks come in one message.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import aiohttp
import hiredis
import uvloop
from redis.asyncio import Redis

from tests.bench.work import REDIS_OPTIONS, REDIS_URL, SLOTS, URL, Request, setting

#: The list on which the tasks come.
PLANS: Final = "plans"


class Publisher(asyncio.Protocol):
    """A connection to Redis that publishes, and waits for one reply before the next pipeline."""

    def __init__(self) -> None:
        """Begin empty."""
        self._waiting: list[bytes] = []
        self._unanswered = 0
        self._reader = hiredis.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        # uvloop's is none by its class.
        self._transport = cast("asyncio.Transport", transport)

    def publish(self, channel: str, data: bytes) -> None:
        """Publish with what else is waiting."""
        command = ("PUBLISH", channel, data)
        self._waiting.append(hiredis.pack_command(command))  # type: ignore[arg-type] # its stub
        if not self._unanswered:
            self._unanswered = 1
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._unanswered = len(self._waiting)
        self._transport.write(b"".join(self._waiting))
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        """Count replies; send what has gathered when all have come."""
        self._reader.feed(data)
        while self._reader.gets() is not False:
            self._unanswered -= 1
        if not self._unanswered and self._waiting:
            self._flush()


async def _chat(
    http: aiohttp.ClientSession, publisher: Publisher, channel: str, body: dict[str, Any]
) -> None:
    async with http.post(setting(URL), json=body) as response:
        response.raise_for_status()
        if not body.get("stream"):
            publisher.publish(channel, await response.read())
            return
        rest = b""
        async for piece in response.content.iter_any():
            *events, rest = (rest + piece).split(b"\n\n")
            for event in events:
                publisher.publish(channel, event[6:])


async def _run() -> None:
    redis = Redis.from_url(setting(REDIS_URL), **REDIS_OPTIONS)
    port: int = redis.connection_pool.connection_kwargs["port"]
    loop = asyncio.get_running_loop()
    _, publisher = await loop.create_connection(Publisher, "127.0.0.1", port)
    slots = asyncio.Semaphore(int(setting(SLOTS)))
    connector = aiohttp.TCPConnector(limit=0)
    running: set[asyncio.Task[None]] = set()
    async with aiohttp.ClientSession(connector=connector) as http:

        async def one(channel: str, body: dict[str, Any]) -> None:
            async with slots:
                await _chat(http, publisher, channel, body)

        while plan := await redis.blpop([PLANS]):
            for channel, body in json.loads(plan[1]):
                task = asyncio.create_task(one(channel, body))
                running.add(task)
                task.add_done_callback(running.discard)


class Plan:
    """Gives the program its tasks."""

    def __init__(self, redis: Redis) -> None:
        """Use a client."""
        self._redis = redis

    async def put(self, request: Request) -> None:
        """Give it one."""
        await self.put_all([request])

    async def put_all(self, requests: list[Request]) -> None:
        """Give it all."""
        plan = [(one.channel, one.body) for one in requests]
        await self._redis.rpush(PLANS, json.dumps(plan))


@asynccontextmanager
async def open_queue(url: str) -> AsyncIterator[Plan]:
    """Open the way to it."""
    async with Redis.from_url(url) as redis:
        yield Plan(redis)


if __name__ == "__main__":
    uvloop.run(_run())
