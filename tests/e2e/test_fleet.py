"""What is true of all workers is told by one of them, and exactly, whoever is killed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from api_contracts.client import Client
from tests.conftest import StartValkey, StartWorker
from tests.parts.aimock import Aimock
from tests.parts.program import ROOT
from tests.parts.wait import until
from tests.parts.worker import Worker

QUESTION = [{"role": "user", "content": "tell"}]
#: Seconds until another worker tells: the term of the one before, and the time between elections.
HANDOVER_S = 25.0


@pytest.fixture
def fleet(
    aimock: Aimock, worker_process: StartWorker, start_valkey: StartValkey
) -> tuple[Client, list[Worker]]:
    """Three workers, each with a port of its own."""
    aimock.serve({"match": {"userMessage": "tell"}, "response": {"content": "All that glisters"}})
    url = start_valkey().url
    return Client(url), [worker_process(aimock.url, REDIS_URL=url) for _ in range(3)]


def tellers(workers: Sequence[Worker]) -> list[Worker]:
    """Those that tell of the fleet."""
    return [worker for worker in workers if worker.samples("queue_depth")]


def the_one_that_tells(workers: Sequence[Worker]) -> Worker:
    """Wait until it is one of them; where Redis is slow, none tells for a moment."""

    def one() -> list[Worker]:
        found = tellers(workers)
        assert len(found) <= 1, "two tell of the fleet"
        return found

    return until(one, "one of them tells")[0]


def told(workers: Sequence[Worker], name: str) -> float:
    """Add up a metric, as Prometheus does."""
    return sum(sum(worker.samples(name).values()) for worker in workers)


def run(client: Client, count: int) -> None:
    """Have so many tasks run, and see their end."""
    for handle in [client.chat("m", QUESTION) for _ in range(count)]:
        handle.result(timeout=60)


@pytest.mark.parametrize("leave", ["killed", "ended"])
def test_one_tells_and_when_it_has_gone_another_does(
    fleet: tuple[Client, list[Worker]], leave: str
) -> None:
    client, workers = fleet
    with client:
        run(client, 20)
        until(lambda: told(workers, "tasks_total") == 20, "20 tasks are counted")
        teller = the_one_that_tells(workers)
        rest = [worker for worker in workers if worker is not teller]
        ways: dict[str, Any] = {"killed": teller.kill, "ended": teller.stop}
        ways[leave]()
        run(client, 20)
        until(lambda: tellers(rest), "another one tells", within=HANDOVER_S)
        until(lambda: told(rest, "tasks_total") == 40, "40 tasks are counted")
        last = the_one_that_tells(rest)
        assert until(lambda: last.samples("open_tasks"), "it tells of open tasks") == {"": 0}


def test_workers_of_one_name_are_not_one_worker(
    aimock: Aimock, worker_process: StartWorker, start_valkey: StartValkey, tmp_path: Path
) -> None:
    """Containers on the network of one host: each is process 1 there, and the host has one name."""
    aimock.serve({"match": {"userMessage": "tell"}, "response": {"content": "All that glisters"}})
    (tmp_path / "sitecustomize.py").write_text("import os; os.getpid = lambda: 1")
    path, url = f"{tmp_path}:{ROOT}", start_valkey().url
    workers = [worker_process(aimock.url, REDIS_URL=url, PYTHONPATH=path) for _ in range(2)]
    with Client(url) as client:
        run(client, 5)
    until(lambda: told(workers, "tasks_total") == 5, "5 tasks are counted, and each once")
    the_one_that_tells(workers)
