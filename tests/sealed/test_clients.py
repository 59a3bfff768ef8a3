"""Both clients with keys, with others and with none, before any worker: what stands on record."""

import json

import pytest
from redis import Redis

from api_contracts.client.box import VERSION
from api_contracts.client.submission import submission
from api_contracts.errors import IdempotencyConflict, NotOpened, TaskExists, TaskFailed
from api_contracts.names import Keys, State
from api_contracts.requests import parse_task
from tests.client.conftest import Shell
from tests.parts.dump import everything
from tests.parts.following import KEYS
from tests.parts.scripts import Hand, a_task
from tests.parts.secrecy import (
    ANSWER,
    BOTH,
    CANARY,
    HEADER,
    METADATA,
    NEW,
    OLD,
    OTHER,
    PROMPT,
    REFUSAL,
    WEB,
    SealedHand,
    field,
    key_id,
    secret_task,
)
from tests.sealed.conftest import StartShell

_TASK = (
    '{"kind":"chat","id":"0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c02","vendor":"anthropic","options":'
    '{"tenant":"web","idempotency_key":"poem-2026-000017","priority":"batch",'
    '"deadline":4102444800000,"retry":{"max_attempts":3,"base_s":0.5},"result_ttl":3600,'
    '"metadata":{"user":4711}}}'
)
_REQUEST = (
    b'{"model":"claude-3-haiku-20240307","messages":[{"role":"user",'
    b'"content":"Write a short poem about the ocean."}],"temperature":0.7,"max_tokens":200,'
    b'"stream":true}'
)
#: What that task was on record before anything could be encrypted or signed.
AS_EVER = (
    "6659396adcc6992ef4c6cfe19667ca81", "",
    "kind", "chat", "queue", "router.batch", "result_ttl", 3600,
    "task", _TASK, "request", _REQUEST,
)  # fmt: skip
SET_KEYS = "set ROUTER_WORKER_ENCRYPTION_KEYS to the keys of its producers and workers"


@pytest.fixture
def shell(start_shell: StartShell, redis_url: str) -> Shell:
    """A client of both kinds in turn, that has the new key."""
    return start_shell(redis_url, encryption_keys=NEW)


@pytest.fixture
def blind(start_shell: StartShell, redis_url: str) -> Shell:
    """One that has none."""
    return start_shell(redis_url, encryption_keys="")


def test_a_task_stands_on_record_and_says_nothing(shell: Shell, redis: Redis) -> None:
    task_id = shell.enqueue(secret_task(idempotency_key="order:17"))
    assert CANARY not in everything(redis)
    for name in ("task", "request"):
        assert field(redis, task_id, name).startswith(VERSION + key_id(NEW))
    assert field(redis, task_id, "kind") == b"chat"


def test_without_keys_it_stands_there_as_ever(redis: Redis, blind: Shell) -> None:
    """So that the test before would find what it looks for."""
    blind.enqueue(secret_task())
    held = everything(redis)
    assert all(word.encode() in held for word in (PROMPT, METADATA, HEADER))


def test_without_keys_every_byte_is_as_ever() -> None:
    task = parse_task(json.loads(_TASK) | {"request": json.loads(_REQUEST)})
    commands = submission(task, Keys(), 1_800_000_000_000)
    # Beside it stands the model's name, for `top`.
    assert commands.create_arguments[2:] == (*AS_EVER, "model", "claude-3-haiku-20240307")


def test_many_tasks_at_once_are_encrypted_each_for_itself(shell: Shell, redis: Redis) -> None:
    ids = shell.enqueue_all([secret_task() for _ in range(3)])
    assert CANARY not in everything(redis)
    assert len({field(redis, one, "request") for one in ids}) == 3


# --- reading ----------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [NEW, BOTH, f"{OTHER},{OLD},{NEW}"])
def test_whoever_has_the_key_reads_as_if_nothing_were_encrypted(
    shell: Shell, start_shell: StartShell, redis: Redis, redis_url: str, keys: str
) -> None:
    task_id = shell.enqueue(secret_task())
    hand = SealedHand(redis, task_id, NEW)
    hand.say("ca", "nary")
    hand.complete(ANSWER)
    assert CANARY not in everything(redis)
    reader = start_shell(redis_url, encryption_keys=keys)
    assert list(reader.text(task_id)) == ["ca", "nary"]
    types = [event.type for event in reader.stream(task_id)]
    assert types == ["queued", "started", "chunk", "chunk", "completed"]
    assert [event.type for event in reader.stream(task_id, "1-1")] == ["chunk", "completed"]
    assert reader.result(task_id).response["choices"][0]["message"]["content"] == ANSWER
    assert reader.status(task_id).state is State.COMPLETED


def test_whoever_has_no_key_is_told_what_to_set(shell: Shell, blind: Shell, redis: Redis) -> None:
    task_id = shell.enqueue(secret_task())
    hand = SealedHand(redis, task_id, NEW)
    hand.say(ANSWER)
    with pytest.raises(NotOpened, match=SET_KEYS):
        list(blind.stream(task_id))
    with pytest.raises(NotOpened, match=SET_KEYS):
        blind.result(task_id, timeout=5)
    assert blind.status(task_id).state is State.RUNNING
    hand.complete(ANSWER)
    with pytest.raises(NotOpened, match=SET_KEYS):
        blind.result(task_id)
    with pytest.raises(NotOpened, match=SET_KEYS):
        list(blind.text(task_id))
    assert blind.status(task_id).state is State.COMPLETED


def test_whoever_has_another_key_is_told_which_one_is_missing(
    shell: Shell, start_shell: StartShell, redis: Redis, redis_url: str
) -> None:
    task_id = shell.enqueue(secret_task())
    SealedHand(redis, task_id, NEW).complete(ANSWER)
    other = start_shell(redis_url, encryption_keys=OTHER)
    with pytest.raises(NotOpened, match=f"encrypted with the key {key_id(NEW).hex()}"):
        other.result(task_id)


def test_a_stream_of_two_keys_is_one_stream(
    start_shell: StartShell, redis: Redis, redis_url: str
) -> None:
    """The worker was started again in the middle, with the new key before the old one."""
    shell = start_shell(redis_url, encryption_keys=BOTH)
    task_id = shell.enqueue(secret_task())
    hand = SealedHand(redis, task_id, OLD)
    hand.say("one ")
    hand.use(BOTH)
    hand.say("two")
    hand.complete("one two")
    assert "".join(shell.text(task_id)) == "one two"


def test_a_result_that_was_put_in_another_s_place_is_not_shown(shell: Shell, redis: Redis) -> None:
    ids = [shell.enqueue(secret_task()) for _ in range(2)]
    for task_id in ids:
        SealedHand(redis, task_id, NEW).complete(ANSWER)
    redis.hset(KEYS.record(ids[0]), "result", field(redis, ids[1], "result"))
    with pytest.raises(NotOpened, match=f"`result` of task {ids[0]} was altered"):
        shell.result(ids[0])


def test_a_plain_answer_is_taken_unless_encryption_is_asked_for(
    shell: Shell, start_shell: StartShell, redis: Redis, redis_url: str
) -> None:
    """It may be from before there was a key, or anybody's who can write to Redis."""
    task_id = shell.enqueue(secret_task())
    hand = Hand(redis, task_id)
    hand.say("plain")
    hand.complete("plain")
    assert list(shell.text(task_id)) == ["plain"]
    wary = start_shell(redis_url, encryption_keys=NEW, encryption_required=True)
    with pytest.raises(NotOpened, match="is not encrypted; ROUTER_WORKER_ENCRYPTION_REQUIRED"):
        wary.result(task_id)
    with pytest.raises(NotOpened, match="is not encrypted; ROUTER_WORKER_ENCRYPTION_REQUIRED"):
        list(wary.stream(task_id))


# --- errors and dead letters ------------------------------------------------------------------


def test_an_error_s_words_are_for_those_who_have_the_key(
    shell: Shell, blind: Shell, redis: Redis
) -> None:
    task_id = shell.enqueue(secret_task())
    SealedHand(redis, task_id, NEW).fail()
    assert CANARY not in everything(redis)
    with pytest.raises(TaskFailed, match=REFUSAL):
        shell.result(task_id)
    for error in (shell.status(task_id).error, shell.dead_letter(task_id).error):
        assert error is not None
        assert (error.message, error.provider_code) == (REFUSAL, REFUSAL)
    with pytest.raises(TaskFailed, match=f"overloaded: .* What was said is encrypted: {SET_KEYS}"):
        blind.result(task_id)
    for error in (blind.status(task_id).error, blind.dead_letters()[0].error):
        assert error is not None
        assert (error.code, error.provider_code) == ("overloaded", None)
        assert SET_KEYS in error.message


def test_a_dead_letter_s_body_opens_with_its_key(shell: Shell, blind: Shell, redis: Redis) -> None:
    task = secret_task()
    SealedHand(redis, shell.enqueue(task), NEW).fail()
    assert shell.dead_letter_body(task.id) == task.request_json()
    with pytest.raises(NotOpened, match=SET_KEYS):
        blind.dead_letter_body(task.id)


def test_somebody_without_a_key_replays_and_drops(shell: Shell, blind: Shell, redis: Redis) -> None:
    one, two = (shell.enqueue(secret_task(deadline=4_000_000_000_000)) for _ in range(2))
    for task_id in (one, two):
        SealedHand(redis, task_id, NEW).fail()
    before = field(redis, one, "task")
    blind.replay(one)
    blind.drop(two)
    assert (field(redis, one, "state"), field(redis, one, "task")) == (b"queued", before)
    assert field(redis, two, "request") is None


# --- the same content again -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"), [("", NEW), (OLD, BOTH), (NEW, NEW), (OLD, f"{NEW},{OTHER},{OLD}")]
)
def test_the_same_task_again_is_the_same_whatever_key_is_the_first_by_now(
    start_shell: StartShell, redis: Redis, redis_url: str, before: str, after: str
) -> None:
    first = start_shell(redis_url, encryption_keys=before)
    second = start_shell(redis_url, encryption_keys=after)
    task, named = secret_task(), secret_task(idempotency_key="k")
    assert [first.enqueue(one) for one in (task, named)] == [task.id, named.id]
    record = redis.hgetall(KEYS.record(task.id))
    assert second.enqueue(task) == task.id
    assert second.enqueue(secret_task(idempotency_key="k")) == named.id
    assert second.enqueue_all([task, secret_task(idempotency_key="k")]) == [task.id, named.id]
    assert redis.hgetall(KEYS.record(task.id)) == record


@pytest.mark.parametrize(("before", "after"), [("", NEW), (OLD, BOTH), (NEW, NEW)])
def test_another_content_is_another_whatever_key_is_the_first_by_now(
    start_shell: StartShell, redis_url: str, before: str, after: str
) -> None:
    first = start_shell(redis_url, encryption_keys=before)
    second = start_shell(redis_url, encryption_keys=after)
    task = secret_task(idempotency_key="k")
    first.enqueue(task)
    with pytest.raises(IdempotencyConflict):
        second.enqueue(secret_task("bye", idempotency_key="k"))
    with pytest.raises(TaskExists):
        second.enqueue(a_task("bye").model_copy(update={"id": task.id}))


def test_a_short_prompt_is_not_found_by_trying(shell: Shell, blind: Shell, redis: Redis) -> None:
    """Whoever reads Redis may know how a digest is made, and guess what was asked."""
    one, two = a_task("yes"), a_task("yes")
    shell.enqueue(one)
    blind.enqueue(two)
    kept, plain = field(redis, one.id, "digest"), field(redis, two.id, "digest")
    assert plain not in kept
    assert kept.startswith(key_id(NEW).hex().encode() + b":")


# --- signatures -------------------------------------------------------------------------------


def test_a_signature_stands_in_the_record(
    start_shell: StartShell, redis: Redis, redis_url: str
) -> None:
    shell = start_shell(redis_url, signing_keys=WEB, encryption_keys=NEW)
    task_id = shell.enqueue(secret_task())
    name, at, mac = field(redis, task_id, "signature").split()
    assert (name, len(mac)) == (b"web", 64)
    assert abs(int(at) - int(field(redis, task_id, "created_at"))) < 5_000
