"""replay.lua queues again what has failed; drop.lua lets go of it; strike.lua keeps the index."""

import time
from typing import Any

import pytest
import redis

from api_contracts.client.scripts import Script
from api_contracts.events import Started, parse_event
from api_contracts.names import State
from api_contracts.options import RESULT_TTL_MAX
from api_contracts.requests import Task
from tests.parts.scripts import KEYS, Scripts, a_task, chunk, decoded, endings, listening, types
from tests.store.conftest import stays
from worker.claim import Claim

STRIKE = Script.named("strike").source
#: As long as a dead letter stays, in seconds.
WEEK_S = 7 * 86_400
OTHERS = [State.QUEUED, State.RUNNING, State.RETRYING, State.COMPLETED, State.CANCELLED,
          State.EXPIRED, "", "FAILED"]  # fmt: skip
NO_NUMBERS = ["", "soon", "-1", "1.5", "nan", "0x10", "9" * 17, "9" * 400]
CALL = '{"attempt":1,"worker":"w","outcome":"timeout","usage":{"provenance":"unavailable"}}'


@pytest.fixture
def scripts(any_redis: redis.Redis) -> Scripts:
    return Scripts(any_redis)


def failed(scripts: Scripts, chunks: int = 2, **options: Any) -> Task:
    """A task whose first attempt has failed behind so many chunks."""
    task = a_task(**options)
    scripts.create(task)
    scripts.claim(task.id, "token")
    if chunks:
        scripts.append(task.id, 1, 1, *(chunk(task.id, 1, n + 1) for n in range(chunks)))
    fields: dict[str, Any] = {"attempt:1": CALL, "error": "{}", "failures": 5, "deaths": 3}
    fields |= {"interrupted": 1, "ended_at": now_ms()}
    assert scripts.settle(task.id, f"1-{chunks + 1}", State.FAILED, ttl_s=WEEK_S, **fields) == 1
    return task


def now_ms() -> int:
    return int(time.time() * 1000)


def whole(scripts: Scripts, task: Task) -> Any:
    """All that is kept of a task, and until when."""
    return scripts.record(task.id), scripts.log(task.id), scripts.expires(task.id)


def claimed(scripts: Scripts, task: Task, token: str) -> Claim:
    claim = scripts.claim(task.id, token)
    assert isinstance(claim, Claim), claim
    return claim


# --- replay -----------------------------------------------------------------------------------


def test_a_failed_task_is_queued_again_with_its_history(
    any_redis: redis.Redis, scripts: Scripts
) -> None:
    task = failed(scripts)
    before = decoded(scripts.record(task.id))
    with listening(any_redis, task.id) as heard:
        assert scripts.replay(task.id) == b"replayed"
        published = heard()
    record = decoded(scripts.record(task.id))
    changed = {
        name: record.get(name) for name in before | record if record.get(name) != before.get(name)
    }
    now = record["due_at"]
    assert abs(int(now) - now_ms()) < 60_000
    assert changed == {
        "state": "queued", "replays": "1", "failures": "0", "deaths": "0",
        "due_at": now, "rung_at": now, "chunked": "1", "ended_at": None, "interrupted": None,
    }  # fmt: skip
    ((place, event),) = scripts.log(task.id)
    assert (place, published) == ("1-4", [event]), "behind the old ending, 1-3"
    said = parse_event(event)
    assert (said.id, said.task_id, said.type, str(said.at)) == ("1-4", task.id, "queued", now)
    assert scripts.expires(task.id) == [-1, -1]


def test_the_next_attempt_goes_on_with_numbers_and_history(scripts: Scripts) -> None:
    task = failed(scripts)
    scripts.replay(task.id)
    claim = claimed(scripts, task, "new")
    assert (claim.attempt, claim.failures, claim.deaths, claim.interrupted) == (2, 0, 0, False)
    assert [(one.attempt, one.outcome) for one in claim.history] == [(1, "timeout")]
    assert claim.request == task.request_json()
    assert scripts.append(task.id, 2, 1, chunk(task.id, 2, 1)) == 1
    assert scripts.settle(task.id, "2-2", State.COMPLETED, ttl_s=60) == 1
    assert types(scripts.log(task.id)) == ["queued", "started", "chunk", "completed"]
    assert [place for place, _ in scripts.log(task.id)] == ["1-4", "2-0", "2-1", "2-2"]
    assert scripts.ttls(task.id) == stays(scripts, 60)


@pytest.mark.parametrize("chunks", [0, 1, 3])
def test_started_resets_exactly_where_chunks_were_sent_before(
    scripts: Scripts, chunks: int
) -> None:
    task = failed(scripts, chunks)
    for turn in range(2, 4):
        assert scripts.replay(task.id, "" if turn == 2 else "1") == b"replayed"
        claimed(scripts, task, f"token {turn}")
        started = parse_event(scripts.log(task.id)[-1][1])
        assert isinstance(started, Started)
        assert (started.attempt, started.resets) == (turn, chunks > 0)
        scripts.settle(task.id, f"{turn}-1", State.FAILED)


def test_an_old_start_by_does_not_end_it_before_it_has_begun(scripts: Scripts) -> None:
    """It ended before its first claim, so that the start-by would still count."""
    task = a_task()
    scripts.create(task)
    scripts.settle(task.id, "0-2", State.FAILED)
    scripts.set(task.id, expires_at=1)
    assert scripts.replay(task.id) == b"replayed"
    assert [place for place, _ in scripts.log(task.id)] == ["0-3"]
    assert claimed(scripts, task, "new").attempt == 1
    started = parse_event(scripts.log(task.id)[-1][1])
    assert isinstance(started, Started)
    assert not started.resets


def test_a_replayed_task_is_cancelled_and_fails_as_any_other(scripts: Scripts) -> None:
    task = failed(scripts)
    scripts.replay(task.id)
    claimed(scripts, task, "new")
    scripts.settle(task.id, "2-1", State.FAILED)
    assert scripts.replay(task.id, "1") == b"replayed"
    assert scripts.record(task.id)[b"replays"] == b"2"
    assert scripts.cancel(task.id) == b"cancelled"
    assert [place for place, _ in scripts.log(task.id)] == ["2-2", "2-3"]
    assert endings(scripts.log(task.id)) == ["cancelled"]


def test_a_replay_that_is_sent_again_changes_nothing(scripts: Scripts) -> None:
    """Its answer was lost; by now a worker may have the task, or it has failed again."""
    task = failed(scripts)
    assert scripts.replay(task.id) == b"replayed"
    before = whole(scripts, task)
    assert scripts.replay(task.id) == b"replayed"
    assert whole(scripts, task) == before
    claimed(scripts, task, "new")
    scripts.settle(task.id, "2-1", State.FAILED)
    before = whole(scripts, task)
    assert scripts.replay(task.id) == b"replayed"
    assert whole(scripts, task) == before
    assert scripts.replay(task.id, "1") == b"replayed"
    assert scripts.record(task.id)[b"state"] == b"queued"


def test_a_worker_that_slept_through_it_all_writes_nothing(scripts: Scripts) -> None:
    task = failed(scripts)
    scripts.replay(task.id)
    before = whole(scripts, task)
    assert scripts.append(task.id, 1, 3, chunk(task.id, 1, 3)) == 0
    assert scripts.renew(task.id, 1) == 0
    assert scripts.settle(task.id, "1-3", State.FAILED) == 0
    assert scripts.settle(task.id, "1-5", State.COMPLETED) == 0
    assert whole(scripts, task) == before


@pytest.mark.parametrize("state", OTHERS)
def test_what_has_not_failed_is_not_replayed(scripts: Scripts, state: str) -> None:
    task = failed(scripts)
    scripts.set(task.id, state=state)
    before = whole(scripts, task)
    assert scripts.replay(task.id) == state.encode()
    assert whole(scripts, task) == before


@pytest.mark.parametrize("kind", ["message", "", "video", None])
def test_what_is_no_task_is_not_replayed(scripts: Scripts, kind: str | None) -> None:
    task = failed(scripts)
    scripts.redis.hdel(KEYS.record(task.id), "kind")
    if kind is not None:
        scripts.set(task.id, kind=kind)
    before = whole(scripts, task)
    assert scripts.replay(task.id) == b"failed"
    assert whole(scripts, task) == before


def test_a_task_whose_request_is_gone_is_not_replayed(scripts: Scripts) -> None:
    task = failed(scripts)
    scripts.redis.hdel(KEYS.record(task.id), "request")
    before = whole(scripts, task)
    assert scripts.replay(task.id) == b"failed"
    assert whole(scripts, task) == before


@pytest.mark.parametrize("script", ["replay", "drop"])
def test_a_task_without_a_record_is_missing(scripts: Scripts, script: str) -> None:
    task = a_task()
    assert getattr(scripts, script)(task.id) == b"missing"
    assert not scripts.redis.keys()


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize("field", ["attempt", "failures", "replays", "deaths", "created_at"])
def test_a_number_that_is_none_keeps_nobody_from_replaying(
    scripts: Scripts, field: str, value: str
) -> None:
    task = failed(scripts)
    scripts.set(task.id, **{field: value})
    assert scripts.replay(task.id, value if field == "replays" else "") == b"replayed"
    assert scripts.record(task.id)[b"replays"] == b"1"
    assert scripts.record(task.id)[b"state"] == b"queued"
    assert [place for place, _ in scripts.log(task.id)] == ["1-4"]


@pytest.mark.parametrize(("attempt", "place"), [("7", "7-1"), ("x", "0-1")])
def test_a_task_without_a_log_gets_one(scripts: Scripts, attempt: str, place: str) -> None:
    task = failed(scripts)
    scripts.redis.delete(KEYS.events(task.id))
    scripts.set(task.id, attempt=attempt)
    assert scripts.replay(task.id) == b"replayed"
    ((at, event),) = scripts.log(task.id)
    assert at == parse_event(event).id == place


@pytest.mark.parametrize("last", ["9-9", f"{2**63}-1", f"1-{2**64 - 1}"])
def test_a_log_of_another_s_making_keeps_nobody_from_replaying(scripts: Scripts, last: str) -> None:
    task = failed(scripts)
    scripts.redis.xadd(KEYS.events(task.id), {"x": "y"}, id=last)
    assert scripts.replay(task.id) == b"replayed"
    assert types(scripts.log(task.id)) == ["queued"]


def test_a_full_redis_replays_whole_or_not_at_all(start_valkey: Any) -> None:
    server = start_valkey(persistence=False)
    with redis.Redis.from_url(server.url) as client:
        scripts = Scripts(client)
        task = failed(scripts)
        before = whole(scripts, task)
        client.script_load(Script.named("replay").source)
        client.config_set("maxmemory", 1)
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            scripts.replay(task.id)
        client.config_set("maxmemory", 0)
        assert whole(scripts, task) == before
        assert scripts.replay(task.id) == b"replayed"


# --- drop -------------------------------------------------------------------------------------


def test_a_dropped_task_cannot_be_replayed_and_its_ending_stays(scripts: Scripts) -> None:
    task = failed(scripts, result_ttl=90)
    log = scripts.log(task.id)
    assert scripts.drop(task.id) == b"dropped"
    record = scripts.record(task.id)
    assert (record[b"state"], b"request" in record) == (b"failed", False)
    assert scripts.log(task.id) == log
    assert scripts.replay(task.id) == b"failed"


@pytest.mark.parametrize("ttl", [90, 86_400, RESULT_TTL_MAX])
@pytest.mark.parametrize("ago_s", [0, 60])
def test_a_dropped_task_stays_as_long_as_it_would_have_without_its_request(
    scripts: Scripts, ttl: int, ago_s: int
) -> None:
    task = failed(scripts, result_ttl=ttl)
    scripts.set(task.id, ended_at=now_ms() - ago_s * 1000)
    assert scripts.drop(task.id) == b"dropped"
    stays = min(ttl - ago_s, WEEK_S)
    assert all(stays - 5 <= left <= stays + 1 for left in scripts.ttls(task.id))
    assert scripts.drop(task.id) == b"dropped", "a second time as well"
    assert all(stays - 5 <= left <= stays + 1 for left in scripts.ttls(task.id))


def test_a_dropped_task_that_has_outlived_its_time_goes_at_once(scripts: Scripts) -> None:
    task = failed(scripts, result_ttl=90)
    scripts.set(task.id, ended_at=now_ms() - 91_000)
    assert scripts.drop(task.id) == b"dropped"
    assert not scripts.redis.keys()


@pytest.mark.parametrize("value", [*NO_NUMBERS, None, "9" * 16])
@pytest.mark.parametrize("field", ["ended_at", "result_ttl"])
def test_a_moment_or_a_time_to_live_that_is_none_lets_it_stay_for_a_day(
    scripts: Scripts, field: str, value: str | None
) -> None:
    task = failed(scripts)
    scripts.redis.hdel(KEYS.record(task.id), field)
    if value is not None:
        scripts.set(task.id, **{field: value})
    scripts.redis.persist(KEYS.record(task.id))
    assert scripts.drop(task.id) == b"dropped"
    assert all(86_300 < left <= 86_400 for left in scripts.ttls(task.id))


def test_what_was_no_task_is_deleted(scripts: Scripts) -> None:
    task = a_task()
    scripts.set(task.id, state="failed", kind="message", message="{oops")
    assert scripts.drop(task.id) == b"dropped"
    assert not scripts.redis.keys()


@pytest.mark.parametrize("state", OTHERS)
def test_what_has_not_failed_is_not_dropped(scripts: Scripts, state: str) -> None:
    task = failed(scripts)
    scripts.set(task.id, state=state)
    before = whole(scripts, task)
    assert scripts.drop(task.id) == state.encode()
    assert whole(scripts, task) == before


# --- strike -----------------------------------------------------------------------------------


def test_what_has_died_again_since_it_was_read_stays_in_the_index(any_redis: redis.Redis) -> None:
    now = now_ms()
    client: Any = any_redis
    client.zadd(KEYS.dead, {"same": now, "again": now + 1, "other": now, "half": 1.5})
    read = ("same", float(now), "again", float(now), "gone", 1.0, "half", 1.5)
    client.execute_command("EVAL", STRIKE, 1, KEYS.dead, *read)
    assert client.zrange(KEYS.dead, 0, -1) == [b"other", b"again"]
    client.execute_command("EVAL", STRIKE, 1, KEYS.dead)
    assert client.zcard(KEYS.dead) == 2
