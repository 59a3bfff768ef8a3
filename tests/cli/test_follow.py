"""Coming back to a task: `watch`, `result`, `status`, `enqueue`, Ctrl-C and `--timeout`."""

import json
import re
import shlex
import time
from typing import Any, Final

import pytest
import redis

from api_contracts.requests import new_id
from api_contracts.results import Result, Status
from tests.cli.shell import UNKNOWN, Shell
from tests.cli.test_ask import Slow, message, slow
from tests.parts import answers
from tests.parts.gate import Gate, stream, whole
from tests.parts.scripts import KEYS, Hand
from tests.parts.wait import until

__all__ = ["slow"]

MESSAGES: Final[list[Any]] = [{"role": "user", "content": "?"}]
CHAT: Final = {"kind": "chat", "request": {"model": "m", "messages": MESSAGES}}


@pytest.mark.parametrize(
    ("flags", "status", "why"),
    # The time must do for the first pieces, however slow the machine.
    [([], 130, "interrupted"), (["--timeout", "5"], 5, "the time is up")],
)
def test_who_stops_watching_is_told_how_to_come_back_and_misses_nothing(  # noqa: PLR0913, PLR0917 - its system
    worked: Shell, gate: Gate, slow: Slow, flags: list[str], status: int, why: str
) -> None:
    gate.answer(slow.answer)
    with worked.start("chat", "?", "--stream", *flags) as chat:
        until(lambda: chat.out == "The capital of France ", "the first pieces")
        if not flags:
            chat.interrupt()
        ran = chat.wait()
    assert (ran.status, ran.out) == (status, "The capital of France \n")
    said = re.search(rf"{why}; the task goes on\. Come back to it with:\n  (.*)\n$", ran.err)
    assert said is not None, ran.err
    program, *arguments = shlex.split(said[1])
    assert program == "router-worker"
    assert worked.client.status(arguments[1]).state == "running"
    slow.go_on()
    again = worked.run(*arguments)
    assert (again.status, again.out) == (0, "is Paris.\n")
    assert again.err.startswith("done (stop): ")


def test_ctrl_c_while_nothing_has_come_names_the_task(shell: Shell) -> None:
    task_id = shell.client.enqueue(CHAT).id
    with (
        shell.start("result", task_id) as result,
        redis.Redis.from_url(shell.env["REDIS_URL"]) as server,
    ):
        until(lambda: server.pubsub_channels(KEYS.live(task_id)), "somebody listens")
        result.interrupt()
        ran = result.wait()
    assert (ran.status, ran.out) == (130, "")
    assert ran.err == (
        f"interrupted; the task goes on. Come back to it with:\n  router-worker watch {task_id}\n"
    )


def test_ctrl_c_lists_the_tasks_that_go_on_and_no_others(
    worked: Shell, gate: Gate, slow: Slow
) -> None:
    gate.answer(whole(message("Paris.")), to='"one"')
    gate.answer(slow.answer, to='"two"')
    ids = {name: new_id() for name in ("one", "two")}
    tasks = (
        CHAT | {"id": task_id, "request": {"model": name, "messages": MESSAGES, "stream": True}}
        for name, task_id in ids.items()
    )
    file = worked.file("tasks.jsonl", "\n".join(json.dumps(task) for task in tasks))
    with worked.start("enqueue", file, "--wait") as enqueue:
        until(lambda: enqueue.out == "Paris.\nThe capital of France ", "the first pieces of two")
        enqueue.interrupt()
        ran = enqueue.wait()
    assert ran.status == 130
    assert ran.err.endswith(
        f"Come back to it with:\n  router-worker watch {ids['two']} --after 1-2\n"
    )


def test_watch_shows_what_follows_an_event(worked: Shell, gate: Gate) -> None:
    gate.answer(stream(*answers.openai("one ", "two ", "three")))
    handle = worked.client.chat("m", MESSAGES, stream=True)
    handle.result(timeout=10)
    assert worked.run("watch", handle.id).out == "one two three\n"
    assert worked.run("watch", handle.id, "--after", "1-1").out == "two three\n"
    behind = worked.run("watch", handle.id, "--after", "1-3", "--json")
    assert [(line["id"], line["type"]) for line in behind.lines] == [
        ("1-4", "chunk"),
        ("1-5", "completed"),
    ]
    after_all_text = worked.run("watch", handle.id, "--after", "1-4")
    assert (after_all_text.status, after_all_text.out) == (0, "")
    after_the_end = worked.run("watch", handle.id, "--after", "1-5")
    assert (after_the_end.status, after_the_end.out) == (0, "")


def test_watch_writes_an_answer_that_did_not_come_in_pieces(worked: Shell, gate: Gate) -> None:
    gate.answer(whole(message("Paris.")))
    handle = worked.client.chat("m", MESSAGES)
    assert worked.run("watch", handle.id, "--after", "0-1").out == "Paris.\n"


def test_result_and_status_as_text_and_as_json(worked: Shell, gate: Gate) -> None:
    gate.answer(whole(message("Paris.")))
    handle = worked.client.chat("m", MESSAGES, options={"metadata": {"order": 17}})
    plain = worked.run("result", handle.id)
    assert plain.out == "Paris.\n"
    assert plain.err.startswith("done (stop): 7 in + 5 out tokens (reported), ")
    (line,) = worked.run("result", handle.id, "--json").out.splitlines()
    assert Result.model_validate_json(line) == handle.result()
    rows = dict(row.split(maxsplit=1) for row in worked.run("status", handle.id).out.splitlines())
    assert list(rows) == ["task", "kind", "state", "worker", "created", "claimed", "ended"]
    assert rows["state"] == "completed (attempt 1)"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \([\d.]+ s ago\)", rows["ended"])
    (line,) = worked.run("status", handle.id, "--json").out.splitlines()
    assert Status.model_validate_json(line) == handle.status()


def test_a_task_that_nobody_runs_waits_and_only_looking_does_not(shell: Shell) -> None:
    soon = int(time.time() * 1000) + 60_000
    handle = shell.client.enqueue(CHAT | {"options": {"expires_at": soon}})
    assert "state    queued (attempt 0)\n" in shell.run_here("status", handle.id).out
    look = shell.run_here("result", handle.id, "--timeout", "0")
    assert (look.status, look.out) == (5, "")
    assert f"task {handle.id} had not ended" in look.err
    # The time must do for the first event, however slow the machine.
    watch = shell.run_here("watch", handle.id, "--timeout", "3", "--json")
    assert (watch.status, [line["type"] for line in watch.lines]) == (5, ["queued"])
    assert watch.err.endswith(f"router-worker watch {handle.id} --after 0-1\n")


@pytest.mark.parametrize(
    ("command", "task_id"),
    [("watch", UNKNOWN), ("result", UNKNOWN), ("status", "no\x1b[2Jid")],
)
def test_an_unknown_id_exits_with_3(shell: Shell, command: str, task_id: str) -> None:
    ran = shell.run_here(command, task_id)
    assert (ran.status, ran.out) == (3, "")
    shown = task_id.replace("\x1b", "")
    assert ran.err.startswith(f"Error: no task {shown}: it never existed, or ")


def test_a_cursor_that_is_older_than_the_log_exits_with_3(shell: Shell) -> None:
    with redis.Redis.from_url(shell.env["REDIS_URL"]) as server:
        hand = Hand(server, shell.client.enqueue(CHAT).id)
        hand.say("one", "two", "three")
        server.xtrim(KEYS.events(hand.task_id), maxlen=1, approximate=False)
        trimmed = shell.run_here("watch", hand.task_id, "--after", "1-1")
        server.delete(KEYS.events(hand.task_id))
        gone = shell.run_here("watch", hand.task_id)
    assert (trimmed.status, trimmed.out, gone.status, gone.out) == (3, "", 3, "")
    assert trimmed.err == (
        f"Error: the log of task {hand.task_id} no longer holds what follows 1-1: "
        "it goes on at 1-3; ask for the task's result\n"
    )
    assert gone.err.startswith(f"Error: the log of task {hand.task_id} is gone: ask for its status")


@pytest.mark.parametrize(
    "arguments", [["chat", "?"], ["watch", new_id()], ["result", new_id()], ["status", new_id()]]
)
def test_a_redis_that_is_away_exits_with_4(shell: Shell, arguments: list[str]) -> None:
    ran = shell.run_here(*arguments, REDIS_URL="redis://:hunter2@127.0.0.1:1/0")
    assert (ran.status, ran.out) == (4, "")
    assert "Error: Redis cannot be used (" in ran.err
    assert "look at REDIS_URL" in ran.err
    assert "hunter2" not in ran.err


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:6379", "must begin with redis[s]://HOST, sentinel://HOST or "),
        ("redis://:hunter/2@127.0.0.1:1/0", "cannot be read; is the port a number, and is the "),
        ("sentinel://:hunter@127.0.0.1:1", "must name the master that its sentinels watch"),
        ("sentinel://:hunter/2@127.0.0.1:1/0?master_name=m", "must read sentinel://USER:PASSWORD@"),
    ],
)
def test_an_address_that_is_none_exits_with_2(shell: Shell, url: str, says: str) -> None:
    ran = shell.run_here("status", new_id(), REDIS_URL=url)
    assert ran.status == 2
    assert f"Error: REDIS_URL {says}" in ran.err
    assert "hunter" not in ran.err
    ran = shell.run_here("status", new_id(), ROUTER_WORKER_BROKER_URL=url)
    assert f"Error: ROUTER_WORKER_BROKER_URL {says}" in ran.err


def test_an_event_id_that_is_none_exits_with_2(shell: Shell) -> None:
    ran = shell.run_here("watch", new_id(), "--after", "17")
    assert ran.status == 2
    assert "an event id reads ATTEMPT-SEQ, such as 1-17, not '17'" in ran.err


def test_enqueue_takes_one_task_or_many_and_writes_their_ids(shell: Shell) -> None:
    one = shell.run_here("enqueue", shell.file("one.json", json.dumps(CHAT, indent=2)))
    (task_id,) = one.out.split()
    assert shell.client.status(task_id).state == "queued"
    ids = [new_id(), new_id()]
    lines = "\n\n".join(json.dumps(CHAT | {"id": one}) for one in ids)
    many = shell.run_here("enqueue", "-", "--json", stdin=lines)
    assert many.lines == [{"task_id": one} for one in ids]
    assert [shell.client.status(one).state for one in ids] == ["queued", "queued"]


def test_one_wrong_task_in_a_file_and_none_is_sent(shell: Shell) -> None:
    task_id = new_id()
    wrong = {"kind": "chat", "request": {"model": "m", "messages": []}}
    lines = "\n".join(json.dumps(one) for one in (CHAT | {"id": task_id}, wrong))
    ran = shell.run_here("enqueue", "-", stdin=lines)
    assert (ran.status, ran.out) == (2, "")
    assert "task 2 of 2: request.messages: must have at least 1 item" in ran.err
    assert shell.run_here("status", task_id).status == 3


def test_enqueue_and_wait_follows_every_task_and_counts_what_failed(
    worked: Shell, gate: Gate
) -> None:
    tasks = [
        CHAT | {"request": {"model": name, "messages": MESSAGES}} for name in ("good", "bad", "new")
    ]
    gate.answer(whole(message("Paris.")), to='"good"')
    gate.answer(whole({"error": {"message": "no"}}, status=400), to='"bad"')
    gate.answer(whole(message("Rome.")), to='"new"')
    file = worked.file("tasks.jsonl", "\n".join(json.dumps(task) for task in tasks))
    ran = worked.run("enqueue", file, "--wait")
    assert (ran.status, ran.out) == (1, "Paris.\nRome.\n")
    assert "the task failed: rejected: no (HTTP 400; " in ran.err
    assert ran.err.endswith("Error: 1 of 3 tasks ended without a result\n")
