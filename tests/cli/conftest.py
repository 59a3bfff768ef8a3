"""One worker for all tests here, on a Redis of its own, behind a gate that plays the router."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_contracts.client import Client
from tests.cli.shell import Shell
from tests.parts.gate import Gate
from tests.parts.shared import gate, shared_gate
from tests.parts.worker import API_KEY, Worker
from worker import embedded

__all__ = ["gate", "shared_gate"]


@pytest.fixture(scope="session")
def _redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.EmbeddedServer]:
    with embedded.start(tmp_path_factory.mktemp("cli-valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def _worker(
    shared_gate: Gate, _redis: embedded.EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    log = tmp_path_factory.mktemp("cli-worker") / "worker.log"
    retries = {"ROUTER_WORKER_RETRY_BASE_S": "0.01", "ROUTER_WORKER_RETRY_MAX_ATTEMPTS": "3"}
    worker = Worker(log, redis_url=_redis.url, base_url=shared_gate.url, **retries)
    worker.wait_ready()
    yield worker
    worker.stop()


@pytest.fixture
def worked(tmp_path: Path, _redis: embedded.EmbeddedServer, _worker: Worker) -> Iterator[Shell]:
    """A shell, and a worker that runs what is enqueued from it."""
    already = len(_worker.output)
    with Client(_redis.url) as client:
        yield Shell(tmp_path, client, REDIS_URL=_redis.url)
    said = _worker.output
    sys.stdout.write(f"--- the worker said ---\n{said[already:]}")
    assert API_KEY not in said


@pytest.fixture(scope="session")
def _idle_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.EmbeddedServer]:
    with embedded.start(tmp_path_factory.mktemp("cli-idle")) as server:
        yield server


@pytest.fixture
def shell(tmp_path: Path, _idle_redis: embedded.EmbeddedServer) -> Iterator[Shell]:
    """A shell with a Redis on which nobody works."""
    with Client(_idle_redis.url) as client:
        yield Shell(tmp_path, client, REDIS_URL=_idle_redis.url)
