"""RabbitMQ as the broker of Celery's queues, for every test here: by one setting."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import StartWorker
from tests.e2e.conftest import RETRIES, client, worker
from tests.parts.gate import Gate
from tests.parts.rabbitmq import Host, Rabbitmq
from tests.parts.shared import gate, shared_gate, valkey
from tests.parts.worker import Worker, running
from worker import embedded

__all__ = ["client", "gate", "shared_gate", "valkey", "worker"]

#: Where the worker of all tests has its records.
SHARED_DATABASE = "/1"
BROKER = "ROUTER_WORKER_BROKER_URL"


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbitmq]:
    """A server for these tests."""
    with Rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture
def redis_url(request: pytest.FixtureRequest, redis_url: str) -> str:
    """Address of the suite's server, emptied; the worker of all tests has a database of its own.

    In the others it would look after what theirs leave undone.
    """
    if "worker" in request.fixturenames:
        return redis_url.removesuffix("/0") + SHARED_DATABASE
    return redis_url


@pytest.fixture(scope="session")
def _shared_queue(rabbitmq: Rabbitmq) -> Iterator[Host]:
    host = rabbitmq.host("shared")
    yield host
    host.close()


@pytest.fixture
def queue(request: pytest.FixtureRequest, rabbitmq: Rabbitmq) -> Iterator[Host]:
    """The queues of the test: its own, unless it uses the worker of all tests."""
    if "worker" in request.fixturenames:
        yield request.getfixturevalue("_shared_queue")
        return
    host = rabbitmq.host("own")
    host.clear()
    yield host
    host.close()


@pytest.fixture(autouse=True)
def _clients_ring_there(queue: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BROKER, queue.url)


@pytest.fixture
def worker_process(worker_process: StartWorker, queue: Host) -> StartWorker:
    """Start workers that consume there."""

    def start(base_url: str, *, ready: bool = True, **settings: str) -> Worker:
        more: Any = {BROKER: queue.url, **settings}
        return worker_process(base_url, ready=ready, **more)

    return start


@pytest.fixture(scope="session")
def _worker(
    shared_gate: Gate,
    valkey: embedded.EmbeddedServer,
    _shared_queue: Host,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Worker]:
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    settings: Any = {**RETRIES, BROKER: _shared_queue.url}
    url = valkey.url.removesuffix("/0") + SHARED_DATABASE
    with running(log, redis_url=url, base_url=shared_gate.url, **settings) as worker:
        yield worker
