"""settle.lua ends an attempt once; renew.lua keeps it alive until then."""

import time

import pytest
import redis

from api_contracts.names import State
from api_contracts.requests import Task
from tests.parts.scripts import (
    LEASE_MS,
    Scripts,
    a_task,
    chunk,
    decoded,
    ending,
    endings,
    listening,
)
from tests.store.conftest import stays

ENDED = [State.COMPLETED, State.FAILED, State.CANCELLED, State.EXPIRED]


@pytest.fixture
def scripts(any_redis: redis.Redis) -> Scripts:
    return Scripts(any_redis)


@pytest.fixture
def task(scripts: Scripts) -> Task:
    """A task whose first attempt runs and has sent two chunks."""
    task = a_task()
    scripts.create(task)
    scripts.claim(task.id, "token")
    scripts.append(task.id, 1, 1, chunk(task.id, 1, 1), chunk(task.id, 1, 2))
    return task


@pytest.mark.parametrize("state", [*ENDED, State.RETRYING])
def test_the_end_is_in_log_record_and_channel_at_once(
    any_redis: redis.Redis, scripts: Scripts, task: Task, state: State
) -> None:
    event = ending(task.id, "1-3", state)
    with listening(any_redis, task.id) as heard:
        assert scripts.settle(task.id, "1-3", state, event=event, error="{}", due_at=5) == 1
        assert heard() == [event]
    assert scripts.log(task.id)[-1] == ("1-3", event)
    record = decoded(scripts.record(task.id))
    assert (record["state"], record["error"], record["due_at"]) == (state, "{}", "5")


@pytest.mark.parametrize("state", ENDED)
def test_after_an_ending_record_and_log_expire_together(
    scripts: Scripts, task: Task, state: State
) -> None:
    assert scripts.ttls(task.id) == [-1, -1]
    scripts.settle(task.id, "1-3", state, ttl_s=77)
    assert scripts.ttls(task.id) == stays(scripts, 77)
    record, log = scripts.expires(task.id)
    assert abs(record - log) <= 1


def test_before_another_attempt_nothing_expires(scripts: Scripts, task: Task) -> None:
    scripts.settle(task.id, "1-3", State.RETRYING, due_at=1)
    scripts.claim(task.id, "two")
    assert scripts.ttls(task.id) == [-1, -1]


def test_a_field_is_forgotten_only_where_that_is_said(scripts: Scripts, task: Task) -> None:
    scripts.settle(task.id, "1-3", State.RETRYING, due_at=1)
    assert b"request" in scripts.record(task.id)
    scripts.claim(task.id, "two")
    scripts.settle(task.id, "2-1", State.COMPLETED, forget="request")
    assert b"request" not in scripts.record(task.id)


@pytest.mark.parametrize("state", [*ENDED, State.RETRYING])
def test_an_end_that_is_written_again_is_ours_and_changes_nothing(
    scripts: Scripts, task: Task, state: State
) -> None:
    scripts.settle(task.id, "1-3", state, ttl_s=77)
    before = scripts.record(task.id), scripts.log(task.id)
    assert scripts.settle(task.id, "1-3", state, ttl_s=500, error="other") == 1
    assert (scripts.record(task.id), scripts.log(task.id)) == before
    assert scripts.ttls(task.id) == stays(scripts, 77)


@pytest.mark.parametrize("first", ENDED)
@pytest.mark.parametrize("second", [*ENDED, State.RETRYING])
def test_there_is_no_second_ending(
    scripts: Scripts, task: Task, first: State, second: State
) -> None:
    scripts.settle(task.id, "1-3", first)
    before = scripts.record(task.id), scripts.log(task.id)
    assert scripts.settle(task.id, "1-4", second) == 0
    assert (scripts.record(task.id), scripts.log(task.id)) == before
    assert endings(scripts.log(task.id)) == [first]


@pytest.mark.parametrize("place", ["0-2", "1-3", "3-1", "22-1"])
@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.RETRYING])
def test_another_attempt_than_the_running_one_ends_nothing(
    scripts: Scripts, task: Task, place: str, state: State
) -> None:
    scripts.set(task.id, lease_until=1)
    scripts.claim(task.id, "two")
    before = scripts.record(task.id), scripts.log(task.id)
    assert scripts.settle(task.id, place, state) == 0
    assert (scripts.record(task.id), scripts.log(task.id)) == before


def test_a_slow_worker_does_not_end_a_retry_that_another_has_taken(
    scripts: Scripts, task: Task
) -> None:
    scripts.settle(task.id, "1-3", State.RETRYING, due_at=1)
    scripts.claim(task.id, "two")
    assert scripts.settle(task.id, "1-3", State.RETRYING, due_at=1) == 0
    assert scripts.record(task.id)[b"state"] == b"running"


def test_no_attempt_is_completed_while_its_log_lacks_events(scripts: Scripts, task: Task) -> None:
    before = scripts.record(task.id), scripts.log(task.id)
    with pytest.raises(redis.ResponseError, match="lacks events before 1-4"):
        scripts.settle(task.id, "1-4", State.COMPLETED)
    assert (scripts.record(task.id), scripts.log(task.id)) == before
    assert scripts.settle(task.id, "1-4", State.FAILED) == 1, "a failure may say that some lack"


def test_a_task_that_was_never_claimed_ends_under_attempt_0(scripts: Scripts) -> None:
    task = a_task()
    scripts.create(task)
    assert scripts.settle(task.id, "0-2", State.FAILED, ttl_s=9) == 1
    assert scripts.settle(task.id, "0-2", State.FAILED, ttl_s=9) == 1
    assert [place for place, _ in scripts.log(task.id)] == ["0-1", "0-2"]
    assert scripts.record(task.id)[b"state"] == b"failed"
    assert scripts.ttls(task.id) == stays(scripts, 9)


def test_a_task_without_a_record_is_not_ended(scripts: Scripts) -> None:
    task = a_task()
    assert scripts.settle(task.id, "0-2", State.FAILED) == 0
    assert not scripts.record(task.id)
    assert not scripts.log(task.id)


def test_a_renewed_lease_ends_so_much_later(scripts: Scripts, task: Task) -> None:
    scripts.set(task.id, lease_until=1)
    ends = scripts.renew(task.id, 1)
    assert scripts.record(task.id)[b"lease_until"] == str(ends).encode()
    assert abs(ends - LEASE_MS - time.time() * 1000) < 60_000


@pytest.mark.parametrize("attempt", [0, 2])
def test_another_attempt_is_not_renewed(scripts: Scripts, task: Task, attempt: int) -> None:
    before = scripts.record(task.id)
    assert scripts.renew(task.id, attempt) == 0
    assert scripts.record(task.id) == before


@pytest.mark.parametrize("state", [*ENDED, State.RETRYING])
def test_an_attempt_that_has_ended_is_not_renewed(
    scripts: Scripts, task: Task, state: State
) -> None:
    scripts.settle(task.id, "1-3", state)
    before = scripts.record(task.id)
    assert scripts.renew(task.id, 1) == 0
    assert scripts.record(task.id) == before


def test_a_task_without_a_record_is_not_renewed(scripts: Scripts) -> None:
    task = a_task()
    assert scripts.renew(task.id, 1) == 0
    assert not scripts.record(task.id)
