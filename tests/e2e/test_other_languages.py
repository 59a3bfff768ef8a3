"""Producers and subscribers that have nothing of ours: plain Celery, and Node."""

import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import pytest
import redis as redis_library

from api_contracts.client import Client
from tests.parts import answers
from tests.parts.following import Ear, ended, kinds, log_of, result_of
from tests.parts.gate import Do, Gate, Pause, stream
from tests.parts.need import need
from tests.parts.program import ROOT, Program
from tests.parts.wait import until

Json = dict[str, Any]

pytestmark = pytest.mark.usefixtures("worker")

HERE = Path(__file__).parent
TEXTS = ("Good ", "day, ", "stranger.")
TASK: Json = {
    "kind": "chat",
    "request": {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Grüezi ☃"}],
        "stream": True,
    },
    "options": {"metadata": {"order": 17}},
}


@pytest.fixture
def run_node(tmp_path: Path, redis_url: str) -> Iterator[Any]:
    """Start a script on Node with the Redis's address and these arguments."""
    node = shutil.which("node")
    need(node and (ROOT / "tests/node_modules/celery-node").exists(), "run: npm ci --prefix tests")
    programs: list[Program] = []

    def run(script: str, *arguments: str) -> Program:
        command = [str(node), str(HERE / script), redis_url, *arguments]
        programs.append(Program(command, tmp_path / f"{len(programs)}.log"))
        return programs[-1]

    yield run
    for program in programs:
        program.kill()


def _produced(run_node: Any, name: str, task: Json) -> str:
    """Send a task with celery-node; return the message's id."""
    program = run_node("produce.mjs", name, json.dumps(task))
    assert program.wait() == 0, program.output
    return str(program.output.strip().splitlines()[-1])


def _events(program: Program) -> list[Json]:
    """Return the events that a subscriber on Node has shown, once it has ended."""
    assert program.wait() == 0, program.output
    lines = program.output.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def _heard_like_ours(redis: redis_library.Redis, ear: Ear, task_id: str) -> None:
    """Check that it ran and streamed as a task of our own client does."""
    heard = ear.until_ended(task_id, within=30)
    assert kinds(log_of(redis, task_id)) == ["queued", "started", "chunk", "completed"]
    events = [event.model_dump(mode="json", exclude_none=True) for event in log_of(redis, task_id)]
    assert [one["id"] for one in heard] == [one["id"] for one in events]
    result = result_of(redis, task_id)
    assert result.response["choices"][0]["message"]["content"] == "".join(TEXTS)
    assert result.metadata == {"order": 17}


@pytest.mark.parametrize("as_text", [False, True], ids=["as-object", "as-text"])
def test_a_task_of_plain_celery_runs_and_streams_like_ours(
    gate: Gate, redis_url: str, redis: redis_library.Redis, *, as_text: bool
) -> None:
    gate.answer(stream(*answers.openai(*TEXTS)))
    task = TASK | {"id": str(uuid.uuid4())}
    app = celery.Celery("stranger", broker=redis_url, set_as_current=False)
    with Ear(redis) as ear:
        argument = json.dumps(task) if as_text else task
        app.send_task("router.chat", args=[argument], queue="router.interactive")
        _heard_like_ours(redis, ear, task["id"])
    app.close()
    assert gate.requests[0].json.items() >= TASK["request"].items()


@pytest.mark.parametrize("own_id", [False, True], ids=["message-id", "own-id"])
def test_a_task_of_celery_node_runs_and_streams_like_ours(
    gate: Gate, redis: redis_library.Redis, run_node: Any, *, own_id: bool
) -> None:
    gate.answer(stream(*answers.openai(*TEXTS)))
    task = TASK | ({"id": str(uuid.uuid4())} if own_id else {})
    with Ear(redis) as ear:
        message_id = _produced(run_node, "router.chat", task)
        _heard_like_ours(redis, ear, task.get("id", message_id))
    assert gate.requests[0].json.items() >= TASK["request"].items()


def test_a_wrong_task_of_celery_node_is_refused_where_it_looks(
    redis: redis_library.Redis, run_node: Any
) -> None:
    message_id = _produced(run_node, "router.vision", TASK)
    ending = ended(redis, message_id)[-1]
    assert ending.type == "failed"
    assert ending.error.message == "kind: must be vision for this Celery task"


def test_a_subscriber_on_node_that_came_first_sees_every_event_once(
    gate: Gate, client: Client, redis: redis_library.Redis, run_node: Any
) -> None:
    slow = [step for one in answers.openai(*TEXTS) for step in (one, Pause(0.02))]
    gate.answer(
        stream(*answers.openai("half", finish=False), Do.CUT),
        stream(*slow, *answers.openai(finish=False)),
    )
    task_id = str(uuid.uuid4())
    program = run_node("subscribe.mjs", task_id)
    until(lambda: "subscribed" in program.output, "the subscriber is there", within=30)
    client.enqueue(TASK | {"id": task_id})
    seen = _events(program)
    assert [event["id"] for event in seen] == [event.id for event in ended(redis, task_id)]
    begun = [event["resets"] for event in seen if event["type"] == "started"]
    assert begun == [False, True]
    assert seen[-1]["type"] == "completed"


def test_a_subscriber_on_node_that_came_late_or_again_misses_nothing(
    gate: Gate, client: Client, redis: redis_library.Redis, run_node: Any
) -> None:
    gate.answer(stream(*answers.openai(*TEXTS, "x" * 100_000)))
    task_id = client.enqueue(TASK).id
    ids = [event.id for event in ended(redis, task_id)]
    late, again = run_node("subscribe.mjs", task_id), run_node("subscribe.mjs", task_id, ids[3])
    assert [event["id"] for event in _events(late)] == ids
    assert [event["id"] for event in _events(again)] == ids[4:]
