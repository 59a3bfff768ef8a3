"""take.lua and look.lua: who is looked after, and whether somebody must ring."""

import time
from importlib.resources import files
from typing import Any

import pytest
import redis

from api_contracts.requests import Task
from tests.parts.scripts import KEYS, Scripts, a_task
from worker.claim import Claim
from worker.look import Look, Word, read_look

TAKE, LOOK = (files("worker").joinpath(f"lua/{name}.lua").read_text() for name in ("take", "look"))
AGAIN_MS = 20_000
GRACE_MS = 2_000


@pytest.fixture
def scripts(any_redis: redis.Redis) -> Scripts:
    return Scripts(any_redis)


def now_ms() -> int:
    return int(time.time() * 1000)


def created(scripts: Scripts) -> Task:
    """A task on record, whose doorbell was rung a minute ago."""
    task = a_task()
    scripts.create(task)
    scripts.set(task.id, created_at=now_ms() - 60_000, due_at=now_ms() - 60_000)
    return task


def look(scripts: Scripts, task: Task, oldest: int | str = "unknown") -> Look:
    record = KEYS.record(task.id)
    arguments = (oldest, "unknown", AGAIN_MS, GRACE_MS)
    return read_look(task.id, scripts.redis.execute_command("EVAL", LOOK, 1, record, *arguments))


def test_a_task_without_a_record_needs_nobody(scripts: Scripts) -> None:
    assert look(scripts, a_task()).word is Word.OVER


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled", "expired", "nonsense"])
def test_a_task_that_is_over_needs_nobody(scripts: Scripts, state: str) -> None:
    task = created(scripts)
    scripts.set(task.id, state=state)
    assert look(scripts, task, "empty").word is Word.OVER


def test_a_task_whose_queue_is_empty_is_rung_for(scripts: Scripts) -> None:
    task = created(scripts)
    rung = look(scripts, task, "empty")
    assert (rung.word, rung.kind, rung.queue) == (Word.RING, "chat", "router.interactive")
    assert rung.at == pytest.approx(now_ms() + AGAIN_MS, abs=5_000)


def test_a_task_that_waits_in_a_long_queue_is_left_alone(scripts: Scripts) -> None:
    task = created(scripts)
    waits = look(scripts, task, now_ms() - 90_000)
    assert waits.word is Word.WAIT
    # It has waited for a minute: nobody looks for another.
    assert waits.at == pytest.approx(now_ms() + 60_000, abs=5_000)


def test_a_task_that_later_ones_have_overtaken_is_rung_for_once(scripts: Scripts) -> None:
    task = created(scripts)
    oldest = now_ms() - 10_000
    assert look(scripts, task, oldest).word is Word.RING
    assert look(scripts, task, oldest).word is Word.WAIT


def test_a_queue_that_cannot_be_read_rings_for_nobody(scripts: Scripts) -> None:
    assert look(scripts, created(scripts), "unknown").word is Word.WAIT


def test_a_live_lease_is_left_alone_and_an_ended_one_is_rung_for(scripts: Scripts) -> None:
    task = created(scripts)
    claim = scripts.claim(task.id, "token")
    assert isinstance(claim, Claim)
    waits = look(scripts, task, "empty")
    assert (waits.word, waits.at) == (Word.WAIT, claim.now + 600_000 + GRACE_MS)
    scripts.set(task.id, lease_until=now_ms() - 1)
    # A queue that is merely long: nobody has rung since the lease ended.
    assert look(scripts, task, now_ms() - 90_000).word is Word.RING


def test_a_retry_is_left_to_its_timer_and_then_rung_for(scripts: Scripts) -> None:
    task = created(scripts)
    due = now_ms() + 60_000
    scripts.set(task.id, state="retrying", due_at=due, rung_at=due)
    waits = look(scripts, task, "empty")
    assert (waits.word, waits.at) == (Word.WAIT, due + GRACE_MS)
    due = now_ms() - 5_000
    scripts.set(task.id, due_at=due, rung_at=due)
    assert look(scripts, task, "empty").word is Word.RING


@pytest.mark.parametrize("field", ["created_at", "rung_at"])
@pytest.mark.parametrize("value", ["", "-1", "x", "9" * 40])
def test_a_number_that_is_none_stops_nobody(scripts: Scripts, field: str, value: str) -> None:
    task = created(scripts)
    scripts.set(task.id, **{field: value})
    assert look(scripts, task, "empty").word is Word.RING


def test_what_is_due_goes_to_one_taker(scripts: Scripts) -> None:
    client: Any = scripts.redis
    client.zadd(KEYS.due, {"past": now_ms() - 1, "older": 1, "later": now_ms() + 60_000})

    def take(limit: int) -> list[bytes]:
        ids: list[bytes] = client.execute_command("EVAL", TAKE, 1, KEYS.due, limit, 10_000)
        return ids

    assert take(1) == [b"older"]
    assert take(10) == [b"past"]
    assert take(10) == []
    assert client.zscore(KEYS.due, "older") == pytest.approx(now_ms() + 10_000, abs=5_000)


def test_a_task_that_was_cancelled_is_told_with_its_last_attempt(scripts: Scripts) -> None:
    task = created(scripts)
    scripts.claim(task.id, "token")
    assert scripts.cancel(task.id) == b"cancelled"
    told = look(scripts, task)
    assert (told.word, told.cancelled, told.kind, told.attempt) == (Word.OVER, True, "chat", 1)
    scripts.redis.hdel(KEYS.record(task.id), "uncounted")
    assert look(scripts, task).uncounted == ""
