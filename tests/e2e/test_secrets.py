"""Neither the router's key nor what people write ends up where it does not belong."""

import json
from contextlib import suppress
from typing import Any

import pytest
import redis as redis_library

from api_contracts.client import Client
from tests.conftest import StartWorker
from tests.parts import answers
from tests.parts.dump import everything
from tests.parts.following import ended, error_of
from tests.parts.gate import Do, Gate, stream, whole
from tests.parts.wait import until
from tests.parts.web import free_port
from tests.parts.worker import API_KEY, Worker

Json = dict[str, Any]

pytestmark = pytest.mark.usefixtures("worker")

#: Stands for what a person wrote; and the same in a header and in metadata.
CANARY, HEADER, METADATA = "canary-of-a-prompt", "canary-of-a-header", "canary-of-metadata"
ANSWER = "canary-of-an-answer"


def _task(name: str, **options: Any) -> Json:
    messages = [{"role": "user", "content": f"{CANARY} {name}"}]
    return {
        "kind": "chat",
        "request": {"model": "gpt-4o", "messages": messages, "user": CANARY},
        "headers": {"x-note": HEADER},
        "options": {"retry": {"max_attempts": 2}, "metadata": {"note": METADATA}, **options},
    }


#: Everything that goes wrong with one call each; an answer that quotes the key is among them.
CALLS = {
    "quotes-key": whole(
        {
            "error": {
                "message": f"Incorrect API key provided: {API_KEY}. See your account.",
                "code": "invalid_api_key",
            }
        },
        401,
    ),
    "quotes-key-in-text": whole(f"bad: Bearer {API_KEY}".encode(), 403, content_type="text/plain"),
    "quotes-key-in-code": whole({"error": {"message": "no", "code": API_KEY}}, 400),
    "refused": whole({"error": {"message": "no"}}, 400),
    "failing": whole(b"<html>", 500),
    "no-http": (b"hello\r\n",),
    "no-json": whole(b"{oops"),
    "cut": (Do.CUT,),
    "half": stream(*answers.openai(ANSWER, finish=False)),
    "malformed": stream(*answers.openai(ANSWER, finish=False), b"data: {oops\n\n"),
    "error-inside": stream(answers.event({"error": {"message": f"key {API_KEY} is over quota"}})),
    "deep": stream(b"data: " + b"[" * 200_000 + b"\n\n"),
    "good": stream(*answers.openai(ANSWER)),
}
STREAMED = {"half", "malformed", "error-inside", "deep", "good"}


@pytest.fixture
def after_all(
    worker: Worker, gate: Gate, client: Client, redis: redis_library.Redis
) -> tuple[int, dict[str, str]]:
    """Run every kind of call; return where in the worker's log it began, and the tasks' ids."""
    began = len(worker.output)
    tasks = {}
    for name, answer in CALLS.items():
        gate.answer(answer, answer, to=f'{CANARY} {name}"')
        tasks[name] = client.enqueue(_task(name, stream=name in STREAMED)).id
    for task in tasks.values():
        ended(redis, task)
    return began, tasks


def test_the_key_is_in_no_record_event_log_or_metric(
    worker: Worker, redis: redis_library.Redis, after_all: tuple[int, dict[str, str]]
) -> None:
    kept = everything(redis)
    assert CANARY.encode() in kept, "this would find nothing"
    assert API_KEY.encode() not in kept
    assert API_KEY not in worker.output
    assert API_KEY not in worker.get("/metrics")[1]
    error = error_of(redis, after_all[1]["quotes-key"])
    assert error["message"] == "Incorrect API key provided: (not shown). See your account."


def test_what_people_write_is_in_no_log_metric_or_error(
    worker: Worker, redis: redis_library.Redis, after_all: tuple[int, dict[str, str]]
) -> None:
    began, tasks = after_all
    errors = [error_of(redis, task) for name, task in tasks.items() if name != "good"]
    said = worker.output[began:]
    for task in tasks.values():
        assert task in said, "this would find nothing"
    for text in (said, worker.get("/metrics")[1], json.dumps(errors)):
        assert "canary" not in text


def test_an_answer_leaves_no_prompt_behind(
    redis: redis_library.Redis, after_all: tuple[int, dict[str, str]]
) -> None:
    record: Any = redis.hgetall(f"rw:{{{after_all[1]['good']}}}")
    assert ANSWER in repr(record)
    assert CANARY not in repr(record)


@pytest.mark.parametrize(
    "address",
    [
        "redis://worker:hunter2@127.0.0.1:{away}/0",
        "sentinel://worker:hunter2@127.0.0.1:{away},127.0.0.1:{away}/0?master_name=m",
        "redis://worker:hunter2@127.0.0.1:{here}/0",
    ],
    ids=["Redis is away", "sentinels are away", "Redis refuses the password"],
)
def test_a_password_of_redis_is_not_said_however_redis_cannot_be_used(
    gate: Gate, redis_url: str, worker_process: StartWorker, address: str
) -> None:
    here = redis_url.rpartition(":")[2].removesuffix("/0")
    url = address.format(away=free_port(), here=here)
    broken = worker_process(gate.url, ready=False, REDIS_URL=url)
    until(lambda: broken.output.count("\n") > 3, "it complains", within=30)

    def page() -> str:
        with suppress(OSError):  # it may complain before it listens
            return broken.get("/readyz")[1]
        return ""

    until(lambda: "Redis" in page(), "and so does its page", within=30)
    for said in (broken.output, broken.get("/readyz")[1], broken.get("/metrics")[1]):
        assert "hunter2" not in said
