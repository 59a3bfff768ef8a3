"""`cancel`: a task ends, and the exit status says how it stands."""

import pytest

from api_contracts.names import State
from api_contracts.requests import new_id
from tests.cli.shell import UNKNOWN, Shell
from tests.cli.test_follow import CHAT, MESSAGES
from tests.parts import answers
from tests.parts.gate import Do, Gate, stream
from tests.parts.wait import until


def test_a_queued_task_is_cancelled_however_often(shell: Shell) -> None:
    handle = shell.client.enqueue(CHAT)
    for _ in range(2):
        ran = shell.run_here("cancel", handle.id)
        assert (ran.status, ran.out, ran.err) == (0, f"task {handle.id} is cancelled\n", "")
    ran = shell.run_here("cancel", handle.id, "--json")
    assert ran.lines == [{"task_id": handle.id, "state": "cancelled"}]
    assert "state    cancelled (attempt 0)\n" in shell.run_here("status", handle.id).out


def test_a_running_task_s_call_is_stopped_and_its_watcher_told(worked: Shell, gate: Gate) -> None:
    gate.answer(stream(*answers.openai("one ", finish=False), Do.HANG))
    with worked.start("chat", "?", "--stream") as chat:
        until(lambda: chat.out == "one ", "the first piece")
        task_id = chat.err.split()[2]
        assert worked.run("cancel", task_id).status == 0
        ran = chat.wait()
    assert gate.requests[0].left.wait(10)
    assert (ran.status, ran.out) == (1, "one \n")
    assert ran.err.endswith(f"Error: task {task_id} was cancelled\n")


def test_a_task_that_has_ended_otherwise_is_left_alone(worked: Shell, gate: Gate) -> None:
    gate.answer(stream(*answers.openai("done")))
    handle = worked.client.chat("m", MESSAGES, stream=True)
    handle.result(timeout=10)
    ran = worked.run_here("cancel", handle.id, "--json")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == f"Error: task {handle.id} cannot be cancelled: it is completed\n"
    assert handle.status().state is State.COMPLETED


@pytest.mark.parametrize("task_id", [UNKNOWN, "no\x1b[2Jid"])
def test_an_unknown_id_exits_with_3(shell: Shell, task_id: str) -> None:
    ran = shell.run_here("cancel", task_id)
    assert (ran.status, ran.out) == (3, "")
    assert ran.err.startswith(f"Error: no task {task_id.replace(chr(27), '')}: it never existed")


def test_a_redis_that_is_away_exits_with_4(shell: Shell) -> None:
    ran = shell.run_here("cancel", new_id(), REDIS_URL="redis://127.0.0.1:1/0")
    assert (ran.status, ran.out) == (4, "")
