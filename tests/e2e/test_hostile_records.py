"""Records that nobody of ours wrote: the worker says what is wrong where it can, and goes on."""

import json
from typing import Any

import pytest
import redis as redis_library

from api_contracts.client import Client
from api_contracts.client.submission import CREATE, ring, submission
from api_contracts.errors import TaskFailed
from api_contracts.requests import new_id, parse_task
from tests.parts.following import KEYS, ended, error_of, kinds, result_of, until_over
from tests.parts.gate import Gate, whole
from tests.parts.tasks import PROMPT, chat
from tests.parts.wait import until

Json = dict[str, Any]

pytestmark = pytest.mark.usefixtures("worker")

GOOD = whole({"choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]})
#: A whole number beyond what Lua and Redis count exactly.
HUGE = str(10**30)


def _record(
    redis: redis_library.Redis, fields: Json, gone: tuple[str, ...] = (), *, rung: bool = True
) -> str:
    """Write a good record, spoil it, and ring unless it is held back; return the task's id."""
    task_id = new_id()
    commands = submission(parse_task(chat() | {"id": task_id}), KEYS, 0)
    redis.eval(CREATE, *commands.create_with_keys)  # type: ignore[arg-type]
    if fields:
        redis.hset(KEYS.record(task_id), items=[part for pair in fields.items() for part in pair])
    if gone:
        redis.hdel(KEYS.record(task_id), *gone)
    if rung:
        _ring(redis, task_id)
    return task_id


def _ring(redis: redis_library.Redis, task_id: str) -> None:
    _, queue, message = ring(task_id, "chat", "router.interactive", 1_800_000_000_000)
    redis.lpush(str(queue), message)


def _goes_on(gate: Gate, client: Client, redis: redis_library.Redis) -> None:
    """Check that the next task is run as if nothing had been."""
    gate.answer(GOOD, to="the next task")
    messages = [{"role": "user", "content": "the next task"}]
    result_of(redis, client.chat("m", messages).id)


@pytest.mark.parametrize(
    ("fields", "gone", "field"),
    [
        pytest.param({"task": "{oops"}, (), "task: is not JSON", id="task-no-json"),
        pytest.param({"task": b"\xff\xfe"}, (), "task: is not JSON", id="task-no-text"),
        pytest.param({"task": "[1]"}, (), "task: must be a JSON object", id="task-no-object"),
        pytest.param({}, ("task",), "task: is not JSON", id="task-gone"),
        pytest.param({"task": '{"urgent":1}'}, (), "urgent: is not a field", id="task-unknown"),
        pytest.param({"task": '{"options":7}'}, (), "options: must be an object", id="options"),
        pytest.param({"task": "[" * 100_000}, (), "task: is not JSON", id="task-deep"),
        pytest.param({"request": "{oops"}, (), "request: is not JSON", id="request-no-json"),
        pytest.param({"request": "[]"}, (), "request: must be an object", id="request-no-object"),
        pytest.param({}, ("request",), "request: is not JSON", id="request-gone"),
        pytest.param({"request": '{"model":"m"}'}, (), "request.messages", id="no-messages"),
        pytest.param({"request": '{"a":NaN}'}, (), "request: is not JSON", id="request-nan"),
        pytest.param({"request": '{"a":"\\ud83d"}'}, (), "request.model", id="request-half"),
        pytest.param(
            {"request": json.dumps({"model": "m", "messages": [{"role": "u"}], "x": "x" * 2**25})},
            (),
            "request: the body has",
            id="request-large",
        ),
        pytest.param({"kind": "video"}, (), "kind: must be one of", id="kind-unknown"),
        pytest.param({}, ("kind",), "kind: must be one of", id="kind-gone"),
        pytest.param({"kind": "native"}, (), "path: is required", id="kind-other"),
    ],
)
def test_a_record_that_breaks_the_contract_ends_with_its_reason(  # noqa: PLR0913, PLR0917
    gate: Gate, client: Client, redis: redis_library.Redis,
    fields: Json, gone: tuple[str, ...], field: str,
) -> None:  # fmt: skip
    task_id = _record(redis, fields, gone)
    error = error_of(redis, task_id, within=30)
    assert (error["code"], error["retryable"], error["attempts"]) == ("invalid_request", False, 0)
    assert error["message"].startswith(field)
    assert PROMPT not in error["message"]
    assert redis.ttl(KEYS.record(task_id)) > 0
    assert gate.requests == []
    _goes_on(gate, client, redis)


@pytest.mark.parametrize("value", ["", "soon", "-1", "1.5", "nan", "inf", "0x10", HUGE])
@pytest.mark.parametrize(
    "field",
    ["attempt", "failures", "created_at", "due_at", "expires_at", "result_ttl", "claimed_at"],
)
def test_a_number_that_is_none_stops_neither_the_task_nor_the_worker(
    gate: Gate, client: Client, redis: redis_library.Redis, field: str, value: str
) -> None:
    gate.answer(GOOD, to=PROMPT[:8])
    task_id = _record(redis, {field: value})
    assert kinds(ended(redis, task_id))[-1] in ("completed", "expired", "failed")
    assert 0 < redis.ttl(KEYS.record(task_id)) <= 30 * 86_400
    _goes_on(gate, client, redis)


@pytest.mark.parametrize("gone", ["attempt", "failures", "created_at", "due_at", "expires_at",
                                  "result_ttl", "digest", "queue"])  # fmt: skip
def test_a_field_that_is_missing_stops_neither_the_task_nor_the_worker(
    gate: Gate, client: Client, redis: redis_library.Redis, gone: str
) -> None:
    gate.answer(GOOD, to=PROMPT[:8])
    task_id = _record(redis, {}, (gone,))
    assert kinds(ended(redis, task_id))[-1] == "completed"
    assert redis.ttl(KEYS.record(task_id)) > 0
    _goes_on(gate, client, redis)


@pytest.mark.parametrize(
    "fields",
    [
        {"queue": "somebody.elses"},
        {"queue": b"\xff"},
        {"attempt:1": "{oops", "attempt": 1},
        {"lease_until": "x", "token": "x", "worker": "x"},
        {f"f{n}": n for n in range(20_000)},
        {"chunked": "x"},
    ],
    ids=["queue", "queue-no-text", "history", "lease", "20000-fields", "chunked"],
)
def test_other_rubbish_in_a_record_stops_neither_the_task_nor_the_worker(
    gate: Gate, client: Client, redis: redis_library.Redis, fields: Json
) -> None:
    gate.answer(GOOD, to=PROMPT[:8])
    assert kinds(ended(redis, _record(redis, fields)))[-1] == "completed"
    _goes_on(gate, client, redis)


@pytest.mark.parametrize("state", ["", "ready", "completed", "RUNNING", "cancelled"])
def test_a_record_in_no_state_to_run_is_left_alone(
    gate: Gate, client: Client, redis: redis_library.Redis, state: str
) -> None:
    task_id = _record(redis, {"state": state})
    _goes_on(gate, client, redis)
    assert redis.hget(KEYS.record(task_id), "state") == state.encode()
    assert [request for request in gate.requests if PROMPT[:8].encode() in request.body] == []


def test_keys_of_another_type_stop_no_worker(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    text, log = new_id(), _record(redis, {}, rung=False)
    redis.set(KEYS.record(text), "a text")
    redis.delete(KEYS.events(log))
    redis.set(KEYS.events(log), "a text")
    for task_id in (text, log):
        _ring(redis, task_id)
    _goes_on(gate, client, redis)
    assert redis.get(KEYS.record(text)) == b"a text"


@pytest.mark.parametrize("entry_id", ["7-7", f"{2**63}-1"])
def test_a_log_in_which_nothing_can_be_written_ends_its_task_and_nobody_rings_for_it_again(
    gate: Gate, client: Client, redis: redis_library.Redis, entry_id: str
) -> None:
    task_id = _record(redis, {}, rung=False)
    redis.xadd(KEYS.events(task_id), {"x": "y"}, id=entry_id)
    _ring(redis, task_id)
    until(lambda: client.status(task_id).state == "failed", "its end")
    with pytest.raises(TaskFailed, match="internal: Redis refuses to write the task's log"):
        client.result(task_id)
    until_over(redis, task_id)
    assert 0 < redis.ttl(KEYS.record(task_id)) <= 86_400
    assert 0 < redis.ttl(KEYS.events(task_id)) <= 86_400
    _goes_on(gate, client, redis)


def test_strange_entries_in_a_log_stop_no_worker(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    task_id = _record(redis, {}, rung=False)
    redis.xadd(KEYS.events(task_id), {"x": "y"}, id="0-7")
    _ring(redis, task_id)
    _goes_on(gate, client, redis)


def test_rubbish_on_the_queue_stops_no_worker(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    _ring(redis, "no id at all")
    _ring(redis, new_id())
    _goes_on(gate, client, redis)
    until(lambda: redis.llen("router.interactive") == 0, "an empty queue")
