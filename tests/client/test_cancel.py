"""Cancelling, as both clients do it: at once, however often, and never by going away."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from api_contracts.client import connection
from api_contracts.errors import StoreUnavailable, TaskCancelled, TaskNotFound
from api_contracts.names import State
from tests.client.conftest import Begin, Shell, StartShell
from tests.parts.cable import Cable
from tests.parts.scripts import KEYS, Hand, Scripts, a_task, endings, types, wait_for_subscriber
from tests.parts.wait import until


def test_a_queued_task_ends_at_once_for_everybody_who_waits(
    shell: Shell, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the word of its channel: nobody looks into the log for a silence's sake here."""
    monkeypatch.setattr(connection, "SILENCE_S", 600)
    task_id = shell.enqueue(a_task())
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(shell.result, task_id, 60)
        wait_for_subscriber(redis, task_id)
        assert shell.cancel(task_id) is True
        with pytest.raises(TaskCancelled, match=task_id):
            waits.result(30)
    with pytest.raises(TaskCancelled):
        shell.result(task_id)
    with pytest.raises(TaskCancelled):
        list(shell.text(task_id))
    assert [event.type for event in shell.stream(task_id)] == ["queued", "cancelled"]
    status = shell.status(task_id)
    assert status.state is State.CANCELLED
    assert status.ended_at is not None


def test_a_running_task_s_stream_ends_with_the_cancel(begin: Begin, shell: Shell) -> None:
    hand = begin()
    events = shell.stream(hand.task_id)
    hand.say("one", "two")
    seen = [next(events).id for _ in range(4)]
    assert shell.cancel(hand.task_id) is True
    rest = list(events)
    assert (seen, [(one.id, one.type) for one in rest]) == (
        ["0-1", "1-0", "1-1", "1-2"],
        [("1-3", "cancelled")],
    )


def test_a_retrying_task_is_cancelled_before_it_comes_back(begin: Begin, shell: Shell) -> None:
    hand = begin()
    hand.retry()
    assert shell.cancel(hand.task_id) is True
    ends = [event.type for event in shell.stream(hand.task_id)]
    assert ends == ["queued", "started", "retrying", "cancelled"]


def test_cancelling_again_says_the_same(shell: Shell, redis: Redis) -> None:
    task_id = shell.enqueue(a_task())
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda _: shell.cancel(task_id), range(20)))
    assert answers == [True] * 20
    assert endings(Scripts(redis).log(task_id)) == ["cancelled"]


@pytest.mark.parametrize("end", ["complete", "fail"])
def test_a_task_that_had_ended_otherwise_is_left_as_it_is(
    begin: Begin, shell: Shell, redis: Redis, end: str
) -> None:
    hand = begin()
    getattr(hand, end)()
    redis.zrem(KEYS.due, hand.task_id)
    before = Scripts(redis).record(hand.task_id), Scripts(redis).log(hand.task_id)
    assert shell.cancel(hand.task_id) is False
    assert (Scripts(redis).record(hand.task_id), Scripts(redis).log(hand.task_id)) == before
    assert redis.zscore(KEYS.due, hand.task_id) is None, "nobody needs to look at it"


def test_an_unknown_task_is_not_found(shell: Shell, redis: Redis) -> None:
    with pytest.raises(TaskNotFound, match="never existed"):
        shell.cancel(str(uuid4()))
    assert redis.keys() == []


def test_somebody_looks_at_a_cancelled_task_next(shell: Shell, redis: Redis) -> None:
    """By whatever clock: to count it, and to take it off the list."""
    others = [shell.enqueue(a_task()) for _ in range(3)]
    task_id = shell.enqueue(a_task())
    shell.cancel(task_id)
    due: Any = redis.zrange(KEYS.due, 0, -1, withscores=True)
    assert due[0] == (task_id.encode(), 0)
    assert {one.decode() for one, _ in due[1:]} == set(others)


def test_a_cancel_that_died_half_way_is_mended_by_the_next(shell: Shell, redis: Redis) -> None:
    task_id = shell.enqueue(a_task())
    Scripts(redis).cancel(task_id)
    assert shell.cancel(task_id) is True
    assert redis.zscore(KEYS.due, task_id) == 0


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_lost_reply_makes_no_second_ending(
    start_shell: StartShell, cable: Cable, redis: Redis, lost: int
) -> None:
    shell = start_shell(cable.url)
    task_id = shell.enqueue(a_task())
    cable.lose_replies(lost)
    for _ in range(4):
        try:
            assert shell.cancel(task_id) is True
            break
        except StoreUnavailable:
            continue
    assert cable.lost_all
    assert types(Scripts(redis).log(task_id)) == ["queued", "cancelled"]


def test_a_forgotten_script_is_loaded_again(shell: Shell, redis: Redis) -> None:
    for _ in range(2):
        task_id = shell.enqueue(a_task())
        redis.script_flush()
        assert shell.cancel(task_id) is True


def test_a_subscriber_who_leaves_cancels_nothing(
    begin: Begin, start_shell: StartShell, redis_url: str, redis: Redis
) -> None:
    """By closing its stream, its client, or its connection."""
    hand = begin()
    hand.say("one")
    leaver = start_shell(redis_url)
    stream, text = leaver.stream(hand.task_id), leaver.text(hand.task_id)
    assert [next(stream).type for _ in range(3)] == ["queued", "started", "chunk"]
    assert next(text) == "one"
    wait_for_subscriber(redis, hand.task_id, 2)
    stream.close()  # type: ignore[attr-defined] # both are generators
    redis.client_kill_filter(_type="pubsub")
    text.close()  # type: ignore[attr-defined]
    asked: Any = redis
    channel = KEYS.live(hand.task_id)
    until(lambda: asked.pubsub_numsub(channel)[0][1] == 0, "nobody listens")
    hand.say("two")
    hand.complete("onetwo")
    assert endings(Scripts(redis).log(hand.task_id)) == ["completed"]


def test_a_replayed_task_can_be_cancelled_and_followed(
    begin: Begin, shell: Shell, redis: Redis
) -> None:
    hand = begin()
    hand.fail()
    shell.replay(hand.task_id)
    Hand(redis, hand.task_id).say("again")
    assert shell.cancel(hand.task_id) is True
    assert [event.id for event in shell.stream(hand.task_id)] == ["1-2", "2-0", "2-1", "2-2"]
