"""router-worker's producer; the worker is the one that is shipped."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api_contracts.client import Client
from tests.bench.work import Queue, Request


class RouterWorkerQueue:
    """Enqueues as the README does."""

    def __init__(self, client: Client) -> None:
        """Use a client."""
        self._client = client

    async def put(self, request: Request) -> None:
        """Put one."""
        parameters = dict(request.body)
        model, messages = parameters.pop("model"), parameters.pop("messages")
        self._client.chat(model, messages, **parameters)

    async def put_all(self, requests: list[Request]) -> None:
        """Put all in one go."""
        self._client.enqueue_all({"kind": "chat", "request": one.body} for one in requests)


@asynccontextmanager
async def open_queue(url: str) -> AsyncIterator[Queue]:
    """Open the queue."""
    with Client(url) as client:
        yield RouterWorkerQueue(client)
