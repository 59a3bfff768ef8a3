"""Dramatiq, after its documentation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from redis import Redis

from tests.bench.peers import sync_chat
from tests.bench.work import REDIS_OPTIONS, REDIS_URL, Queue, Request, setting

redis = Redis.from_url(setting(REDIS_URL), **REDIS_OPTIONS)
dramatiq.set_broker(RedisBroker(client=redis))


@dramatiq.actor
def chat(channel: str, body: dict[str, Any]) -> None:
    """Make a call."""
    sync_chat.chat(channel, body)


class DramatiqQueue:
    """Enqueues as Dramatiq's documentation does."""

    async def put(self, request: Request) -> None:
        """Put one."""
        chat.send(request.channel, request.body)


@asynccontextmanager
async def open_queue(url: str) -> AsyncIterator[Queue]:
    """Open the queue."""
    del url
    yield DramatiqQueue()
