"""Dead letters, as both clients list, show, replay and drop them."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from api_contracts.client import letters as letters_module
from api_contracts.errors import ErrorCode, NotDead, TaskNotFound
from api_contracts.names import State
from api_contracts.options import LATEST_MS
from api_contracts.results import DeadLetter
from tests.client.conftest import Shell
from tests.parts.letters import CALL, bury, now_ms, park
from tests.parts.scripts import KEYS, Scripts


def ids(letters: list[DeadLetter]) -> list[str]:
    return [letter.id for letter in letters]


# --- list -------------------------------------------------------------------------------------


def test_letters_are_listed_newest_first_with_all_but_their_bodies(
    shell: Shell, redis: Redis
) -> None:
    now = now_ms()
    first = bury(redis, now - 2000, priority="batch")
    second = park(redis, b"x" * 1000, now - 1000)
    third = bury(redis, now)
    found = shell.dead_letters()
    assert ids(found) == [third, second, first]
    task, message = found[2], found[1]
    assert (task.kind, task.queue, task.attempt) == ("chat", "router.batch", 1)
    assert (task.deaths, task.replays, task.ended_at) == (0, 0, now - 2000)
    assert task.error is not None
    assert (task.error.code, task.error.message) == (ErrorCode.OVERLOADED, "busy")
    assert [(one.attempt, one.outcome) for one in task.attempts] == [(1, "timeout")]
    assert task.size == len(Scripts(redis).record(first)[b"request"])
    assert (message.kind, message.queue, message.size) == ("message", "router.batch", 1000)
    assert (message.attempt, message.attempts) == (0, ())
    assert "hello" not in repr(found)
    assert [shell.dead_letter(one.id) for one in found] == found


def test_nothing_is_listed_where_nothing_died(shell: Shell) -> None:
    assert shell.dead_letters() == []


def test_letters_come_in_pages_each_once_though_many_died_together(
    shell: Shell, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters_module, "PAGE", 4)
    moments = [1000, 1001, *[1002] * 9, 1003, 1003, 1004]
    known = {park(redis, at=at): at for at in moments}
    order = sorted(known, key=lambda one: (known[one], one), reverse=True)
    assert ids(shell.dead_letters(100)) == order
    for limit in (1, 3, 4, 5, 13, 14):
        seen: list[DeadLetter] = []
        while page := shell.dead_letters(limit, seen[-1] if seen else None):
            assert len(page) == min(limit, len(order) - len(seen))
            seen += page
        assert ids(seen) == order, limit


def test_a_page_goes_on_where_the_letter_before_it_was_dropped(shell: Shell, redis: Redis) -> None:
    known = [park(redis, at=1000 + n) for n in range(4)]
    page = shell.dead_letters(2)
    shell.drop(page[-1].id)
    assert ids(shell.dead_letters(2, page[-1])) == [known[1], known[0]]


@pytest.mark.parametrize("state", ["queued", "running", "completed", "nonsense", None])
def test_what_is_dead_no_more_is_left_out_and_struck_off_once_it_is_not_new(
    shell: Shell, redis: Redis, state: str | None
) -> None:
    """A worker writes the index before the record: what is new may be dying now."""
    old, new = now_ms() - letters_module.STALE_MS - 1000, now_ms()
    stale, fresh, kept = bury(redis, old), bury(redis, new), park(redis, at=old)
    for task_id in (stale, fresh):
        if state is None:
            redis.delete(KEYS.record(task_id))
        else:
            Scripts(redis).set(task_id, state=state)
    assert ids(shell.dead_letters()) == [kept]
    assert set(redis.zrange(KEYS.dead, 0, -1)) == {kept.encode(), fresh.encode()}
    Scripts(redis).set(fresh, state="failed", kind="chat", request="{}")
    assert set(ids(shell.dead_letters())) == {kept, fresh}


def test_many_stale_entries_hide_no_letter(shell: Shell, redis: Redis) -> None:
    redis.zadd(KEYS.dead, {f"stale {n}": 5000 + n for n in range(350)})
    kept = park(redis, at=1000)
    assert ids(shell.dead_letters(1)) == [kept]
    assert redis.zcard(KEYS.dead) == 1


SPOILT: dict[str, dict[str, Any]] = {
    "error": {"error": "{oops"},
    "error-gone": {"error": None},
    "numbers": {"attempt": "x", "deaths": "-1", "replays": "9" * 400, "created_at": "soon"},
    "moments": {"created_at": "9" * 16, "ended_at": "9" * 16},
    "kind": {"kind": b"\xff\x1b[2J"},
    "kind-gone": {"kind": None, "queue": None},
    "queue": {"queue": b"\xff"},
    "attempts": {"attempt:2": "{oops", "attempt:x": "1", "attempt:0": CALL, "attempt:03": CALL},
    "many-fields": {f"f{n}": n for n in range(5000)},
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_what_anybody_may_have_written_is_listed_all_the_same(
    shell: Shell, redis: Redis, spoilt: str
) -> None:
    task_id = bury(redis)
    for field, value in SPOILT[spoilt].items():
        if value is None:
            redis.hdel(KEYS.record(task_id), field)
        else:
            redis.hset(KEYS.record(task_id), field, value)
    (letter,) = shell.dead_letters()
    assert letter == shell.dead_letter(task_id)
    assert (letter.id, len(letter.attempts)) == (task_id, 1)
    assert 0 <= letter.created_at <= LATEST_MS
    DeadLetter.model_validate_json(letter.model_dump_json())


def test_junk_in_the_index_hides_nobody(shell: Shell, redis: Redis) -> None:
    kept = bury(redis)
    junk: Any = {b"\xff\xfe": "inf", "a:b}{": "-inf", "": 1.5, "text": 2, "list": now_ms()}
    redis.zadd(KEYS.dead, junk)
    redis.set(KEYS.record("text"), "no hash")
    redis.lpush(KEYS.record("list"), "no hash")
    assert ids(shell.dead_letters()) == [kept]
    assert redis.zrange(KEYS.dead, 0, -1)[-1] == b"\xff\xfe", "it seems to be of the future"
    assert redis.zscore(KEYS.dead, "text") is None


@pytest.mark.parametrize("moment", ["inf", "-inf", 1e300, -5, 1.5])
def test_a_moment_that_is_none_keeps_no_letter_from_being_listed(
    shell: Shell, redis: Redis, moment: Any
) -> None:
    task_id = bury(redis)
    redis.hdel(KEYS.record(task_id), "ended_at")
    redis.zadd(KEYS.dead, {task_id: moment})
    (letter,) = shell.dead_letters()
    assert 0 <= letter.ended_at <= LATEST_MS
    assert shell.dead_letter(task_id) == letter


# --- show -------------------------------------------------------------------------------------


def test_a_body_is_given_to_whoever_asks_for_it(shell: Shell, redis: Redis) -> None:
    task_id, message_id = bury(redis), park(redis, b"\xff\x00{oops")
    assert json.loads(shell.dead_letter_body(task_id))["messages"][0]["content"] == "hello"
    assert shell.dead_letter_body(message_id) == b"\xff\x00{oops"


def test_a_letter_is_found_without_the_index(shell: Shell, redis: Redis) -> None:
    task_id = bury(redis, 1_800_000_000_000)
    redis.delete(KEYS.dead)
    assert shell.dead_letter(task_id).ended_at == 1_800_000_000_000
    assert shell.dead_letters() == []


Ask = Callable[[Shell, str], Any]
ASKS: dict[str, Ask] = {
    "show": lambda shell, one: shell.dead_letter(one),
    "body": lambda shell, one: shell.dead_letter_body(one),
    "replay": lambda shell, one: shell.replay(one),
    "drop": lambda shell, one: shell.drop(one),
}


@pytest.mark.parametrize("ask", ASKS)
def test_an_unknown_letter_is_not_found(shell: Shell, redis: Redis, ask: str) -> None:
    with pytest.raises(TaskNotFound, match="never existed"):
        ASKS[ask](shell, str(uuid4()))
    assert redis.keys() == []


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.COMPLETED, "odd"])
def test_a_task_that_has_not_failed_is_no_dead_letter(
    shell: Shell, redis: Redis, ask: str, state: str
) -> None:
    task_id = bury(redis)
    Scripts(redis).set(task_id, state=state)
    before = redis.dump(KEYS.record(task_id)), redis.dump(KEYS.events(task_id))
    with pytest.raises(NotDead, match=f"{task_id} is no dead letter: its state is '{state}'"):
        ASKS[ask](shell, task_id)
    assert (redis.dump(KEYS.record(task_id)), redis.dump(KEYS.events(task_id))) == before
    assert redis.zscore(KEYS.due, task_id) is None
    assert redis.zscore(KEYS.dead, task_id) is not None


@pytest.mark.parametrize("ask", ["show", "body", "replay"])
def test_a_task_whose_request_is_gone_is_no_dead_letter(
    shell: Shell, redis: Redis, ask: str
) -> None:
    task_id = bury(redis)
    redis.hdel(KEYS.record(task_id), "request")
    with pytest.raises(NotDead, match="its request was not kept"):
        ASKS[ask](shell, task_id)
