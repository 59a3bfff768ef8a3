"""A worker that traces, behind a gate, and the collector that it exports to."""

import sys
from collections.abc import Iterator
from typing import Final

import pytest

from api_contracts.client import Client
from tests.parts.collector import Collector
from tests.parts.gate import Gate
from tests.parts.shared import gate, shared_gate, valkey
from tests.parts.worker import API_KEY, Worker
from worker import embedded

__all__ = ["gate", "shared_gate", "valkey"]

#: Retries in these tests are quick: the order of things is what they look at.
RETRIES: Final = {"ROUTER_WORKER_RETRY_BASE_S": "0.05", "ROUTER_WORKER_RETRY_CAP_S": "0.1"}


@pytest.fixture(scope="session")
def _collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def collector(_collector: Collector) -> Collector:
    """A collector to which nothing has come yet."""
    _collector.reset()
    return _collector


@pytest.fixture(scope="session")
def _worker(
    shared_gate: Gate,
    _collector: Collector,
    valkey: embedded.EmbeddedServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Worker]:
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    settings = RETRIES | _collector.settings
    worker = Worker(log, redis_url=valkey.url, base_url=shared_gate.url, **settings)
    worker.wait_ready()
    yield worker
    worker.stop()
    assert API_KEY not in worker.output, "the worker said its key"


@pytest.fixture
def worker(_worker: Worker, redis_url: str, gate: Gate, collector: Collector) -> Iterator[Worker]:
    """A worker that calls the gate and exports to the collector, on an emptied Redis."""
    already = len(_worker.output)
    yield _worker
    sys.stdout.write(f"--- the worker said ---\n{_worker.output[already:]}")
    assert _worker.program.running, "the worker ended"


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    """A producer that does not trace."""
    with Client(redis_url) as client:
        yield client
