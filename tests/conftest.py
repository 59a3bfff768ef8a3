"""Fixtures for every suite: real servers, and the real worker.

One server of a kind runs for the whole session; each test that asks for it gets it empty.
"""

import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

import hypothesis
import pytest
import redis
import redis.asyncio

from tests.parts import network
from tests.parts.aimock import COMMAND as AIMOCK
from tests.parts.aimock import Aimock
from tests.parts.backends import RedisBackend
from tests.parts.foreign import RedisQueue
from tests.parts.gate import Gate
from tests.parts.llmock import Llmock
from tests.parts.need import need
from tests.parts.program import ROOT
from tests.parts.sentinels import Sentinels
from tests.parts.web import free_port
from tests.parts.worker import API_KEY, Worker
from worker import embedded

network.switch_off()

# A shell that starts the tests in the background lets them ignore Ctrl-C, and so what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Two noisy cores: an example's time says nothing. The seed is fixed, so that a build that fails
# fails again; `--hypothesis-profile=default` searches further.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")


class StartWorker(Protocol):
    """What the fixture `worker_process` is."""

    def __call__(self, base_url: str, *, ready: bool = True, **settings: str) -> Worker:
        """Start a worker that calls the router at ``base_url``."""


class StartValkey(Protocol):
    """What the fixture `start_valkey` is."""

    def __call__(
        self, *, port: int = 0, persistence: bool = True, **options: str
    ) -> embedded.EmbeddedServer:
        """Start a server of the test's own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a suite in one process, in its order: its tests share servers and a worker."""
    for item in items:
        suite = item.path.relative_to(ROOT / "tests").parts[0]
        item.add_marker(pytest.mark.xdist_group(suite))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the worker does."""
    return "asyncio"


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.EmbeddedServer]:
    """A real server for the session. A test that stops or configures one takes `start_valkey`."""
    try:
        server = embedded.start(tmp_path_factory.mktemp("valkey"), persistence=False)
    except embedded.EmbeddedUnavailable as error:
        need(condition=False, reason=str(error))
        raise
    with server:
        yield server


@pytest.fixture
def start_valkey(tmp_path: Path) -> Iterator[StartValkey]:
    """Start servers of the test's own, which it may stop, kill, pause and start again.

    All keep their data in one folder: stop one and start the next on the same port, and it is
    the same server come back.
    """
    servers: list[embedded.EmbeddedServer] = []

    def start(
        *, port: int = 0, persistence: bool = True, **options: str
    ) -> embedded.EmbeddedServer:
        folder = tmp_path / "valkey"
        # A port that stays its own while it is stopped.
        port = port or free_port()
        server = embedded.start(folder, port=port, persistence=persistence, options=options)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Sentinels]:
    """A master, its replica and three sentinels, for this test alone: 5 s until they stand."""
    try:
        sentinels = Sentinels(tmp_path)
    except embedded.EmbeddedUnavailable as error:
        need(condition=False, reason=str(error))
        raise
    yield sentinels
    sentinels.stop()


@pytest.fixture
def redis_url(valkey: embedded.EmbeddedServer) -> str:
    """Address of the session's server, emptied for this test."""
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
        client.script_flush()
    return valkey.url


@pytest.fixture(name="redis")
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of that server; it returns bytes."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def queue(redis: redis.Redis) -> RedisQueue:
    """The queue of workers on that server."""
    return RedisQueue(redis)


@pytest.fixture(params=["fakeredis", "valkey"])
def redis_backend(request: pytest.FixtureRequest) -> RedisBackend:
    """Both kinds of Redis in turn, empty."""
    if request.param == "fakeredis":
        return RedisBackend("fakeredis")
    return RedisBackend("valkey", request.getfixturevalue("redis_url"))


@pytest.fixture
def any_redis(redis_backend: RedisBackend) -> Iterator[redis.Redis]:
    """A client of `redis_backend`."""
    with redis_backend.client() as client:
        yield client


@pytest.fixture
async def any_async_redis(redis_backend: RedisBackend) -> AsyncIterator[redis.asyncio.Redis]:
    """An asyncio client of `redis_backend`: the same data as `any_redis`."""
    async with redis_backend.async_client() as client:
        yield client


@pytest.fixture(scope="session")
def _aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aimock]:
    need(AIMOCK.exists(), "aimock is not installed; run: npm ci --prefix tests")
    aimock = Aimock(tmp_path_factory.mktemp("aimock") / "aimock.log")
    yield aimock
    aimock.program.stop()


@pytest.fixture
def aimock(_aimock: Aimock) -> Iterator[Aimock]:
    """A router that answers as its fixtures say: `aimock.serve({...}, …)`."""
    _aimock.reset()
    yield _aimock
    _aimock.program.resume()


@pytest.fixture(scope="session")
def _llmock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llmock]:
    llmock = Llmock(tmp_path_factory.mktemp("llmock") / "llmock.log")
    yield llmock
    llmock.program.stop()


@pytest.fixture
def llmock(_llmock: Llmock) -> Iterator[Llmock]:
    """A router that breaks as its scenario says: `llmock.scenario({...}, …)`."""
    _llmock.reset()
    yield _llmock
    _llmock.program.resume()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """The way to the router, with nobody behind it: it answers what the test tells it."""
    gate = Gate()
    yield gate
    gate.close()


@pytest.fixture
def worker_process(redis_url: str, tmp_path: Path) -> Iterator[StartWorker]:
    """Start real workers on the session's Redis; each is ready when the call returns.

    ``settings`` are environment variables and win over ours, REDIS_URL among them. What the
    workers said is shown where the test fails. No worker may have said its key.
    """
    workers: list[Worker] = []

    def start(base_url: str, *, ready: bool = True, **settings: str) -> Worker:
        log = tmp_path / f"worker-{len(workers)}.log"
        worker = Worker(log, redis_url=redis_url, base_url=base_url, **settings)
        workers.append(worker)
        if ready:
            worker.wait_ready()
        return worker

    yield start
    _finish(workers)


def _finish(workers: list[Worker]) -> None:
    """End them all at once, show what they said, and only then complain."""
    for worker in workers:
        worker.program.terminate()
    errors: list[AssertionError] = []
    for worker in workers:
        try:
            worker.stop()
            assert API_KEY not in worker.output, "a worker said its key"
        except AssertionError as error:
            errors.append(error)
        sys.stdout.write(f"--- {worker.program.log.name} ---\n{worker.output}")
    if errors:
        raise errors[0]
