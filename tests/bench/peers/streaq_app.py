"""streaQ, after its documentation."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from streaq import Worker

from tests.bench.peers.async_chat import Caller
from tests.bench.work import CONNECTIONS, REDIS_URL, SLOTS, BatchQueue, Request, setting


@asynccontextmanager
async def lifespan() -> AsyncGenerator[Caller]:
    """Make the clients."""
    yield Caller()


worker = Worker(
    redis_url=setting(REDIS_URL),
    redis_kwargs={"max_connections": CONNECTIONS},
    concurrency=int(setting(SLOTS)),
    lifespan=lifespan,
    anyio_kwargs={"use_uvloop": True},
)


@worker.task
async def chat(channel: str, body: dict[str, Any]) -> None:
    """Make a call."""
    await worker.context.chat(channel, body)


class StreaqQueue:
    """Enqueues as streaQ's documentation does."""

    async def put(self, request: Request) -> None:
        """Put one."""
        await chat.enqueue(request.channel, request.body)

    async def put_all(self, requests: list[Request]) -> None:
        """Put many in one pipeline."""
        await worker.enqueue_many([chat.enqueue(one.channel, one.body) for one in requests])


@asynccontextmanager
async def open_queue(url: str) -> AsyncIterator[BatchQueue]:
    """Open the queue."""
    del url
    async with worker:
        yield StreaqQueue()
