"""The simulator itself, on a loopback port, as fast as it can."""

from collections.abc import Iterator

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from worker.simulator.server import serving
from worker.simulator.steps import Pace


@pytest.fixture(scope="session")
def simulator() -> Iterator[str]:
    """URL of a simulator in a thread of its own."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving("127.0.0.1", 0, Pace(0, 0))) as url,
    ):
        yield url


@pytest.fixture
def router(simulator: str) -> Iterator[httpx.Client]:
    """A client with a key, which a native call's other headers suit too."""
    headers = {"Authorization": "Bearer any", "anthropic-version": "2023-06-01"}
    with httpx.Client(base_url=simulator, headers=headers, trust_env=False, timeout=60) as client:
        yield client
