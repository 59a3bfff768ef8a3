"""The same tests where a cluster holds records and events, and a server of its own the queues.

What tells a test from the one that it is elsewhere is in the fixtures here, and for clients and
workers in two settings: the addresses.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_library

from api_contracts.client import Client, connection
from tests.client.conftest import begin, shell, start_shell
from tests.conftest import StartWorker
from tests.e2e.conftest import RETRIES, client, worker
from tests.parts.cluster import Apart, Cluster
from tests.parts.gate import Gate
from tests.parts.need import need
from tests.parts.shared import gate, shared_gate, valkey
from tests.parts.streams import TIMEOUT_S, Streams
from tests.parts.worker import Worker, running
from tests.store.conftest import StartStore
from tests.store.conftest import start_store as start_any_store
from worker import embedded
from worker.store import Store

__all__ = [
    "begin",
    "client",
    "gate",
    "shared_gate",
    "shell",
    "start_any_store",
    "start_shell",
    "valkey",
    "worker",
]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three masters, each with its replica; a test that ends one brings it back."""
    try:
        cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    except embedded.EmbeddedUnavailable as error:
        need(condition=False, reason=str(error))
        raise
    yield cluster
    cluster.stop()


@pytest.fixture
def redis_url(
    cluster: Cluster, valkey: embedded.EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Address of the cluster, emptied for this test; the environment has that of the queues."""
    cluster.empty()
    with redis_library.Redis.from_url(valkey.url) as broker:
        broker.flushall()
    monkeypatch.setenv("ROUTER_WORKER_BROKER_URL", valkey.url)
    return cluster.url


@pytest.fixture(name="redis")
def redis_client(
    redis_url: str, cluster: Cluster, valkey: embedded.EmbeddedServer
) -> Iterator[Any]:
    """Both, as one server would be looked at."""
    with cluster.client() as records, redis_library.Redis.from_url(valkey.url) as broker:
        yield Apart(records, broker)


@pytest.fixture
def worker_process(worker_process: StartWorker, valkey: embedded.EmbeddedServer) -> StartWorker:
    """Start workers that know both."""

    def start(base_url: str, *, ready: bool = True, **settings: str) -> Worker:
        both = {"ROUTER_WORKER_BROKER_URL": valkey.url, **settings}
        return worker_process(base_url, ready=ready, **both)

    return start


@pytest.fixture(scope="module")
def _worker(
    shared_gate: Gate,
    cluster: Cluster,
    valkey: embedded.EmbeddedServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Worker]:
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    both = {"redis_url": cluster.url, "ROUTER_WORKER_BROKER_URL": valkey.url}
    with running(log, base_url=shared_gate.url, **both, **RETRIES) as worker:
        yield worker


@pytest.fixture
def streams(
    gate: Gate, cluster: Cluster, redis: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Streams]:
    """Slow answers; the test says when they begin. Who follows them looks at the log often."""
    monkeypatch.setattr(connection, "SILENCE_S", 1.0)
    with Client(redis_url, timeout_s=TIMEOUT_S) as client:
        streams = Streams(gate, cluster, redis, client)
        yield streams
        streams.close()


@pytest.fixture
def start_store(start_any_store: StartStore, valkey: embedded.EmbeddedServer) -> Any:
    """Start stores that know both."""

    async def start(url: str) -> Store:
        return await start_any_store(url, valkey.url)

    return start
