"""cancel.lua ends a task, whoever runs it, and nobody writes anything behind that."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from api_contracts.client.scripts import Script
from api_contracts.events import parse_event
from api_contracts.names import State
from api_contracts.options import RESULT_TTL_MAX
from api_contracts.requests import Task
from tests.parts.scripts import KEYS, Scripts, a_task, chunk, decoded, endings, listening, types
from tests.store.conftest import stays
from worker.claim import NotClaimed
from worker.tally import Tally
from worker.telemetry import TaskEnd

ENDED = [State.COMPLETED, State.FAILED, State.EXPIRED]
#: What is no number for a script: no digits, or more than it counts with.
NO_NUMBERS = ["", "soon", "-1", "1.5", "nan", "inf", "0x10", " 5", "9" * 17, "9" * 400]


def queue(scripts: Scripts, task: Task) -> None:
    """Leave it as it is created."""


def run(scripts: Scripts, task: Task) -> None:
    scripts.claim(task.id, "token")


def speak(scripts: Scripts, task: Task) -> None:
    run(scripts, task)
    scripts.append(task.id, 1, 1, chunk(task.id, 1, 1), chunk(task.id, 1, 2))


def retry(scripts: Scripts, task: Task) -> None:
    speak(scripts, task)
    scripts.settle(task.id, "1-3", State.RETRYING, due_at=1)


def run_again(scripts: Scripts, task: Task) -> None:
    retry(scripts, task)
    scripts.claim(task.id, "another")


def lose(scripts: Scripts, task: Task) -> None:
    """Its worker is dead, and nobody has noticed."""
    speak(scripts, task)
    scripts.set(task.id, lease_until=1)


Begin = Callable[[Scripts, Task], None]
#: How far a task had come, and the place of the ending that a cancel writes.
BEGUN: dict[str, tuple[Begin, str]] = {
    "queued": (queue, "0-2"),
    "running": (run, "1-1"),
    "speaking": (speak, "1-3"),
    "retrying": (retry, "1-4"),
    "running-again": (run_again, "2-1"),
    "lost": (lose, "1-3"),
}


@pytest.fixture
def scripts(any_redis: redis.Redis) -> Scripts:
    return Scripts(any_redis)


@pytest.fixture
def task(scripts: Scripts) -> Task:
    """A task on record that nobody has claimed."""
    task = a_task(result_ttl=90)
    scripts.create(task)
    return task


def whole(scripts: Scripts, task: Task) -> Any:
    """All that is kept of a task, and until when."""
    return scripts.record(task.id), scripts.log(task.id), scripts.expires(task.id)


@pytest.mark.parametrize("begun", BEGUN)
def test_a_task_that_goes_on_is_cancelled_at_once_and_whole(
    any_redis: redis.Redis, scripts: Scripts, begun: str
) -> None:
    begin, place = BEGUN[begun]
    task = a_task(result_ttl=90)
    scripts.create(task)
    begin(scripts, task)
    before = scripts.log(task.id)
    with listening(any_redis, task.id) as heard:
        assert scripts.cancel(task.id) == b"cancelled"
        published = heard()
    *log, (at, event) = scripts.log(task.id)
    assert (log, at, published) == (before, place, [event])
    said = parse_event(event)
    assert (said.id, said.task_id, said.type) == (place, task.id, "cancelled")
    record = decoded(scripts.record(task.id))
    assert record["state"] == "cancelled"
    end = TaskEnd("chat", "", None, State.CANCELLED, None)
    assert record["uncounted"] == Tally(()).ended(end)
    assert record["ended_at"] == str(said.at)
    assert abs(said.at - time.time() * 1000) < 60_000
    assert "request" not in record
    assert scripts.ttls(task.id) == stays(scripts, 90)


@pytest.mark.parametrize("begun", BEGUN)
def test_workers_hear_of_a_task_that_runs_and_of_no_other(
    any_redis: redis.Redis, scripts: Scripts, task: Task, begun: str
) -> None:
    BEGUN[begun][0](scripts, task)
    with any_redis.pubsub() as channel:  # type: ignore[no-untyped-call]
        channel.subscribe(KEYS.cancel)
        assert channel.get_message(timeout=5)["type"] == "subscribe"
        scripts.cancel(task.id)
        scripts.cancel(task.id)
        any_redis.publish(KEYS.cancel, "nothing before this")
        heard = [channel.get_message(timeout=5)["data"]]
        while heard[-1] != b"nothing before this":
            heard.append(channel.get_message(timeout=5)["data"])
    runs = begun in ("running", "speaking", "running-again", "lost")
    assert heard[:-1] == [task.id.encode()] * runs


@pytest.mark.parametrize("begun", BEGUN)
def test_behind_a_cancel_nobody_writes_anything(scripts: Scripts, task: Task, begun: str) -> None:
    BEGUN[begun][0](scripts, task)
    scripts.cancel(task.id)
    before = whole(scripts, task)
    assert scripts.claim(task.id, "token") is NotClaimed.ENDED
    assert scripts.claim(task.id, "new") is NotClaimed.ENDED
    for attempt in (1, 2):
        assert scripts.append(task.id, attempt, 1, chunk(task.id, attempt, 1)) == 0
        assert scripts.append(task.id, attempt, 4, chunk(task.id, attempt, 4)) == 0
        assert scripts.renew(task.id, attempt) == 0
        for state in (*ENDED, State.RETRYING):
            for seq in (1, 3, 4):
                assert scripts.settle(task.id, f"{attempt}-{seq}", state) == 0
    assert scripts.settle(task.id, "0-2", State.FAILED) == 0
    assert whole(scripts, task) == before
    assert endings(scripts.log(task.id)) == ["cancelled"]


@pytest.mark.parametrize("begun", BEGUN)
def test_a_second_cancel_says_the_same_and_changes_nothing(
    any_redis: redis.Redis, scripts: Scripts, begun: str
) -> None:
    task = a_task()
    scripts.create(task)
    BEGUN[begun][0](scripts, task)
    scripts.cancel(task.id)
    scripts.redis.hdel(KEYS.record(task.id), "uncounted")
    before = whole(scripts, task)
    with listening(any_redis, task.id) as heard:
        assert scripts.cancel(task.id) == b"cancelled"
        assert heard() == []
    assert whole(scripts, task) == before, "it was counted: nobody counts it again"


@pytest.mark.parametrize("state", [*ENDED, "", "ready", "RUNNING", "no\x1b[2Jstate"])
def test_a_task_that_has_ended_or_is_in_no_state_of_ours_is_left_alone(
    any_redis: redis.Redis, scripts: Scripts, state: str
) -> None:
    task = a_task()
    scripts.create(task)
    speak(scripts, task)
    scripts.set(task.id, state=state)
    before = whole(scripts, task)
    with listening(any_redis, task.id) as heard:
        assert scripts.cancel(task.id) == state.encode()
        assert heard() == []
    assert whole(scripts, task) == before


def test_a_task_without_a_record_is_missing(scripts: Scripts) -> None:
    task = a_task()
    assert scripts.cancel(task.id) == b"missing"
    assert not scripts.redis.keys()


@pytest.mark.parametrize("value", [*NO_NUMBERS, "0", str(RESULT_TTL_MAX + 1), "9" * 16, None])
def test_a_time_to_live_that_is_none_is_a_day(
    scripts: Scripts, task: Task, value: str | None
) -> None:
    if value is None:
        scripts.redis.hdel(KEYS.record(task.id), "result_ttl")
    else:
        scripts.set(task.id, result_ttl=value)
    assert scripts.cancel(task.id) == b"cancelled"
    assert scripts.ttls(task.id) == stays(scripts, 86_400)


@pytest.mark.parametrize("ttl", [60, 86_401, RESULT_TTL_MAX])
def test_a_time_to_live_that_is_allowed_is_obeyed(scripts: Scripts, task: Task, ttl: int) -> None:
    scripts.set(task.id, result_ttl=ttl)
    assert scripts.cancel(task.id) == b"cancelled"
    assert scripts.ttls(task.id) == stays(scripts, ttl)


def test_the_record_stays_until_somebody_has_counted_it(scripts: Scripts, task: Task) -> None:
    """A reaper comes by every few seconds."""
    scripts.set(task.id, result_ttl=1)
    scripts.cancel(task.id)
    assert scripts.ttls(task.id) == [stays(scripts, 60)[0], stays(scripts, 1)[0]]
    assert b"request" not in scripts.record(task.id)


@pytest.mark.parametrize("value", [*NO_NUMBERS, "12345"])
@pytest.mark.parametrize("field", ["attempt", "failures", "created_at", "due_at", "lease_until"])
def test_a_number_that_is_none_keeps_nobody_from_cancelling(
    scripts: Scripts, task: Task, field: str, value: str
) -> None:
    scripts.set(task.id, state="running", **{field: value})
    assert scripts.cancel(task.id) == b"cancelled"
    assert [place for place, _ in scripts.log(task.id)] == ["0-1", "0-2"]


@pytest.mark.parametrize(("attempt", "place"), [("7", "7-1"), ("x", "0-1"), ("", "0-1")])
def test_a_task_without_a_log_gets_one(
    scripts: Scripts, task: Task, attempt: str, place: str
) -> None:
    scripts.redis.delete(KEYS.events(task.id))
    scripts.set(task.id, state="running", attempt=attempt)
    assert scripts.cancel(task.id) == b"cancelled"
    ((at, event),) = scripts.log(task.id)
    assert at == parse_event(event).id == place
    assert scripts.ttls(task.id) == stays(scripts, 90)


@pytest.mark.parametrize("last", ["9-9", "0-7", f"{2**63}-1", f"1-{2**53 - 2}"])
def test_the_ending_stands_behind_whatever_the_log_has(
    scripts: Scripts, task: Task, last: str
) -> None:
    scripts.redis.xadd(KEYS.events(task.id), {"x": "y"}, id=last)
    assert scripts.cancel(task.id) == b"cancelled"
    attempt, seq = last.split("-")
    (place, _), *_ = scripts.redis.xrevrange(KEYS.events(task.id), count=1)
    assert place.decode() == f"{attempt}-{int(seq) + 1}"


@pytest.mark.parametrize("last", [f"0-{2**64 - 1}", f"0-{2**60}"])
def test_a_log_that_takes_no_ending_is_told_and_nothing_is_written(
    scripts: Scripts, task: Task, last: str
) -> None:
    scripts.redis.xadd(KEYS.events(task.id), {"event": "y"}, id=last)
    before = whole(scripts, task)
    with pytest.raises(redis.ResponseError):
        scripts.cancel(task.id)
    assert whole(scripts, task) == before


@pytest.mark.parametrize("key", [KEYS.record, KEYS.events])
def test_a_key_of_another_type_is_left_as_it_is(
    scripts: Scripts, task: Task, key: Callable[[str], str]
) -> None:
    scripts.redis.delete(key(task.id))
    scripts.redis.set(key(task.id), "a text")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        scripts.cancel(task.id)
    assert scripts.redis.get(key(task.id)) == b"a text"
    if key == KEYS.events:
        assert scripts.record(task.id)[b"state"] == b"queued"


def test_a_full_redis_cancels_whole_or_not_at_all(start_valkey: Any) -> None:
    server = start_valkey(persistence=False)
    with redis.Redis.from_url(server.url) as client:
        scripts, task = Scripts(client), a_task()
        scripts.create(task)
        speak(scripts, task)
        before = whole(scripts, task)
        client.script_load(Script.named("cancel").source)
        client.config_set("maxmemory", 1)
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            scripts.cancel(task.id)
        client.config_set("maxmemory", 0)
        assert whole(scripts, task) == before
        assert scripts.cancel(task.id) == b"cancelled"
        assert types(scripts.log(task.id))[-1] == "cancelled"
