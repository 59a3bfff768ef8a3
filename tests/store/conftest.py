"""The store on a real server, with its pump running."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest

from tests.parts.cable import Cable
from tests.parts.scripts import KEYS, LEASE_MS, Scripts
from worker.store import Store


def stays(scripts: Scripts, seconds: int) -> list[Any]:
    """What ``scripts.ttls`` tells now of a task that was given so long since they were made."""
    ago = time.monotonic() - scripts.began
    # Redis rounds to whole seconds.
    return [pytest.approx(seconds - ago / 2, abs=ago / 2 + 0.5)] * 2


class StartStore(Protocol):
    """What the fixture `start_store` is."""

    async def __call__(self, url: str, broker_url: str | None = None) -> Store:
        """Make a store whose pump runs until the test ends."""


@asynccontextmanager
async def _running(store: Store) -> AsyncIterator[None]:
    pump = asyncio.create_task(store.pump.run())
    try:
        yield
    finally:
        store.pump.close()
        await pump
        await store.link.close()


@pytest.fixture
async def start_store() -> AsyncIterator[StartStore]:
    """Start stores; each ends with the test."""
    async with AsyncExitStack() as stack:

        async def start(url: str, broker_url: str | None = None) -> Store:
            store = Store(url, broker_url or url, KEYS, "w", LEASE_MS)
            await stack.enter_async_context(_running(store))
            return store

        yield start


@pytest.fixture
def cable(redis_url: str) -> Iterator[Cable]:
    """The way to the session's server, which the test may cut."""
    cable = Cable(urlsplit(redis_url).port or 0)
    yield cable
    cable.close()
