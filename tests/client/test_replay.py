"""Replaying and dropping dead letters, as both clients do it."""

from typing import Any

import pytest
from redis import Redis

from api_contracts.client.box import Box
from api_contracts.client.keyring import NO_KEYS
from api_contracts.client.signatures import NO_SIGNATURES
from api_contracts.client.submission import RING_AGAIN_MS
from api_contracts.errors import NotDead, StoreUnavailable, TaskFailed, TaskNotFound
from api_contracts.events import Started
from api_contracts.names import Queue, State
from tests.client.conftest import Shell, StartShell
from tests.client.test_enqueue import rung
from tests.conftest import StartValkey
from tests.parts.cable import Cable
from tests.parts.letters import bury, now_ms, park, replaying
from tests.parts.scripts import KEYS, Hand, Scripts, a_task, types
from worker import trust
from worker.claim import Claim

# --- replay -----------------------------------------------------------------------------------


def test_a_replayed_task_is_run_again_under_its_own_id(shell: Shell, redis: Redis) -> None:
    task_id = bury(redis, priority="batch")
    old = list(shell.stream(task_id))
    shell.replay(task_id)
    assert set(rung(redis, Queue.BATCH)) == {task_id}
    assert redis.zcard(KEYS.dead) == 0
    due: Any = redis.zscore(KEYS.due, task_id)
    assert abs(due - RING_AGAIN_MS - now_ms()) < 5_000
    status = shell.status(task_id)
    assert (status.state, status.attempt, status.replays) == (State.QUEUED, 1, 1)
    assert (status.failures, status.ended_at) == (0, None)
    hand = Hand(redis, task_id)
    hand.say("new")
    hand.complete("new")
    assert [event.id for event in shell.stream(task_id)] == ["1-3", "2-0", "2-1", "2-2"]
    assert [event.id for event in shell.stream(task_id, old[-1].id)] == ["1-3", "2-0", "2-1", "2-2"]
    assert shell.result(task_id).response["choices"][0]["message"]["content"] == "new"
    assert [one.attempt for one in hand.claim.history] == [1], "what it came to stays"
    assert shell.status(task_id).replays == 1


def test_somebody_who_reads_slowly_sees_the_new_ending_alone(shell: Shell, redis: Redis) -> None:
    task_id = shell.enqueue(a_task())
    Hand(redis, task_id).fail()
    with pytest.raises(TaskFailed):
        shell.result(task_id)
    shell.replay(task_id)
    Hand(redis, task_id).complete("at last")
    assert shell.result(task_id).finish_reason == "stop"


def test_a_subscriber_who_comes_back_in_the_middle_goes_on_behind_the_replay(
    shell: Shell, redis: Redis
) -> None:
    task_id = shell.enqueue(a_task())
    hand = Hand(redis, task_id)
    hand.say("one", "two")
    hand.fail()
    shell.replay(task_id)
    Hand(redis, task_id).complete("at last")
    events = list(shell.stream(task_id, "1-1"))
    assert [event.id for event in events] == ["1-4", "2-0", "2-1"]
    assert isinstance(events[1], Started)
    assert events[1].resets, "what was seen is void"


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"deadline": 4_000_000_000_000, "expires_at": 4_000_000_000_000}, {}),
        ({"deadline": 4_000_000_000_000, "tenant": "t"}, {"tenant": "t"}),
        ({"metadata": {"deadline": 1}}, {"metadata": {"deadline": 1}}),
        ({"retry": {"max_attempts": 3}, "result_ttl": 9},
         {"retry": {"max_attempts": 3}, "result_ttl": 9}),
    ],
)  # fmt: skip
def test_a_replayed_task_has_no_deadline_and_all_else_that_it_had(
    shell: Shell, redis: Redis, options: dict[str, Any], kept: dict[str, Any]
) -> None:
    """What its producer wrote stays as it is, for it may be signed: the worker leaves them out."""
    task_id, scripts = bury(redis, **options), Scripts(redis)
    before = scripts.record(task_id)[b"task"]
    shell.replay(task_id)
    record = scripts.record(task_id)
    assert (record[b"task"], record[b"expires_at"]) == (before, b"")
    claim = scripts.claim(task_id, "token")
    assert isinstance(claim, Claim)
    _, task = trust.read(claim, Box(NO_KEYS, task_id), NO_SIGNATURES, now_ms())
    assert task.options.model_dump(exclude_defaults=True) == kept


@pytest.mark.parametrize("task", [b"", b"{oops", b"[1]", b'{"options":7}', b"\xff", b"[" * 10**5])
def test_a_task_that_cannot_be_read_is_replayed_as_it_is(
    shell: Shell, redis: Redis, task: bytes
) -> None:
    """Its worker says what is wrong with it."""
    task_id = bury(redis)
    redis.hset(KEYS.record(task_id), "task", task)
    shell.replay(task_id)
    assert Scripts(redis).record(task_id)[b"task"] == task


def test_a_queue_that_nobody_serves_is_not_rung_on(shell: Shell, redis: Redis) -> None:
    task_id = bury(redis)
    Scripts(redis).set(task_id, queue="somebody.elses")
    shell.replay(task_id)
    assert set(rung(redis)) == {task_id}


def test_a_message_that_was_no_task_is_not_replayed(shell: Shell, redis: Redis) -> None:
    letter_id = park(redis)
    with pytest.raises(NotDead, match="cannot be replayed: it was no task of ours"):
        shell.replay(letter_id)
    assert shell.dead_letter(letter_id) == shell.dead_letters()[0]
    assert redis.zcard(KEYS.due) == 0


def test_a_second_replay_is_refused_and_rings_for_nobody(shell: Shell, redis: Redis) -> None:
    task_id = bury(redis)
    shell.replay(task_id)
    redis.delete(*Queue)
    with pytest.raises(NotDead, match="its state is 'queued'"):
        shell.replay(task_id)
    assert rung(redis) == []


def test_a_task_that_dies_again_is_a_letter_again(shell: Shell, redis: Redis) -> None:
    task_id = bury(redis, 1000)
    shell.replay(task_id)
    redis.zadd(KEYS.dead, {task_id: 2000})
    Hand(redis, task_id).fail()
    (letter,) = shell.dead_letters()
    assert (letter.id, letter.ended_at, letter.replays) == (task_id, 2000, 1)
    shell.replay(task_id)
    assert shell.status(task_id).replays == 2


def test_a_task_that_dies_again_before_the_replay_is_through_is_a_letter_again(
    shell: Shell, redis: Redis
) -> None:
    """A key that is still wrong fails it within milliseconds."""
    task_id = bury(redis, 1000)
    died = False
    for _ in replaying(redis, task_id):
        if not died and shell.status(task_id).state is State.QUEUED:
            redis.zadd(KEYS.dead, {task_id: 2000})
            Hand(redis, task_id).fail()
            died = True
    assert died
    assert [letter.id for letter in shell.dead_letters()] == [task_id]


def test_a_task_that_somebody_else_has_replayed_and_that_died_again_stays_a_letter(
    shell: Shell, redis: Redis
) -> None:
    """A key that is still wrong fails it while we replay what we have looked at."""
    task_id = bury(redis, 1000)
    died = False
    for command in replaying(redis, task_id):
        if not died and command[0] == "HMGET":
            shell.replay(task_id)
            redis.zadd(KEYS.dead, {task_id: 2000})
            Hand(redis, task_id).fail()
            died = True
    assert died
    assert shell.status(task_id).replays == 1
    assert [letter.id for letter in shell.dead_letters()] == [task_id]


@pytest.mark.parametrize("lost", [1, 2, 3, 4])
def test_a_lost_reply_makes_no_second_replay_and_loses_nothing(
    start_shell: StartShell, cable: Cable, redis: Redis, lost: int
) -> None:
    shell = start_shell(cable.url)
    task_id = bury(redis)
    cable.lose_replies(lost)
    for _ in range(4):
        try:
            shell.replay(task_id)
            break
        except StoreUnavailable:
            continue
        except NotDead:
            break
    assert cable.lost_all
    assert types(Scripts(redis).log(task_id)) == ["queued"]
    assert shell.status(task_id).replays == 1
    assert redis.zscore(KEYS.due, task_id) is not None, "a reaper rings where nobody has"


def test_forgotten_scripts_are_loaded_again(shell: Shell, redis: Redis) -> None:
    for _ in range(2):
        task_id, letter_id = bury(redis), park(redis)
        redis.script_flush()
        shell.replay(task_id)
        redis.script_flush()
        shell.drop(letter_id)
    assert redis.zcard(KEYS.dead) == 0


def test_the_doorbell_rings_on_a_broker_of_its_own(
    start_shell: StartShell, redis_url: str, redis: Redis, start_valkey: StartValkey
) -> None:
    server = start_valkey(persistence=False)
    shell = start_shell(redis_url, broker_url=server.url)
    task_id = bury(redis)
    with Redis.from_url(server.url) as broker:
        shell.replay(task_id)
        assert rung(broker) == [task_id]
        assert broker.keys() == [b"router.interactive"]
    assert rung(redis) == []
    assert redis.zcard(KEYS.dead) == 0


def test_a_broker_that_is_away_is_told_though_the_task_is_queued(
    start_shell: StartShell, redis_url: str, redis: Redis, start_valkey: StartValkey
) -> None:
    server = start_valkey(persistence=False)
    shell = start_shell(redis_url, broker_url=server.url)
    task_id = bury(redis)
    server.stop()
    with pytest.raises(StoreUnavailable, match="look at REDIS_URL"):
        shell.replay(task_id)
    assert shell.status(task_id).state is State.QUEUED
    assert redis.zscore(KEYS.due, task_id) is not None


# --- drop -------------------------------------------------------------------------------------


def test_a_dropped_task_keeps_its_ending_and_lives_no_longer_than_its_result(
    shell: Shell, redis: Redis
) -> None:
    task_id = bury(redis, result_ttl=90)
    shell.drop(task_id)
    assert shell.dead_letters() == []
    assert redis.zcard(KEYS.dead) == 0
    with pytest.raises(TaskFailed, match="overloaded: busy"):
        shell.result(task_id)
    assert 80 < redis.ttl(KEYS.record(task_id)) <= 90
    with pytest.raises(NotDead):
        shell.replay(task_id)
    shell.drop(task_id)


def test_a_dropped_message_is_gone(shell: Shell, redis: Redis) -> None:
    letter_id = park(redis)
    shell.drop(letter_id)
    assert redis.keys() == []
    with pytest.raises(TaskNotFound):
        shell.drop(letter_id)


def test_an_entry_without_a_record_can_be_dropped(shell: Shell, redis: Redis) -> None:
    redis.zadd(KEYS.dead, {"gone": now_ms()})
    with pytest.raises(TaskNotFound):
        shell.drop("gone")
    assert redis.zcard(KEYS.dead) == 0
