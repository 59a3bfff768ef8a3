"""claim.lua decides who runs a task, and numbers the attempts."""

import time
from typing import Any

import pytest
import redis

from api_contracts.events import Started, parse_event
from api_contracts.names import Queue, State
from api_contracts.requests import Task
from tests.parts.scripts import Scripts, a_task, chunk, decoded, endings, listening, types
from tests.store.conftest import stays
from worker.claim import Claim, NotClaimed


@pytest.fixture
def scripts(any_redis: redis.Redis) -> Scripts:
    return Scripts(any_redis)


@pytest.fixture
def task(scripts: Scripts) -> Task:
    """A task on record that nobody has claimed."""
    task = a_task()
    scripts.create(task)
    return task


def claimed(scripts: Scripts, task: Task, token: str, worker: str = "w") -> Claim:
    claim = scripts.claim(task.id, token, worker=worker)
    assert isinstance(claim, Claim), claim
    return claim


def started(scripts: Scripts, task: Task) -> Started:
    """The last event of the log."""
    event = parse_event(scripts.log(task.id)[-1][1])
    assert isinstance(event, Started)
    return event


def test_the_first_claim_gives_the_record_as_it_now_is(scripts: Scripts, task: Task) -> None:
    claim = claimed(scripts, task, "token", "worker@host")
    record = decoded(scripts.record(task.id))
    assert (claim.attempt, claim.failures, claim.worker) == (1, 0, "worker@host")
    assert (claim.queue, claim.kind) == (Queue.INTERACTIVE, "chat")
    assert claim.request == task.request_json()
    assert (record["state"], record["attempt"], record["token"]) == ("running", "1", "token")
    assert int(record["lease_until"]) == claim.now + 600_000
    assert claim.claimed_at == claim.now >= claim.due_at == claim.created_at


@pytest.mark.parametrize("worker", ["w", 'odd "name" \\ ☃', "router-worker-1@host"])
def test_the_started_event_names_attempt_and_worker(
    scripts: Scripts, task: Task, worker: str
) -> None:
    claimed(scripts, task, "token", worker)
    event = started(scripts, task)
    assert (event.id, event.attempt, event.worker, event.resets) == ("1-0", 1, worker, False)
    assert scripts.log(task.id)[-1][0] == "1-0"


def test_the_started_event_is_published(any_redis: redis.Redis, scripts: Scripts) -> None:
    task = a_task()
    scripts.create(task)
    with listening(any_redis, task.id) as heard:
        claimed(scripts, task, "token")
        assert heard() == [scripts.log(task.id)[-1][1]]


def test_a_task_without_a_record_is_missing(scripts: Scripts) -> None:
    task = a_task()
    assert scripts.claim(task.id, "token") is NotClaimed.MISSING
    assert not scripts.record(task.id)
    assert not scripts.log(task.id)


def test_a_task_that_a_live_worker_has_is_held(scripts: Scripts, task: Task) -> None:
    claimed(scripts, task, "one")
    before = scripts.record(task.id), scripts.log(task.id)
    assert scripts.claim(task.id, "two") is NotClaimed.HELD
    assert (scripts.record(task.id), scripts.log(task.id)) == before


def test_the_same_token_claims_the_same_attempt_again(scripts: Scripts, task: Task) -> None:
    first = claimed(scripts, task, "token")
    before = scripts.record(task.id), scripts.log(task.id)
    again = claimed(scripts, task, "token")
    assert (again.attempt, again.claimed_at, again.due_at) == (1, first.claimed_at, first.due_at)
    lease = {b"lease_until": scripts.record(task.id)[b"lease_until"]}
    assert (scripts.record(task.id), scripts.log(task.id)) == (before[0] | lease, before[1])


def test_a_claim_that_is_asked_for_again_has_its_lease_from_then(
    scripts: Scripts, task: Task
) -> None:
    """Redis may have been away for longer than a lease since it was asked for first."""
    claimed(scripts, task, "token")
    scripts.set(task.id, lease_until=1)
    claimed(scripts, task, "token")
    assert scripts.claim(task.id, "another") is NotClaimed.HELD


def test_the_token_of_an_attempt_that_is_over_claims_nothing(scripts: Scripts, task: Task) -> None:
    claimed(scripts, task, "one")
    scripts.set(task.id, lease_until=1)
    claimed(scripts, task, "two")
    assert scripts.claim(task.id, "one") is NotClaimed.HELD


def test_a_lease_that_has_run_out_gives_the_next_attempt(scripts: Scripts, task: Task) -> None:
    claimed(scripts, task, "one")
    ran_out = int(time.time() * 1000) - 5_000
    scripts.set(task.id, lease_until=ran_out, claimed_at=12_345)
    claim = claimed(scripts, task, "two", "other")
    assert (claim.attempt, claim.failures, claim.worker) == (2, 0, "other")
    assert claim.due_at == ran_out, "it waited since the lease ran out"
    assert claim.claimed_at == 12_345, "it stays the first claim's"
    assert types(scripts.log(task.id)) == ["queued", "started", "started"]


def test_a_retry_is_early_before_its_time_and_claimed_after_it(
    scripts: Scripts, task: Task
) -> None:
    claimed(scripts, task, "one")
    due = int(time.time() * 1000) + 60_000
    assert scripts.settle(task.id, "1-1", State.RETRYING, due_at=due, failures=1) == 1
    assert scripts.claim(task.id, "two") is NotClaimed.EARLY
    scripts.set(task.id, due_at=int(time.time() * 1000) - 10)
    claim = claimed(scripts, task, "three")
    assert (claim.attempt, claim.failures) == (2, 1)


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.CANCELLED, State.EXPIRED])
def test_an_ended_task_is_ended(scripts: Scripts, task: Task, state: State) -> None:
    claimed(scripts, task, "one")
    assert scripts.settle(task.id, "1-1", state) == 1
    assert scripts.claim(task.id, "one") is NotClaimed.ENDED
    assert scripts.claim(task.id, "two") is NotClaimed.ENDED
    assert endings(scripts.log(task.id)) == [state]


def expiring(scripts: Scripts, at_ms: int) -> Task:
    """A task on record that is not to be started from then on."""
    task = a_task(result_ttl=90)
    scripts.create(task)
    scripts.set(task.id, expires_at=at_ms)
    return task


def test_a_task_past_its_start_by_expires_in_the_claim(
    any_redis: redis.Redis, scripts: Scripts
) -> None:
    task = expiring(scripts, int(time.time() * 1000) - 1)
    with listening(any_redis, task.id) as heard:
        assert scripts.claim(task.id, "token") is NotClaimed.EXPIRED
        assert heard() == [scripts.log(task.id)[-1][1]]
    record = decoded(scripts.record(task.id))
    assert (record["state"], record["attempt"]) == ("expired", "0")
    assert "request" not in record
    assert int(record["ended_at"]) > 1_000_000_000_000
    place, event = scripts.log(task.id)[-1]
    assert place == parse_event(event).id == "0-2"
    assert endings(scripts.log(task.id)) == ["expired"]
    assert scripts.ttls(task.id) == stays(scripts, 90)
    log = scripts.log(task.id)
    assert scripts.claim(task.id, "another") is NotClaimed.ENDED
    assert scripts.claim(task.id, "token") is NotClaimed.EXPIRED, "its answer was lost"
    assert scripts.log(task.id) == log


@pytest.mark.parametrize("ttl", ["", "0", "-1", "x", "2592001", "9" * 16, "9" * 40])
def test_a_time_to_live_that_is_none_is_a_day(scripts: Scripts, ttl: str) -> None:
    task = expiring(scripts, 1)
    scripts.set(task.id, result_ttl=ttl)
    assert scripts.claim(task.id, "token") is NotClaimed.EXPIRED
    assert scripts.ttls(task.id) == stays(scripts, 86_400)


def test_a_start_by_in_the_future_or_after_the_start_does_not_matter(scripts: Scripts) -> None:
    task = expiring(scripts, int(time.time() * 1000) + 60_000)
    claimed(scripts, task, "one")
    scripts.set(task.id, expires_at=1, lease_until=1)
    assert claimed(scripts, task, "two").attempt == 2


@pytest.mark.parametrize("ends", ["by a retry", "by a death"])
@pytest.mark.parametrize("chunks", [0, 1, 3])
def test_started_resets_exactly_where_chunks_were_sent(
    scripts: Scripts, task: Task, chunks: int, ends: str
) -> None:
    claimed(scripts, task, "one")
    if chunks:
        events = [chunk(task.id, 1, seq) for seq in range(1, chunks + 1)]
        scripts.append(task.id, 1, 1, *events)
    if ends == "by a retry":
        scripts.settle(task.id, f"1-{chunks + 1}", State.RETRYING, due_at=1)
    else:
        scripts.set(task.id, lease_until=1)
    claimed(scripts, task, "two")
    assert started(scripts, task).resets is (chunks > 0)
    scripts.set(task.id, lease_until=1)
    claimed(scripts, task, "three")
    assert started(scripts, task).resets is (chunks > 0), "they stay void"


def test_attempt_numbers_are_never_used_twice(scripts: Scripts, task: Task) -> None:
    attempts = []
    for turn in range(6):
        claim = claimed(scripts, task, f"token {turn}")
        attempts.append(claim.attempt)
        assert scripts.claim(task.id, "another") is NotClaimed.HELD
        if turn % 2:
            scripts.settle(task.id, f"{claim.attempt}-1", State.RETRYING, due_at=1)
        else:
            scripts.set(task.id, lease_until=1)
    assert attempts == [1, 2, 3, 4, 5, 6]


def test_a_claim_knows_the_calls_before_it(scripts: Scripts, task: Task) -> None:
    claimed(scripts, task, "one")
    call = '{"attempt":1,"worker":"w","outcome":"timeout","usage":{"provenance":"unavailable"}}'
    fields: dict[str, Any] = {"attempt:1": call, "due_at": 1, "failures": 1}
    scripts.settle(task.id, "1-1", State.RETRYING, **fields)
    claimed(scripts, task, "two")
    scripts.set(task.id, lease_until=1)
    third = claimed(scripts, task, "three")
    told = [(one.attempt, one.outcome) for one in third.history]
    assert told == [(1, "timeout"), (2, "interrupted")]
    assert (third.attempt, third.failures) == (3, 1)


def test_a_record_that_somebody_else_wrote_is_claimed_without_what_it_lacks(
    scripts: Scripts,
) -> None:
    task = a_task()
    scripts.set(task.id, state="queued", attempt=0, failures=0, created_at=1, due_at=1)
    scripts.set(task.id, queue="a queue that nobody serves")
    claim = claimed(scripts, task, "token")
    assert (claim.attempt, claim.queue, claim.request) == (1, Queue.INTERACTIVE, b"")


def test_a_task_that_a_dead_worker_left_tells_of_it(scripts: Scripts, task: Task) -> None:
    for deaths in range(4):
        claim = claimed(scripts, task, f"token {deaths}", f"worker {deaths}")
        assert (claim.deaths, claim.interrupted) == (deaths, deaths > 0)
        told = [(one.worker, one.outcome) for one in claim.history]
        assert told == [(f"worker {death}", "interrupted") for death in range(deaths)]
        scripts.set(task.id, lease_until=1)


def test_a_retry_is_no_death(scripts: Scripts, task: Task) -> None:
    claimed(scripts, task, "first")
    scripts.settle(task.id, "1-1", State.RETRYING, due_at=1)
    claim = claimed(scripts, task, "second")
    assert (claim.deaths, claim.interrupted, claim.history) == (0, False, ())
