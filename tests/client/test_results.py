"""Results, statuses and texts, as both clients give them."""

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from redis import Redis

from api_contracts.client import connection
from api_contracts.errors import (
    ErrorCode,
    ResultTimeout,
    StreamReset,
    TaskCancelled,
    TaskEnded,
    TaskExpired,
    TaskFailed,
    TaskNotFound,
)
from api_contracts.names import State
from api_contracts.results import Result
from tests.client.conftest import Begin, Shell
from tests.parts.scripts import KEYS, Hand, Scripts, a_task, wait_for_subscriber

#: How a task that was not completed ends, and what asking for its result raises.
NO_RESULT = [("fail", TaskFailed), ("cancel", TaskCancelled)]


def said(result: Result) -> str:
    content: str = result.response["choices"][0]["message"]["content"]
    return content


@pytest.mark.parametrize("in_event", [True, False])
def test_a_result_is_there_after_the_ending(begin: Begin, shell: Shell, *, in_event: bool) -> None:
    hand = begin()
    hand.complete("It is 42.", in_event=in_event)
    result = shell.result(hand.task_id)
    assert (result.task_id, said(result)) == (hand.task_id, "It is 42.")


@pytest.mark.parametrize("in_event", [True, False])
def test_a_result_is_waited_for_through_death_and_retry(
    begin: Begin, shell: Shell, redis: Redis, *, in_event: bool
) -> None:
    hand = begin()
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(shell.result, hand.task_id, 30)
        wait_for_subscriber(redis, hand.task_id)
        hand.say("a", "b")
        hand.vanish()
        Hand(redis, hand.task_id).retry()
        Hand(redis, hand.task_id).complete("at last", in_event=in_event)
        result = waits.result(30)
    assert (result.attempts[0].attempt, said(result)) == (3, "at last")


@pytest.mark.parametrize("timeout", [0, 0.01, 0.3])
def test_waiting_for_a_result_ends_with_its_time(
    begin: Begin, shell: Shell, timeout: float
) -> None:
    hand = begin()
    began = time.monotonic()
    with pytest.raises(ResultTimeout, match=f"{hand.task_id} had not ended after {timeout} s"):
        shell.result(hand.task_id, timeout)
    assert timeout <= time.monotonic() - began < timeout + 2
    hand.complete("it goes on")
    assert said(shell.result(hand.task_id, timeout)) == "it goes on"


@pytest.mark.parametrize(("end", "raised"), NO_RESULT)
def test_another_ending_than_completed_is_raised(
    begin: Begin, shell: Shell, redis: Redis, end: str, raised: type[TaskEnded]
) -> None:
    """Whether it came before the question or while somebody waited."""
    hand = begin()
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(shell.result, hand.task_id, 30)
        wait_for_subscriber(redis, hand.task_id)
        getattr(hand, end)()
        with pytest.raises(raised):
            waits.result(30)
    with pytest.raises(raised) as caught:
        shell.result(hand.task_id)
    if isinstance(caught.value, TaskFailed):
        assert str(caught.value) == "overloaded: busy"
        assert caught.value.error.code is ErrorCode.OVERLOADED


def test_an_expired_task_is_told(shell: Shell, redis: Redis) -> None:
    task = a_task()
    shell.enqueue(task)
    scripts = Scripts(redis)
    scripts.set(task.id, expires_at=1)
    scripts.claim(task.id, "token")
    with pytest.raises(TaskExpired):
        shell.result(task.id)
    assert [event.type for event in shell.stream(task.id)] == ["queued", "expired"]


def test_an_unknown_task_is_not_found(shell: Shell) -> None:
    task_id = str(uuid4())
    for ask in (shell.result, shell.status, lambda one: list(shell.stream(one))):
        with pytest.raises(TaskNotFound, match=f"no task {task_id}: it never existed, or its"):
            ask(task_id)
    with pytest.raises(TaskNotFound):
        list(shell.text(task_id))


def test_a_record_that_goes_away_while_somebody_follows_is_not_found(
    begin: Begin, shell: Shell, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SILENCE_S", 0.1)
    hand = begin()
    events = shell.stream(hand.task_id)
    assert [next(events).type for _ in range(2)] == ["queued", "started"]
    redis.delete(KEYS.record(hand.task_id), KEYS.events(hand.task_id))
    with pytest.raises(TaskNotFound):
        next(events)


def test_a_status_tells_what_the_record_says(shell: Shell, redis: Redis) -> None:
    task = a_task()
    shell.enqueue(task)
    queued = shell.status(task.id)
    assert (queued.state, queued.kind, queued.attempt) == (State.QUEUED, "chat", 0)
    assert (queued.claimed_at, queued.worker, queued.due_at) == (None, None, None)
    hand = Hand(redis, task.id, worker="ann")
    running = shell.status(task.id)
    assert (running.state, running.attempt, running.worker) == (State.RUNNING, 1, "ann")
    assert running.claimed_at == hand.claim.claimed_at
    hand.retry()
    assert (shell.status(task.id).state, shell.status(task.id).due_at) == (State.RETRYING, 1)
    Hand(redis, task.id).fail()
    failed = shell.status(task.id)
    assert (failed.state, failed.attempt, failed.ended_at) == (State.FAILED, 2, 1)
    assert failed.error is not None
    assert failed.error.message == "busy"


def test_text_comes_in_the_pieces_of_the_stream(begin: Begin, shell: Shell) -> None:
    hand = begin()
    pieces = shell.text(hand.task_id)
    hand.say("It ")
    assert next(pieces) == "It "
    hand.say("is ", "", "42.")
    hand.complete("It is 42.")
    assert list(pieces) == ["is ", "42."]


def test_text_that_was_not_streamed_comes_whole(begin: Begin, shell: Shell) -> None:
    hand = begin()
    hand.complete("It is 42.")
    assert list(shell.text(hand.task_id)) == ["It is 42."]


def test_text_of_a_restarted_task_is_not_joined(begin: Begin, shell: Shell, redis: Redis) -> None:
    hand = begin()
    told: list[str] = []
    resets: list[list[str]] = []
    deaf = shell.text(hand.task_id)
    pieces = shell.text(hand.task_id, lambda: resets.append(list(told)))
    hand.say("one", " two")
    told += [next(pieces), next(pieces)]
    assert next(deaf) == "one"
    assert next(deaf) == " two"
    hand.vanish()
    again = Hand(redis, hand.task_id)
    again.say("three")
    with pytest.raises(StreamReset, match=f"{hand.task_id} was restarted: .* void"):
        next(deaf)
    told.append(next(pieces))
    assert (resets, told[-1]) == ([["one", " two"]], "three")
    again.complete("three")
    assert list(pieces) == []


def test_text_of_a_restarted_task_that_is_not_streamed_again_comes_whole(
    begin: Begin, shell: Shell, redis: Redis
) -> None:
    hand = begin()
    resets: list[bool] = []
    pieces = shell.text(hand.task_id, lambda: resets.append(True))
    hand.say("one")
    assert next(pieces) == "one"
    hand.vanish()
    Hand(redis, hand.task_id).vanish()
    Hand(redis, hand.task_id).complete("It is 42.")
    assert list(pieces) == ["It is 42."]
    assert resets == [True], "the second restart made nothing void that was shown"


def test_text_of_a_task_that_fails_raises_behind_its_pieces(begin: Begin, shell: Shell) -> None:
    hand = begin()
    pieces = shell.text(hand.task_id)
    hand.say("half")
    assert next(pieces) == "half"
    hand.fail()
    with pytest.raises(TaskFailed, match="overloaded: busy"):
        next(pieces)
