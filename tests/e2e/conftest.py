"""A worker for all tests here, behind a gate; a test that needs settings starts its own."""

import sys
from collections.abc import Iterator
from typing import Protocol

import pytest

from api_contracts.client import Client
from tests.parts.gate import Gate
from tests.parts.shared import gate, shared_gate, valkey
from tests.parts.worker import API_KEY, Worker, running
from worker import embedded

__all__ = ["gate", "shared_gate", "valkey"]

#: Retries in these tests: quick, since the order of things is what they look at, and another
#: number of them than the contract has by default.
RETRIES = {
    "ROUTER_WORKER_RETRY_BASE_S": "0.05",
    "ROUTER_WORKER_RETRY_CAP_S": "0.2",
    "ROUTER_WORKER_RETRY_MAX_ATTEMPTS": "4",
}


class StartModuleWorker(Protocol):
    """What the fixture `module_worker` is."""

    def __call__(self, **settings: str) -> Worker:
        """Start a worker on the module's database; ``settings`` are environment variables."""


@pytest.fixture(scope="session")
def _worker(
    shared_gate: Gate, valkey: embedded.EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    with running(log, redis_url=valkey.url, base_url=shared_gate.url, **RETRIES) as worker:
        yield worker


@pytest.fixture
def worker(_worker: Worker, redis_url: str, gate: Gate) -> Iterator[Worker]:
    """A worker that calls the gate, on an emptied Redis. A test must leave it running."""
    already = len(_worker.output)
    yield _worker
    sys.stdout.write(f"--- the worker said ---\n{_worker.output[already:]}")
    assert _worker.program.running, "the worker ended"


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    """A producer and subscriber."""
    with Client(redis_url) as client:
        yield client


@pytest.fixture(scope="module")
def module_url(valkey: embedded.EmbeddedServer) -> str:
    """Another database of the same server, where `worker` takes no task."""
    return valkey.url.removesuffix("/0") + "/1"


@pytest.fixture(scope="module")
def module_worker(
    shared_gate: Gate, module_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartModuleWorker]:
    """Start workers with settings of the module's own, each ready when the call returns."""
    workers: list[Worker] = []

    def start(**settings: str) -> Worker:
        log = tmp_path_factory.mktemp("worker") / "worker.log"
        options = {**RETRIES, **settings}
        worker = Worker(log, redis_url=module_url, base_url=shared_gate.url, **options)
        workers.append(worker)
        worker.wait_ready()
        return worker

    yield start
    for worker in workers:
        worker.stop()
        assert API_KEY not in worker.output, "a worker said its key"
