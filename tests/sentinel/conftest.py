"""The same tests where Sentinel names the server, which hands over in the middle of them.

What tells a test from the one that it is elsewhere is in the fixtures here, and for clients and
workers in one setting: the address.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest
import redis as redis_library
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from api_contracts.client.connection import connection_options
from api_contracts.client.servers import open_sync
from tests.e2e.conftest import RETRIES, client, worker
from tests.parts.gate import Gate
from tests.parts.need import need
from tests.parts.sentinels import Sentinels
from tests.parts.shared import gate, shared_gate
from tests.parts.worker import Worker, running
from worker import embedded

__all__ = ["client", "gate", "shared_gate", "worker"]

#: How a test looks at Redis over a handover: ten times a second, for as long as one may take.
#: The sentinels are to end a master only when they are told to, in ms.
DOWN_MS: Final = 5000
TIMEOUT_S: Final = 1.0
PATIENCE = Retry(ConstantBackoff(0.1), 100, (RedisConnectionError, RedisTimeoutError))


@pytest.fixture(scope="session")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    """A master, its replica and three sentinels for all tests here."""
    try:
        sentinels = Sentinels(tmp_path_factory.mktemp("sentinels"), down_ms=DOWN_MS)
    except embedded.EmbeddedUnavailable as error:
        need(condition=False, reason=str(error))
        raise
    yield sentinels
    sentinels.stop()


@pytest.fixture
def redis_url(sentinels: Sentinels) -> str:
    """Address of whoever is master, emptied for this test."""
    with redis_library.Redis.from_url(sentinels.master.url) as master:
        master.flushall()
    return sentinels.url


@pytest.fixture(name="redis")
def redis_client(sentinels: Sentinels) -> Iterator[redis_library.Redis]:
    """A client of whoever is master; it returns bytes."""
    options = {**connection_options(TIMEOUT_S), "retry": PATIENCE}
    with open_sync(sentinels.url, **options) as client:
        yield client


@pytest.fixture(scope="session")
def _worker(
    shared_gate: Gate, sentinels: Sentinels, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    with running(log, redis_url=sentinels.url, base_url=shared_gate.url, **RETRIES) as worker:
        yield worker


@pytest.fixture(scope="module")
def seen() -> set[str]:
    """Names of the tests in whose middle the master has handed over."""
    return set()


@pytest.fixture(autouse=True)
def _handover(
    request: pytest.FixtureRequest, worker: Worker, gate: Gate, sentinels: Sentinels, seen: set[str]
) -> Iterator[None]:
    """Let the master hand over as soon as the router is asked, and the test go on meanwhile.

    Of a test with many cases, in one of them: each takes two seconds.
    """
    if (name := request.function.__name__) in seen:
        yield
        return
    seen.add(name)
    over = threading.Event()

    def hand_over() -> None:
        while not gate.requests and not over.wait(0.002):
            pass
        sentinels.hand_over()

    before = sentinels.master
    with ThreadPoolExecutor() as threads:
        handed_over = threads.submit(hand_over)
        try:
            yield
        finally:
            over.set()
    handed_over.result()
    assert sentinels.master is not before
