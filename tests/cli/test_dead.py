"""`dead`: an operator lists, shows, replays and drops what came to nothing."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import redis as redis_library
from rich.cells import cell_len

from api_contracts.names import Queue
from api_contracts.requests import new_id
from api_contracts.results import DeadLetter
from tests.cli.shell import Shell
from tests.cli.test_ask import message
from tests.cli.test_follow import MESSAGES
from tests.parts.gate import Gate, whole
from tests.parts.letters import bury, now_ms, park
from tests.parts.scripts import KEYS
from tests.parts.wait import until

#: What a stranger may write to spoil a terminal.
ESCAPE: Final = "\x1b]0;owned\x07\x1b[2J\x9b2J\r"
GROUP: Final = ("list", "show", "replay", "drop")


@pytest.fixture
def redis(shell: Shell) -> Iterator[redis_library.Redis]:
    """The shell's Redis, with nothing in it."""
    with redis_library.Redis.from_url(shell.env["REDIS_URL"]) as client:
        client.flushall()
        yield client


def listed(shell: Shell) -> list[str]:
    """Ids of all dead letters, the newest first."""
    return [line["id"] for line in shell.run_here("dead", "list", "--json").lines]


def state(redis: redis_library.Redis, task_id: str) -> Any:
    return redis.hget(KEYS.record(task_id), "state")


def test_help_names_what_can_be_done(shell: Shell) -> None:
    ran = shell.run_here("dead", "--help")
    assert ran.status == 0
    for name in GROUP:
        assert re.search(rf"^  {name} +\w+", ran.out, re.MULTILINE)


def test_letters_are_listed_one_a_line_newest_first(
    shell: Shell, redis: redis_library.Redis
) -> None:
    now = now_ms()
    first = bury(redis, now - 26 * 3_600_000)
    second = park(redis, at=now - 780_000)
    ran = shell.run_here("dead", "list")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        f"{second}  13 min  message  invalid_request: its mess",
        f"{first}    26 h  chat     overloaded: busy",
    ]
    letters = [
        DeadLetter.model_validate(line) for line in shell.run_here("dead", "list", "--json").lines
    ]
    assert letters == shell.client.dead_letters()


def test_a_list_is_as_long_as_asked_for_and_says_where_there_is_more(
    shell: Shell, redis: redis_library.Redis
) -> None:
    assert shell.run_here("dead", "list").err == "there is no dead letter\n"
    known = [park(redis, at=1000 + n) for n in range(25)]
    ran = shell.run_here("dead", "list")
    assert [line.split()[0] for line in ran.out.splitlines()] == known[:4:-1]
    assert ran.err == "there are more: --limit\n"
    ran = shell.run_here("dead", "list", "--limit", "25", "--json")
    assert ([line["id"] for line in ran.lines], ran.err) == (known[::-1], "")


def test_a_letter_is_shown_with_all_but_its_body(shell: Shell, redis: redis_library.Redis) -> None:
    task_id = bury(redis, text="a secret prompt", priority="batch")
    redis.hset(KEYS.record(task_id), mapping={"deaths": 2, "replays": 1})
    ran = shell.run_here("dead", "show", task_id)
    assert (ran.status, ran.err) == (0, "")
    rows = [(line[:9].strip(), line[9:]) for line in ran.out.splitlines()]
    assert [name for name, _ in rows] == [
        "letter", "kind", "queue", "created", "died", "error", "deaths", "replays", "call", "body",
    ]  # fmt: skip
    said = dict(rows)
    assert (said["letter"], said["queue"]) == (task_id, "router.batch")
    assert (said["error"], said["replays"]) == ("overloaded: busy", "1")
    assert said["call"] == "attempt 1 on hand: timeout"
    assert re.fullmatch(r"\d+ bytes; --request writes them", said["body"])
    assert "secret" not in ran.out
    (line,) = shell.run_here("dead", "show", task_id, "--json").lines
    assert DeadLetter.model_validate(line) == shell.client.dead_letter(task_id)
    assert "secret" not in json.dumps(line)


def test_a_body_is_written_to_whoever_asks_for_it(shell: Shell, redis: redis_library.Redis) -> None:
    task_id, letter_id = bury(redis, text="Grüße"), park(redis, b"{oops \xff")
    request = json.loads(shell.run_here("dead", "show", task_id, "--request").out)
    assert request["messages"][0]["content"] == "Grüße"
    assert shell.run_here("dead", "show", letter_id, "--request").out == "{oops \ufffd\n"
    (line,) = shell.run_here("dead", "show", task_id, "--request", "--json").lines
    assert json.loads(line["body"]) == request
    assert line["id"] == task_id


def spoil(redis: redis_library.Redis) -> str:
    """A letter in which a stranger has written whatever a stranger may."""
    task_id = bury(redis)
    error = {"code": "internal", "message": f"{ESCAPE}広い文字 " * 40, "retryable": False}
    call = {"attempt": 7, "worker": ESCAPE, "outcome": "timeout", "request_id": ESCAPE,
            "usage": {"provenance": "unavailable"}}  # fmt: skip
    spoilt: Any = {
        "kind": ESCAPE + "chat", "queue": ESCAPE * 30, "request": json.dumps({"x": ESCAPE})[:-1],
        "created_at": "9" * 16, "deaths": "9" * 16, "error": json.dumps(error),
        "attempt:7": json.dumps(call), "attempt:8": "{oops",
    }  # fmt: skip
    redis.hset(KEYS.record(task_id), mapping=spoilt)
    odd = f"a\n{ESCAPE}"
    redis.hset(KEYS.record(odd), mapping={"state": "failed", "request": ESCAPE})
    index: Any = {odd: 5, b"\xff": now_ms()}
    redis.zadd(KEYS.dead, index)
    return task_id


def test_whatever_a_stranger_has_written_fits_the_screen_and_spoils_no_terminal(
    shell: Shell, redis: redis_library.Redis
) -> None:
    task_id = spoil(redis)
    ran = shell.run_here("dead", "list")
    lines = ran.out.splitlines()
    assert (ran.status, len(lines)) == (0, 2)
    shown = shell.run_here("dead", "show", task_id)
    for line in (*lines, *shown.out.splitlines()):
        assert cell_len(line) <= 80
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", line)
    for command in (
        ("list", "--json"),
        ("show", task_id, "--json"),
        ("show", task_id, "--request"),
    ):
        status, seen = shell.run_on_terminal("dead", *command)
        assert status == 0
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", seen.decode())


def test_a_task_is_replayed_under_its_own_id(worked: Shell, gate: Gate) -> None:
    """And its history stays to be seen."""
    gate.answer(whole({"error": {"message": "bad key"}}, 401))
    handle = worked.client.chat("m", MESSAGES)
    until(lambda: handle.status().state == "failed", "it fails")
    (letter,) = [
        one for one in worked.run_here("dead", "list", "--json").lines if one["id"] == handle.id
    ]
    assert letter["error"]["code"] == "authentication"
    gate.answer(whole(message("Paris.")))
    ran = worked.run("dead", "replay", handle.id)
    assert (ran.status, ran.out, ran.err) == (0, f"{handle.id}\n", "")
    result = handle.result(timeout=10)
    assert [one.outcome for one in result.attempts] == ["authentication", "completed"]
    assert handle.id not in listed(worked)
    said = worked.run_here("status", handle.id).out
    assert "state    completed (attempt 2, 1 replay)\n" in said
    again = worked.run_here("dead", "replay", handle.id)
    assert (again.status, again.out) == (1, "")
    assert again.err == f"Error: task {handle.id} is no dead letter: its state is 'completed'\n"


def test_a_message_that_was_none_is_shown_and_dropped(worked: Shell) -> None:
    broken = '{"what is": "this'
    with redis_library.Redis.from_url(worked.env["REDIS_URL"]) as redis:
        before = set(listed(worked))
        redis.lpush(Queue.INTERACTIVE, broken)
        until(lambda: set(listed(worked)) - before, "it is parked")
    (letter_id,) = set(listed(worked)) - before
    shown = worked.run_here("dead", "show", letter_id).out
    assert "kind     message\n" in shown
    assert "invalid_request" in shown
    assert worked.run_here("dead", "show", letter_id, "--request").out == f"{broken}\n"
    replayed = worked.run_here("dead", "replay", letter_id)
    assert (replayed.status, "cannot be replayed" in replayed.err) == (1, True)
    dropped = worked.run_here("dead", "drop", letter_id, "--json")
    assert dropped.lines == [{"task_id": letter_id}]
    assert worked.run_here("dead", "show", letter_id).status == 3


@pytest.mark.parametrize(("verb", "done"), [("replay", "replayed"), ("drop", "dropped")])
def test_several_are_dealt_with_and_those_that_cannot_be_are_named(
    shell: Shell, redis: redis_library.Redis, verb: str, done: str
) -> None:
    good, gone, running = [bury(redis), bury(redis)], new_id(), bury(redis)
    redis.hset(KEYS.record(running), "state", "running")
    ran = shell.run_here("dead", verb, good[0], gone, running, good[1])
    assert (ran.status, ran.out.split()) == (1, good)
    assert f"no task {gone}: it never existed" in ran.err
    assert f"task {running} is no dead letter: its state is 'running'" in ran.err
    assert ran.err.endswith(f"Error: 2 of 4 dead letters could not be {done}\n")


@pytest.mark.parametrize("verb", ["show", "replay", "drop"])
def test_an_unknown_id_exits_with_3(shell: Shell, redis: redis_library.Redis, verb: str) -> None:
    ran = shell.run_here("dead", verb, new_id())
    assert (ran.status, ran.out) == (3, "")
    assert redis.keys() == []


def test_all_are_replayed_once_somebody_has_agreed(
    shell: Shell, redis: redis_library.Redis
) -> None:
    tasks, rubbish = [bury(redis) for _ in range(3)], park(redis)
    refused = shell.run_here("dead", "replay", "--all", stdin="n\n")
    assert (refused.status, refused.out) == (1, "")
    assert refused.err.startswith("Replay 3 dead letters? [y/N]: ")
    assert refused.err.endswith("Error: nothing was replayed; --yes goes on without asking\n")
    assert {state(redis, one) for one in tasks} == {b"failed"}
    nobody = shell.run("dead", "replay", "--all")
    assert (nobody.status, nobody.out) == (1, "")
    assert nobody.err.endswith("Error: nothing was replayed; --yes goes on without asking\n")
    agreed = shell.run_here("dead", "replay", "--all", stdin="y\n")
    assert (agreed.status, set(agreed.out.split())) == (0, set(tasks))
    assert {state(redis, one) for one in tasks} == {b"queued"}
    assert listed(shell) == [rubbish], "a message that was none cannot be replayed"
    nothing = shell.run_here("dead", "replay", "--all")
    assert (nothing.status, nothing.out, nothing.err) == (0, "", "there is nothing to replay\n")


def test_all_of_one_error_are_replayed(shell: Shell, redis: redis_library.Redis) -> None:
    others = [bury(redis) for _ in range(2)]
    meant = [bury(redis, code="payment_required") for _ in range(250)]
    ran = shell.run_here("dead", "replay", "--all", "--code", "payment_required", "--yes", "--json")
    assert ran.status == 0
    assert {line["task_id"] for line in ran.lines} == set(meant)
    assert set(listed(shell)) == set(others)


def test_all_are_dropped_messages_too(shell: Shell, redis: redis_library.Redis) -> None:
    tasks, rubbish = [bury(redis), bury(redis)], park(redis)
    ran = shell.run_here("dead", "drop", "--all", "--yes")
    assert (ran.status, set(ran.out.split())) == (0, {*tasks, rubbish})
    assert listed(shell) == []
    assert {state(redis, one) for one in tasks} == {b"failed"}
    assert not redis.exists(KEYS.record(rubbish))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give either IDs or --all"),
        (["--all", "an-id"], "give either IDs or --all"),
        (["an-id", "--code", "poison"], "--code and --yes go with --all"),
        (["an-id", "--yes"], "--code and --yes go with --all"),
        (["--all", "--code", "bad-luck"], "'bad-luck' is not one of"),
    ],
)
@pytest.mark.parametrize("verb", ["replay", "drop"])
def test_a_choice_that_is_none_exits_with_2(
    shell: Shell, redis: redis_library.Redis, verb: str, arguments: list[str], said: str
) -> None:
    kept = bury(redis)
    ran = shell.run_here("dead", verb, *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err
    assert listed(shell) == [kept]


@pytest.mark.parametrize("arguments", [["list"], ["show", "i"], ["replay", "i"], ["drop", "--all"]])
def test_a_redis_that_is_away_exits_with_4(shell: Shell, arguments: list[str]) -> None:
    ran = shell.run_here("dead", *arguments, REDIS_URL="redis://:hunter2@127.0.0.1:1/0")
    assert (ran.status, ran.out) == (4, "")
    assert "hunter2" not in ran.err
