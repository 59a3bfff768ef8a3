"""The examples of the published documents are really sent, and what comes back fits the schemas."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import redis as redis_library

from api_contracts.client import Client
from api_contracts.names import EVENT_FIELD, Keys
from api_contracts.schema import examples
from tests.conftest import StartWorker
from tests.parts.program import ROOT
from tests.parts.simulator import Simulator

SCHEMAS = {
    name: jsonschema_rs.validator_for(
        json.loads((ROOT / f"api_contracts/schema/{name}.schema.json").read_text())
    )
    for name in ("event", "result", "status")
}


@pytest.fixture
def client(tmp_path: Path, redis_url: str, worker_process: StartWorker) -> Iterator[Client]:
    """A client of a worker that calls the simulator."""
    simulator = Simulator(tmp_path)
    worker_process(simulator.url)
    with Client(redis_url) as client:
        yield client
    simulator.program.stop()


def test_every_task_example_runs_and_every_answer_fits_its_schema(
    client: Client, redis: redis_library.Redis
) -> None:
    keys = Keys()
    for name, task in examples.TASKS.items():
        handle = client.enqueue(task)
        assert handle.result(timeout=20).finish_reason, name
        log: Any = redis.xrange(keys.events(handle.id))
        for _, fields in log:
            SCHEMAS["event"].validate(json.loads(fields[EVENT_FIELD.encode()]))
        result: Any = redis.hget(keys.record(handle.id), "result")
        SCHEMAS["result"].validate(json.loads(result))
        SCHEMAS["status"].validate(handle.status().model_dump(mode="json"))
