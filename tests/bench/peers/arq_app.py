"""arq, after its documentation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from arq import create_pool
from arq.connections import ArqRedis, RedisSettings

from tests.bench.peers.async_chat import Caller
from tests.bench.work import CONNECTIONS, REDIS_URL, SLOTS, TIMEOUT_S, Queue, Request, setting

uvloop.install()


def redis_at(url: str) -> RedisSettings:
    """Tell arq where Redis is."""
    settings = RedisSettings.from_dsn(url)
    settings.max_connections, settings.conn_timeout = CONNECTIONS, int(TIMEOUT_S)
    return settings


async def chat(ctx: dict[str, Any], channel: str, body: dict[str, Any]) -> None:
    """Make a call."""
    await ctx["caller"].chat(channel, body)


async def startup(ctx: dict[str, Any]) -> None:
    """Make the clients."""
    ctx["caller"] = Caller()


class WorkerSettings:
    """What `arq` is started with."""

    functions = (chat,)
    on_startup = startup
    redis_settings = redis_at(setting(REDIS_URL))
    max_jobs = int(setting(SLOTS))
    job_timeout = TIMEOUT_S
    keep_result = 0
    # It polls: by default every 0.5 s, which would be all that its latency shows.
    poll_delay = 0.02


class ArqQueue:
    """Enqueues as arq's documentation does."""

    def __init__(self, pool: ArqRedis) -> None:
        """Use a pool."""
        self._pool = pool

    async def put(self, request: Request) -> None:
        """Put one."""
        await self._pool.enqueue_job("chat", request.channel, request.body)


@asynccontextmanager
async def open_queue(url: str) -> AsyncIterator[Queue]:
    """Open the queue."""
    pool = await create_pool(redis_at(url))
    try:
        yield ArqQueue(pool)
    finally:
        await pool.aclose()
