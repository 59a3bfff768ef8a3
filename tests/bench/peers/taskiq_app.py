"""taskiq with its Redis streams, after its documentation. It uses uvloop by itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from taskiq import Context, TaskiqDepends, TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

from tests.bench.peers.async_chat import Caller
from tests.bench.work import CONNECTIONS, REDIS_URL, TIMEOUT_S, Queue, Request, setting

broker = RedisStreamBroker(
    url=setting(REDIS_URL),
    max_connection_pool_size=CONNECTIONS,
    socket_timeout=None,
    socket_connect_timeout=TIMEOUT_S,
)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def startup(state: TaskiqState) -> None:
    """Make the clients."""
    state.caller = Caller()


@broker.task
async def chat(
    channel: str, body: dict[str, Any], context: Annotated[Context, TaskiqDepends()]
) -> None:
    """Make a call."""
    await context.state.caller.chat(channel, body)


class TaskiqQueue:
    """Enqueues as taskiq's documentation does."""

    async def put(self, request: Request) -> None:
        """Put one."""
        await chat.kiq(request.channel, request.body)


@asynccontextmanager
async def open_queue(url: str) -> AsyncIterator[Queue]:
    """Open the queue."""
    del url
    await broker.startup()
    try:
        yield TaskiqQueue()
    finally:
        await broker.shutdown()
