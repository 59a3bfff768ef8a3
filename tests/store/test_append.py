"""append.lua: an attempt's events stand in the log once, in order, and only while it is ours."""

import json

import pytest
import redis

from api_contracts.events import EVENT_LIMIT, Stored, parse_event
from api_contracts.names import State
from api_contracts.requests import Task
from tests.parts.scripts import KEYS, Scripts, a_task, chunk, listening

#: States in which an attempt takes no events, by how it got there.
OVER = [State.RETRYING, State.COMPLETED, State.FAILED, State.CANCELLED, State.EXPIRED]


@pytest.fixture
def scripts(any_redis: redis.Redis) -> Scripts:
    return Scripts(any_redis)


@pytest.fixture
def task(scripts: Scripts) -> Task:
    """A task whose first attempt runs."""
    task = a_task()
    scripts.create(task)
    scripts.claim(task.id, "token")
    return task


def chunks(task: Task, first: int, last: int, attempt: int = 1) -> list[bytes]:
    return [chunk(task.id, attempt, seq) for seq in range(first, last + 1)]


def places(scripts: Scripts, task: Task) -> list[str]:
    return [place for place, _ in scripts.log(task.id)]


def test_events_stand_in_the_log_under_their_own_ids(scripts: Scripts, task: Task) -> None:
    events = chunks(task, 1, 12)
    assert scripts.append(task.id, 1, 1, *events[:1]) == 1
    assert scripts.append(task.id, 1, 2, *events[1:]) == 1
    log = scripts.log(task.id)[2:]
    assert [event for _, event in log] == events
    assert [place for place, _ in log] == [parse_event(event).id for event in events]


def test_what_is_appended_is_published_in_order(any_redis: redis.Redis, scripts: Scripts) -> None:
    task = a_task()
    scripts.create(task)
    scripts.claim(task.id, "token")
    with listening(any_redis, task.id) as heard:
        scripts.append(task.id, 1, 1, *chunks(task, 1, 5))
        assert heard() == chunks(task, 1, 5)


@pytest.mark.parametrize(("first", "last"), [(1, 3), (1, 2), (2, 3), (3, 3)])
def test_a_batch_that_is_sent_again_changes_nothing(
    any_redis: redis.Redis, scripts: Scripts, task: Task, first: int, last: int
) -> None:
    scripts.append(task.id, 1, 1, *chunks(task, 1, 3))
    before = scripts.log(task.id)
    with listening(any_redis, task.id) as heard:
        assert scripts.append(task.id, 1, first, *chunks(task, first, last)) == 1
        assert heard() == []
    assert scripts.log(task.id) == before


@pytest.mark.parametrize("first", [1, 2, 3])
def test_of_a_batch_that_came_in_part_only_the_rest_is_added(
    scripts: Scripts, task: Task, first: int
) -> None:
    scripts.append(task.id, 1, 1, *chunks(task, 1, 2))
    assert scripts.append(task.id, 1, first, *chunks(task, first, 5)) == 1
    assert places(scripts, task) == ["0-1", "1-0", "1-1", "1-2", "1-3", "1-4", "1-5"]


@pytest.mark.parametrize("known", [0, 2])
def test_a_log_that_lacks_events_before_the_first_takes_no_more(
    scripts: Scripts, task: Task, known: int
) -> None:
    if known:
        scripts.append(task.id, 1, 1, *chunks(task, 1, known))
    before = scripts.log(task.id)
    with pytest.raises(redis.ResponseError, match=f"lacks events before 1-{known + 2}"):
        scripts.append(task.id, 1, known + 2, *chunks(task, known + 2, known + 3))
    assert scripts.log(task.id) == before


def test_a_log_that_is_gone_takes_no_more(scripts: Scripts, task: Task) -> None:
    scripts.redis.delete(KEYS.events(task.id))
    with pytest.raises(redis.ResponseError, match="lacks events before 1-1"):
        scripts.append(task.id, 1, 1, *chunks(task, 1, 1))
    assert not scripts.log(task.id)


@pytest.mark.parametrize("attempt", [0, 1, 3, 11])
def test_another_attempt_than_the_running_one_writes_nothing(
    scripts: Scripts, task: Task, attempt: int
) -> None:
    scripts.set(task.id, lease_until=1)
    scripts.claim(task.id, "two")
    before = scripts.record(task.id), scripts.log(task.id)
    assert scripts.append(task.id, attempt, 1, *chunks(task, 1, 2, attempt)) == 0
    assert (scripts.record(task.id), scripts.log(task.id)) == before


@pytest.mark.parametrize("state", OVER)
def test_an_attempt_that_has_ended_writes_nothing(
    scripts: Scripts, task: Task, state: State
) -> None:
    scripts.settle(task.id, "1-1", state)
    before = scripts.record(task.id), scripts.log(task.id)
    assert scripts.append(task.id, 1, 2, *chunks(task, 2, 2)) == 0
    assert (scripts.record(task.id), scripts.log(task.id)) == before


def test_a_task_without_a_record_takes_nothing(scripts: Scripts) -> None:
    task = a_task()
    assert scripts.append(task.id, 1, 1, *chunks(task, 1, 1)) == 0
    assert not scripts.log(task.id)


@pytest.mark.parametrize("over", [0, 1, 100_000])
def test_an_event_over_the_limit_is_whole_in_the_log_and_a_stub_on_the_channel(
    any_redis: redis.Redis, scripts: Scripts, task: Task, over: int
) -> None:
    least = len(chunk(task.id, 1, 1, b'""'))
    event = chunk(task.id, 1, 1, json.dumps("x" * (EVENT_LIMIT - least + over)).encode())
    assert len(event) == EVENT_LIMIT + over
    with listening(any_redis, task.id) as heard:
        assert scripts.append(task.id, 1, 1, event) == 1
        (message,) = heard()
    assert scripts.log(task.id)[-1] == ("1-1", event)
    if over:
        assert parse_event(message) == Stored(id="1-1", task_id=task.id, at=0)
    else:
        assert message == event


def test_many_events_come_in_one_call(scripts: Scripts, task: Task) -> None:
    assert scripts.append(task.id, 1, 1, *chunks(task, 1, 10_000)) == 1
    assert places(scripts, task)[2:] == [f"1-{seq}" for seq in range(1, 10_001)]
