"""create.lua: a task is on record once, whoever repeats it."""

import time

import redis

from api_contracts.client.submission import MODEL_LIMIT
from api_contracts.events import Queued, parse_event
from api_contracts.requests import new_id, parse_task
from tests.parts.scripts import Scripts, a_task, decoded, listening


def test_a_new_task_is_on_record_and_its_queued_event_in_the_log(any_redis: redis.Redis) -> None:
    scripts, task = Scripts(any_redis), a_task(expires_at=1_900_000_000_000, result_ttl=77)
    assert scripts.create(task) == b"created"
    record = decoded(scripts.record(task.id))
    assert {name: record[name] for name in ("state", "attempt", "failures", "kind", "queue")} == {
        "state": "queued",
        "attempt": "0",
        "failures": "0",
        "kind": "chat",
        "queue": "router.interactive",
    }
    assert record["request"].encode() == task.request_json()
    assert (record["expires_at"], record["result_ttl"]) == ("1900000000000", "77")
    assert record["due_at"] == record["created_at"]
    assert abs(int(record["created_at"]) / 1000 - time.time()) < 60
    ((place, event),) = scripts.log(task.id)
    queued = parse_event(event)
    assert isinstance(queued, Queued)
    assert (place, queued.id, queued.task_id) == ("0-1", "0-1", task.id)
    assert str(queued.at) == record["created_at"]


def test_the_queued_event_is_published_with_the_same_bytes(any_redis: redis.Redis) -> None:
    scripts, task = Scripts(any_redis), a_task()
    with listening(any_redis, task.id) as heard:
        scripts.create(task)
        assert heard() == [scripts.log(task.id)[0][1]]


def test_a_repeated_task_is_the_same_and_changes_nothing(any_redis: redis.Redis) -> None:
    scripts, task = Scripts(any_redis), a_task()
    scripts.create(task)
    scripts.claim(task.id, "token")
    before = scripts.record(task.id), scripts.log(task.id)
    again = parse_task(task.model_dump() | {"options": {"result_ttl": 5}})
    assert scripts.create(task) == scripts.create(again) == b"same"
    assert (scripts.record(task.id), scripts.log(task.id)) == before


def test_another_content_under_a_taken_id_is_other_and_changes_nothing(
    any_redis: redis.Redis,
) -> None:
    scripts, task = Scripts(any_redis), a_task("hello")
    scripts.create(task)
    before = scripts.record(task.id), scripts.log(task.id)
    assert scripts.create(a_task("bye").model_copy(update={"id": task.id})) == b"other"
    assert (scripts.record(task.id), scripts.log(task.id)) == before


def test_a_body_of_odd_bytes_comes_back_as_it_was(any_redis: redis.Redis) -> None:
    scripts, task = Scripts(any_redis), a_task('\0 ☃ "quoted" \\ \r\n %d {braces}')
    scripts.create(task)
    assert scripts.record(task.id)[b"request"] == task.request_json()


def test_a_record_names_its_model_beside_the_body_as_far_as_that_is_short(
    any_redis: redis.Redis,
) -> None:
    scripts, task, poll = Scripts(any_redis), a_task(), parse_task(native_get())
    long = task.model_copy(update={"request": task.request | {"model": "漢" * 1000}})
    long = long.model_copy(update={"id": new_id()})
    for one in (task, long, poll):
        scripts.create(one)
    models = [scripts.record(one.id)[b"model"].decode() for one in (task, long, poll)]
    assert models == ["m", "漢" * MODEL_LIMIT, ""]


def native_get() -> dict[str, object]:
    """A task without a model."""
    path = "/api/v3/contents/generations/tasks/cgt-1"
    return {"kind": "native", "path": path, "method": "GET", "request": {}}
