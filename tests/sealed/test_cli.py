"""The command line, with the key in its environment and without."""

from pathlib import Path

import pytest
from redis import Redis

from tests.cli.shell import Shell
from tests.parts.secrecy import (
    ANSWER,
    CANARY,
    ENCRYPTION,
    NEW,
    OTHER,
    PROMPT,
    REFUSAL,
    SealedHand,
    key_id,
    secret_task,
)
from tests.sealed.conftest import StartClient
from worker.cli.exits import Exit

SET_KEYS = "set ROUTER_WORKER_ENCRYPTION_KEYS to the keys of its producers and workers"


@pytest.fixture
def shell(tmp_path: Path, redis_url: str, start_client: StartClient) -> Shell:
    return Shell(tmp_path, start_client(NEW), REDIS_URL=redis_url)


@pytest.fixture
def answered(shell: Shell, redis: Redis) -> str:
    """A task that was answered."""
    task_id = shell.client.enqueue(secret_task()).id
    hand = SealedHand(redis, task_id, NEW)
    hand.say(ANSWER)
    hand.complete(ANSWER)
    return task_id


@pytest.fixture
def dead(shell: Shell, redis: Redis) -> str:
    """A dead letter."""
    task_id = shell.client.enqueue(secret_task()).id
    SealedHand(redis, task_id, NEW).fail()
    return task_id


@pytest.mark.parametrize("command", ["result", "watch"])
def test_an_answer_is_shown_to_whoever_has_the_key(
    shell: Shell, answered: str, command: str
) -> None:
    ran = shell.run_here(command, answered, **{ENCRYPTION: NEW})
    assert (ran.status, ran.out) == (Exit.OK, f"{ANSWER}\n")
    ran = shell.run_here(command, answered)
    assert (ran.status, ran.out) == (Exit.USAGE, "")
    assert SET_KEYS in ran.err
    ran = shell.run_here(command, answered, **{ENCRYPTION: OTHER})
    assert ran.status == Exit.USAGE
    assert f"encrypted with the key {key_id(NEW).hex()}" in ran.err


def test_how_a_task_stands_is_shown_to_everybody(shell: Shell, answered: str, dead: str) -> None:
    for task_id, state in ((answered, "completed"), (dead, "failed")):
        ran = shell.run_here("status", task_id)
        assert (ran.status, ran.err) == (Exit.OK, "")
        assert state in ran.out
        assert CANARY.decode() not in ran.out


def test_a_dead_letter_is_listed_for_everybody_and_read_with_its_key(
    shell: Shell, dead: str
) -> None:
    assert f"{dead}" in shell.run_here("dead", "list").out
    ran = shell.run_here("dead", "show", dead)
    assert (ran.status, CANARY.decode() in ran.out) == (Exit.OK, False)
    assert "overloaded" in ran.out
    assert "ROUTER_WORKER_ENCRYPTION_KEYS" in ran.out
    ran = shell.run_here("dead", "show", dead, "--request")
    assert (ran.status, ran.out) == (Exit.USAGE, "")
    assert SET_KEYS in ran.err
    keys = {ENCRYPTION: NEW}
    assert REFUSAL in shell.run_here("dead", "show", dead, **keys).out
    assert PROMPT in shell.run_here("dead", "show", dead, "--request", **keys).out
    assert shell.run_here("dead", "replay", dead).out == f"{dead}\n"


def test_a_wrong_key_is_named_and_not_shown(shell: Shell, answered: str) -> None:
    ran = shell.run_here("result", answered, **{ENCRYPTION: f"{NEW},secret"})
    assert ran.status == Exit.USAGE
    assert f"{ENCRYPTION} must have keys of 32 bytes in base64: key 2 of 2 is none" in ran.err
    assert "secret" not in ran.err
