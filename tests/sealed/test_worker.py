"""A real worker that encrypts what it writes: nothing that was said is in Redis; all is read."""

from functools import partial
from typing import Any

import pytest
from redis import Redis

from api_contracts.client import Client, Handle
from api_contracts.errors import NotOpened, TaskFailed
from api_contracts.events import EVENT_LIMIT, is_sealed
from api_contracts.names import EVENT_FIELD, Queue, State
from tests.conftest import StartWorker
from tests.parts import foreign
from tests.parts.aimock import Aimock
from tests.parts.dump import everything
from tests.parts.following import KEYS
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
    Everywhere,
    answer_of,
    calls_of,
    field,
    key_id,
    refused_by,
    secret_json,
    secret_task,
    serve,
)
from tests.parts.wait import until
from tests.sealed.conftest import StartClient

QUICK: Any = {"ROUTER_WORKER_RETRY_BASE_S": "0.05", "ROUTER_WORKER_RETRY_CAP_S": "0.2"}
#: What cannot be a message, and what is said in it.
RUBBISH = f"{{oops: {PROMPT}".encode()


def run_everything(client: Client, redis: Redis) -> dict[str, str]:
    """Run a task of every kind, and put rubbish on the queue; return the tasks' ids by name."""
    tasks = {
        "streamed": secret_task(f"{PROMPT} streamed", idempotency_key="k"),
        "whole": secret_task(f"{PROMPT} whole", streamed=False),
        "busy": secret_task(f"{PROMPT} busy"),
        "refused": secret_task(f"{PROMPT} refused"),
        "unpaid": secret_task(f"{PROMPT} unpaid"),
    }
    ids = {name: client.enqueue(task).id for name, task in tasks.items()}
    ids["foreign"] = foreign.send(redis, secret_json(f"{PROMPT} foreign"))
    redis.lpush(Queue.INTERACTIVE, RUBBISH)
    until(lambda: ended(client, redis, ids), "all tasks have ended", within=60)
    until(lambda: redis.zcard(KEYS.dead) == 2, "the rubbish was put aside")
    until(lambda: not redis.hlen(foreign.UNACKED), "the message is acknowledged")
    # The last that is written of a task, behind its ending.
    until(lambda: not redis.zcard(KEYS.due), "nobody looks after any of them", within=60)
    return ids


def ended(client: Client, redis: Redis, ids: dict[str, str]) -> bool:
    known = [one for one in ids.values() if redis.exists(KEYS.record(one))]
    return len(known) == len(ids) and all(client.status(one).state.ended for one in known)


def test_nothing_that_people_or_models_say_is_anywhere_in_redis(
    aimock: Aimock, worker_process: StartWorker, start_client: StartClient, redis: Redis
) -> None:
    serve(aimock)
    everywhere, client = Everywhere(redis), start_client(NEW)
    worker = worker_process(aimock.url, ROUTER_WORKER_ENCRYPTION_KEYS=NEW, **QUICK)
    ids = run_everything(client, redis)
    heard = everywhere.heard()
    assert len(heard) > 20
    assert CANARY not in b"\n".join(heard)
    assert CANARY not in everything(redis)
    assert CANARY.decode() not in worker.output + worker.get("/metrics")[1]
    for name in ("streamed", "whole", "busy", "foreign"):
        assert answer_of(client, ids[name]) == ANSWER
        assert "".join(Handle(client, ids[name]).text()) == ANSWER
        assert client.result(ids[name]).metadata == {"note": METADATA}
    for name, code in (("refused", "rejected"), ("unpaid", "payment_required")):
        with pytest.raises(TaskFailed, match=f"{code}: {REFUSAL}") as failed:
            client.result(ids[name])
        assert failed.value.error.provider_code == REFUSAL
    assert {call["headers"]["x-note"] for call in aimock.journal()} == {HEADER}
    letters = {letter.kind: client.dead_letter_body(letter.id) for letter in client.dead_letters()}
    assert letters == {"message": RUBBISH, "chat": secret_task(f"{PROMPT} unpaid").request_json()}


def test_without_a_key_all_of_it_is_there(
    aimock: Aimock, worker_process: StartWorker, start_client: StartClient, redis: Redis
) -> None:
    """So that the test before would find what it looks for; and as it ever was."""
    serve(aimock)
    everywhere, client = Everywhere(redis), start_client()
    worker_process(aimock.url, **QUICK)
    ids = run_everything(client, redis)
    held, heard = everything(redis), b"\n".join(everywhere.heard())
    for word in (PROMPT, ANSWER, METADATA, HEADER, REFUSAL):
        assert word.encode() in held, word
    for word in (ANSWER, REFUSAL):
        assert word.encode() in heard, word
    assert b"sealed" not in held + heard
    record: Any = redis.hgetall(KEYS.record(ids["streamed"]))
    assert set(record) == {
        b"state", b"attempt", b"failures", b"digest", b"created_at", b"due_at", b"expires_at",
        b"kind", b"queue", b"result_ttl", b"task", b"model", b"worker", b"token", b"lease_until",
        b"claimed_at", b"ended_at", b"result", b"attempt:1",
    }  # fmt: skip


def test_a_large_answer_is_within_the_limit_of_a_channel_and_is_whole(
    aimock: Aimock, worker_process: StartWorker, start_client: StartClient, redis: Redis
) -> None:
    """Encrypted it is a third longer: what fits by itself does not any more."""
    text = "x" * 60_000
    aimock.serve({"match": {}, "response": {"content": text}, "chunkSize": 100_000})
    everywhere, client = Everywhere(redis), start_client(NEW)
    worker_process(aimock.url, ROUTER_WORKER_ENCRYPTION_KEYS=NEW)
    for streamed in (True, False):
        task_id = client.enqueue(secret_task(streamed=streamed)).id
        assert answer_of(client, task_id) == text
        assert "".join(Handle(client, task_id).text()) == text
        ending = list(client.stream(task_id))[-1]
        assert ending.type == "completed"
        assert (ending.result, ending.result_key) == (None, KEYS.record(task_id))
    heard = everywhere.heard()
    assert max(map(len, heard)) <= EVENT_LIMIT
    assert any(b'"type":"stored"' in one for one in heard)


# --- rotation ---------------------------------------------------------------------------------


def test_tasks_that_wait_are_run_with_the_key_that_they_were_encrypted_with(
    aimock: Aimock, worker_process: StartWorker, start_client: StartClient, redis: Redis
) -> None:
    serve(aimock)
    old, both = start_client(OLD), start_client(BOTH)
    ids = [old.enqueue(secret_task()).id, both.enqueue(secret_task()).id]
    assert [field(redis, one, "request")[1:5] for one in ids] == [key_id(OLD), key_id(NEW)]
    worker_process(aimock.url, ROUTER_WORKER_ENCRYPTION_KEYS=BOTH)
    for task_id in ids:
        assert answer_of(both, task_id) == ANSWER
        assert field(redis, task_id, "result")[1:5] == key_id(NEW)
    with pytest.raises(NotOpened, match=f"with the key {key_id(NEW).hex()}; .* has"):
        old.result(ids[0])
    assert CANARY not in everything(redis)


def test_a_task_is_tried_again_by_a_worker_with_the_next_key(
    aimock: Aimock, worker_process: StartWorker, start_client: StartClient, redis: Redis
) -> None:
    wait = {"error": {"message": REFUSAL}, "status": 503, "retryAfter": 1.5}
    answer = {"content": ANSWER}
    aimock.serve(
        {"match": {"sequenceIndex": 0}, "response": wait}, {"match": {}, "response": answer}
    )
    client = start_client(BOTH)
    task_id = start_client(OLD).enqueue(secret_task()).id
    first = worker_process(aimock.url, ROUTER_WORKER_ENCRYPTION_KEYS=OLD)
    until(lambda: client.status(task_id).state is State.RETRYING, "the first call has failed")
    first.stop()
    worker_process(aimock.url, ROUTER_WORKER_ENCRYPTION_KEYS=BOTH)
    types = [event.type for event in client.stream(task_id)]
    assert [one for one in types if one != "chunk"] == [
        "queued", "started", "retrying", "started", "completed",
    ]  # fmt: skip
    assert answer_of(client, task_id) == ANSWER
    assert CANARY not in everything(redis)


def test_a_task_whose_key_a_worker_lacks_waits_for_it_among_the_dead_letters(
    aimock: Aimock, worker_process: StartWorker, start_client: StartClient, redis: Redis
) -> None:
    """The new key was given to the producers first, and the workers were forgotten."""
    serve(aimock)
    client = start_client(BOTH)
    task_id = client.enqueue(secret_task()).id
    worker = worker_process(aimock.url, ROUTER_WORKER_ENCRYPTION_KEYS=OLD)
    missing = f"task {task_id} is encrypted with the key {key_id(NEW).hex()}; ROUTER_WORKER"
    with pytest.raises(TaskFailed, match=f"no_key: {missing}"):
        client.result(task_id, timeout=30)
    assert missing in worker.output
    assert refused_by(worker) == {"no_key": 1}
    assert [letter.id for letter in client.dead_letters()] == [task_id]
    worker.stop()
    worker_process(aimock.url, ROUTER_WORKER_ENCRYPTION_KEYS=BOTH)
    client.replay(task_id)
    assert answer_of(client, task_id) == ANSWER
    assert calls_of(aimock) == 1


def test_a_worker_without_any_key_says_which_setting_is_missing(
    aimock: Aimock, worker_process: StartWorker, start_client: StartClient
) -> None:
    serve(aimock)
    client = start_client(NEW)
    task_id = client.enqueue(secret_task()).id
    worker_process(aimock.url)
    with pytest.raises(TaskFailed, match=r"no_key: .* is encrypted: set ROUTER_WORKER_ENC"):
        client.result(task_id, timeout=30)
    assert calls_of(aimock) == 0


# --- hostile records --------------------------------------------------------------------------


def test_what_is_plain_is_run_and_its_answer_encrypted(
    aimock: Aimock, worker_process: StartWorker, start_client: StartClient, redis: Redis
) -> None:
    """Of a producer that has no key yet."""
    serve(aimock)
    task_id = start_client().enqueue(secret_task()).id
    worker_process(aimock.url, ROUTER_WORKER_ENCRYPTION_KEYS=NEW)
    client = start_client(NEW)
    assert answer_of(client, task_id) == ANSWER
    log: Any = redis.xrange(KEYS.events(task_id))
    events = [fields[EVENT_FIELD.encode()] for _, fields in log]
    assert [is_sealed(event) for event in events] == [False, False, *[True] * (len(events) - 2)]
    assert ANSWER.encode() not in everything(redis)
    assert client.result(task_id).metadata == {"note": METADATA}


def test_where_encryption_is_asked_for_nothing_plain_is_run(
    aimock: Aimock, worker_process: StartWorker, start_client: StartClient, redis: Redis
) -> None:
    serve(aimock)
    client = start_client(NEW, required=True)
    worker = worker_process(
        aimock.url, ROUTER_WORKER_ENCRYPTION_KEYS=NEW, ROUTER_WORKER_ENCRYPTION_REQUIRED="true"
    )
    plain = [start_client().enqueue(secret_task()).id, foreign.send(redis)]
    reasons = ["`task` of task .* is not encrypted", "task: must be encrypted: write its record"]
    for task_id, reason in zip(plain, reasons, strict=True):
        until(partial(redis.exists, KEYS.record(task_id)), "it is on record")
        with pytest.raises(TaskFailed, match=f"invalid_request: {reason}"):
            client.result(task_id, timeout=30)
    assert calls_of(aimock) == 0
    assert refused_by(worker) == {"plain": 2}
    assert answer_of(client, client.enqueue(secret_task()).id) == ANSWER


def test_another_s_key_opens_nothing(
    aimock: Aimock, worker_process: StartWorker, start_client: StartClient
) -> None:
    serve(aimock)
    task_id = start_client(NEW).enqueue(secret_task()).id
    worker_process(aimock.url, ROUTER_WORKER_ENCRYPTION_KEYS=NEW)
    assert answer_of(start_client(NEW), task_id) == ANSWER
    for keys in ("", OTHER):
        with pytest.raises(NotOpened):
            start_client(keys).result(task_id)
        assert start_client(keys).status(task_id).state is State.COMPLETED
