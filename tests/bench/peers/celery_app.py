"""Celery as people write it; the pool is the command line's to choose."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from celery import Celery

from tests.bench.peers import sync_chat
from tests.bench.work import REDIS_URL, Queue, Request, setting

app = Celery("bench", broker=setting(REDIS_URL))
# Nobody reads results; a task takes seconds, so a process shall not hoard them.
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)


@app.task
def chat(channel: str, body: dict[str, Any]) -> None:
    """Make a call."""
    sync_chat.chat(channel, body)


@app.task
def nothing() -> None:
    """Do nothing: what a task of Celery costs by itself."""


class CeleryQueue:
    """Enqueues as Celery's documentation does."""

    async def put(self, request: Request) -> None:
        """Put one."""
        chat.delay(request.channel, request.body)


class NothingQueue:
    """Enqueues tasks that do nothing."""

    async def put(self, request: Request) -> None:
        """Put one."""
        del request
        nothing.delay()


@asynccontextmanager
async def open_queue(url: str) -> AsyncIterator[Queue]:
    """Open the queue."""
    del url
    yield CeleryQueue()


@asynccontextmanager
async def open_nothing(url: str) -> AsyncIterator[Queue]:
    """Open the queue of the task that does nothing."""
    del url
    yield NothingQueue()
