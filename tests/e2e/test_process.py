"""The process as an operator sees it: its three pages, its end, and how quick it is when idle."""

import json
import statistics
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import redis as redis_library

from api_contracts.client import Client
from api_contracts.client.submission import ring
from api_contracts.requests import new_id
from tests.e2e.conftest import StartModuleWorker
from tests.parts import answers
from tests.parts.following import ended, error_of, result_of
from tests.parts.gate import Do, Gate, stream, whole
from tests.parts.wait import until
from tests.parts.worker import Worker

Json = dict[str, Any]

MESSAGES = [{"role": "user", "content": "hello"}]
USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
GOOD = whole(
    {
        "choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}],
        "usage": USAGE | {"prompt_tokens_details": {"cached_tokens": 3}},
    }
)
BUSY = whole({"error": {"message": "busy"}}, 503)
LIMITED = whole({"error": {"message": "slow down"}}, 429)


@pytest.fixture(scope="module")
def own(module_worker: StartModuleWorker, module_url: str) -> Worker:
    """A worker whose counters nobody else has moved."""
    with redis_library.Redis.from_url(module_url) as client:
        client.flushdb()
    return module_worker(ROUTER_WORKER_MODELS="gpt-4o", ROUTER_WORKER_CONCURRENCY="7")


@pytest.fixture(name="redis")
def module_redis(module_url: str) -> Iterator[redis_library.Redis]:
    with redis_library.Redis.from_url(module_url) as client:
        yield client


@pytest.fixture(name="client")
def module_client(module_url: str) -> Iterator[Client]:
    with Client(module_url) as client:
        yield client


def test_a_small_ledger_of_tasks_is_counted_to_the_last(
    own: Worker, gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    def chat(name: str, **parameters: Any) -> str:
        messages = [{"role": "user", "content": name}]
        return client.chat(parameters.pop("model", "gpt-4o"), messages, **parameters).id

    two = {"retry": {"max_attempts": 2, "base_s": 0}}
    gate.answer(GOOD, GOOD, to="whole")
    gate.answer(stream(*answers.openai("a", "b", "c")), to="streamed")
    gate.answer(BUSY, GOOD, to="busy")
    gate.answer(whole({"error": {"message": "no"}}, 400), to="wrong")
    gate.answer(LIMITED, LIMITED, to="limited")
    gate.answer((Do.CUT,), (Do.CUT,), to="down")
    completed = [
        *(chat("whole", vendor="openai") for _ in range(2)),
        chat("streamed", stream=True, vendor="anthropic"),
        chat("busy", model="unlisted"),
    ]
    failed = [
        chat("wrong", vendor="unheard-of"),
        chat("limited", options=two),
        chat("down", options=two),
    ]
    for task in completed:
        result_of(redis, task)
    for task in failed:
        error_of(redis, task)
    late = chat("late", options={"expires_at": int(time.time() * 1000) - 1})
    assert ended(redis, late)[-1].type == "expired"
    refused = new_id()
    message = json.loads(str(ring(refused, "chat", "router.interactive", 1_800_000_000_000)[2]))
    message["body"] = "W1siW10iXSx7fSx7fV0="  # [["[]"],{},{}]
    redis.lpush("router.interactive", json.dumps(message))
    error_of(redis, refused)

    def all_are_counted() -> dict[str, float]:
        counts = own.samples("tasks_total")
        return counts if sum(counts.values()) >= 9 else {}

    row = "kind={},model={},outcome={},vendor={}".format
    assert until(all_are_counted, "every task is counted") == {
        row("chat", "gpt-4o", "completed", "openai"): 2,
        row("chat", "gpt-4o", "completed", "anthropic"): 1,
        row("chat", "other", "completed", "auto"): 1,
        row("chat", "gpt-4o", "failed", "other"): 1,
        row("chat", "gpt-4o", "failed", "auto"): 2,
        row("chat", "other", "failed", "other"): 1,
        row("chat", "other", "expired", "other"): 1,
    }
    call = "protocol=openai,status_class={},vendor={}".format
    assert own.samples("calls_total") == {
        call("2xx", "openai"): 2,
        call("2xx", "anthropic"): 1,
        call("5xx", "auto"): 1,
        call("2xx", "auto"): 1,
        call("4xx", "other"): 1,
        call("429", "auto"): 2,
        call("none", "auto"): 2,
    }
    assert own.samples("retries_total") == {
        "code=overloaded,vendor=auto": 1,
        "code=rate_limited,vendor=auto": 1,
        "code=connection,vendor=auto": 1,
    }
    assert own.samples("give_ups_total") == {
        "code=rejected,reason=not_retryable,vendor=other": 1,
        "code=rate_limited,reason=attempts_exhausted,vendor=auto": 1,
        "code=connection,reason=attempts_exhausted,vendor=auto": 1,
        "code=invalid_request,reason=not_retryable,vendor=other": 1,
    }
    assert own.samples("chunks_total") == {"vendor=anthropic": 4}
    assert own.samples("first_chunk_seconds_count") == {"vendor=anthropic": 1}
    assert own.samples("chunk_gap_seconds_count") == {"vendor=anthropic": 3}
    token = "model={},provenance=reported,type={},vendor={}".format
    tokens = own.samples("tokens_total")
    assert {key: value for key, value in tokens.items() if "reported" in key} == {
        token("gpt-4o", "input", "openai"): 20,
        token("gpt-4o", "output", "openai"): 8,
        token("gpt-4o", "cached", "openai"): 6,
        token("other", "input", "auto"): 10,
        token("other", "output", "auto"): 4,
        token("other", "cached", "auto"): 3,
    }
    # One claim an attempt; what is expired or refused is never claimed.
    assert own.samples("queue_wait_seconds_count") == {"queue=router.interactive": 10}
    assert own.samples("task_seconds_count")["kind=chat,outcome=completed"] == 4
    assert own.samples("slots") == {"": 7}
    assert own.samples("calls_in_flight") == {"mode=stream": 0, "mode=whole": 0}


def test_a_call_is_in_flight_while_it_runs(own: Worker, gate: Gate, client: Client) -> None:
    gate.answer(stream(*answers.openai("a", finish=False), Do.HANG), to="stream")
    gate.answer((Do.HANG,), to="hello")
    tasks = [
        client.chat("m", [{"role": "user", "content": "stream"}], stream=True),
        client.chat("m", MESSAGES),
    ]
    both = {"mode=stream": 1.0, "mode=whole": 1.0}
    until(lambda: own.samples("calls_in_flight") == both, "both calls run")
    assert all(task.cancel() for task in tasks)
    neither = {"mode=stream": 0.0, "mode=whole": 0.0}
    until(lambda: own.samples("calls_in_flight") == neither, "neither call runs")


def well(worker: Worker, page: str) -> str:
    """What a page says, where all is well: a busy machine may be late to answer it."""
    status, text = worker.get(page)
    return text if status == 200 else ""


def test_a_worker_that_works_is_healthy_and_ready(own: Worker) -> None:
    for page in ("/healthz", "/readyz"):
        text = until(partial(well, own, page), f"{page} says that all is well")
        assert json.loads(text) == {"status": "ok", "failed": {}}
    assert own.get("/other")[0] == 404


def test_an_idle_worker_begins_a_task_at_once(own: Worker, gate: Gate, client: Client) -> None:
    waits = []
    for _ in range(11):
        gate.answer(stream(*answers.openai("a")))
        began = time.perf_counter()
        handle = client.chat("m", MESSAGES, stream=True)
        next(event for event in handle if event.type == "chunk")
        waits.append(time.perf_counter() - began)
        handle.result(10)
    # 8 ms were measured. Nothing on the way polls: a poll would take a second, half of one at best.
    assert statistics.median(waits) < 0.4


def test_an_idle_worker_ends_soon_and_well_when_asked_to(own: Worker) -> None:
    began = time.monotonic()
    assert own.stop(within=60) == 0
    assert time.monotonic() - began < 20, "it waited for its grace of 25 s to pass"
