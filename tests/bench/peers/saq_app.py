"""SAQ, after its documentation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from redis.asyncio import Redis
from saq.queue.redis import RedisQueue

from tests.bench.peers.async_chat import Caller
from tests.bench.work import REDIS_OPTIONS, REDIS_URL, SLOTS, Queue, Request, setting

uvloop.install()


def queue_at(url: str) -> RedisQueue:
    """Make the queue; each slot waits for a task on a connection of its own."""
    return RedisQueue(Redis.from_url(url, **REDIS_OPTIONS))


async def chat(ctx: dict[str, Any], *, channel: str, body: dict[str, Any]) -> None:
    """Make a call."""
    await ctx["caller"].chat(channel, body)


async def startup(ctx: dict[str, Any]) -> None:
    """Make the clients."""
    ctx["caller"] = Caller()


def settings() -> dict[str, Any]:
    """Tell what `saq` is started with."""
    return {
        "queue": queue_at(setting(REDIS_URL)),
        "functions": [chat],
        "concurrency": int(setting(SLOTS)),
        "startup": startup,
    }


class SaqQueue:
    """Enqueues as SAQ's documentation does."""

    def __init__(self, queue: RedisQueue) -> None:
        """Use a queue."""
        self._queue = queue

    async def put(self, request: Request) -> None:
        """Put one. Without a time-out of its own, it would be ended after 10 s."""
        await self._queue.enqueue("chat", channel=request.channel, body=request.body, timeout=0)


@asynccontextmanager
async def open_queue(url: str) -> AsyncIterator[Queue]:
    """Open the queue."""
    queue = queue_at(url)
    await queue.connect()
    try:
        yield SaqQueue(queue)
    finally:
        await queue.disconnect()
