"""What a worker that knows its producers does not obey: it says why, counts it, calls nobody."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from redis import Redis

from api_contracts.client import Client
from api_contracts.client.signatures import GOOD_MS
from api_contracts.errors import ErrorCode, TaskFailed
from api_contracts.names import Queue, State
from api_contracts.requests import CELERY_TASKS, Task, new_id
from tests.parts import foreign
from tests.parts.aimock import Aimock
from tests.parts.following import KEYS
from tests.parts.secrecy import (
    ANSWER,
    BILLING,
    NEW,
    WEB,
    answer_of,
    calls_of,
    field,
    key,
    now_ms,
    protection,
    put,
    refused_by,
    ring_for,
    secret_json,
    secret_task,
    serve,
)
from tests.parts.wait import until
from tests.parts.worker import Worker
from tests.sealed.conftest import StartClient
from worker import embedded

#: Stands for what somebody writes who has got at Redis.
EVIL = b'{"model":"m","messages":[{"role":"user","content":"evil"}]}'


@pytest.fixture(scope="module")
def _worker(
    valkey: embedded.EmbeddedServer, _aimock: Aimock, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    """One worker for all tests here: it has a key, and obeys two producers."""
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    settings = {
        "ROUTER_WORKER_ENCRYPTION_KEYS": NEW,
        "ROUTER_WORKER_SIGNING_KEYS": f"{WEB},{BILLING}",
    }
    worker = Worker(log, redis_url=valkey.url, base_url=_aimock.url, **settings)
    worker.wait_ready()
    yield worker
    worker.stop()


class Watched:
    """That worker, watched from the beginning of a test."""

    def __init__(self, worker: Worker) -> None:
        """Begin."""
        self._worker = worker
        self._said, self._counts = len(worker.output), refused_by(worker)

    @property
    def said(self) -> str:
        return self._worker.output[self._said :]

    @property
    def refused(self) -> dict[str, float]:
        """How many tasks were refused, by reason."""
        counts = refused_by(self._worker)
        rises = {name: count - self._counts.get(name, 0) for name, count in counts.items()}
        return {name: rise for name, rise in rises.items() if rise}


@pytest.fixture
def worker(_worker: Worker, redis_url: str, aimock: Aimock) -> Iterator[Watched]:
    """A worker on an emptied Redis, and a router that answers."""
    serve(aimock)
    watched = Watched(_worker)
    yield watched
    sys.stdout.write(f"--- the worker said ---\n{watched.said}")


@pytest.fixture
def reader(start_client: StartClient) -> Client:
    """Somebody who reads what the worker writes."""
    return start_client(NEW)


def assert_refused(reader: Client, task_id: str, message: str) -> None:
    """Check that a task failed with this reason, and is no dead letter."""
    with pytest.raises(TaskFailed, match=message) as failed:
        reader.result(task_id, timeout=30)
    error = failed.value.error
    assert (error.code, error.retryable, error.attempts) == (ErrorCode.INVALID_REQUEST, False, 0)
    assert reader.status(task_id).state is State.FAILED
    assert reader.dead_letters() == []


# --- encrypted, and altered -------------------------------------------------------------------


def _moved(redis: Redis, task: Task, other: Task, name: str) -> bytes:
    return bytes(field(redis, other.id, name))


def _swapped(redis: Redis, task: Task, other: Task, name: str) -> bytes:
    return bytes(field(redis, task.id, {"request": "task", "task": "request"}[name]))


def _cut(redis: Redis, task: Task, other: Task, name: str) -> bytes:
    return bytes(field(redis, task.id, name)[:-1])


@pytest.mark.parametrize("name", ["request", "task"])
@pytest.mark.parametrize("spoilt", [_moved, _swapped, _cut])
def test_what_was_encrypted_and_moved_or_altered_is_not_obeyed(  # noqa: PLR0913, PLR0917
    worker: Watched, reader: Client, redis: Redis, aimock: Aimock,
    spoilt: Callable[[Redis, Task, Task, str], bytes], name: str,
) -> None:  # fmt: skip
    task, other = secret_task(), secret_task("the other")
    for one in (task, other):
        put(redis, one, protection(NEW, WEB))
    redis.hset(KEYS.record(task.id), name, spoilt(redis, task, other, name))
    ring_for(redis, task)
    assert_refused(reader, task.id, f"`{name}` of task {task.id} was altered, or is another task's")
    assert worker.refused == {"altered": 1}
    assert calls_of(aimock) == 0


# --- signed, and altered ----------------------------------------------------------------------

Spoil = Callable[[Redis, str], Any]


def _put(name: str, value: bytes | str) -> Spoil:
    return lambda redis, task_id: redis.hset(KEYS.record(task_id), name, value)


def _take(name: str) -> Spoil:
    return lambda redis, task_id: redis.hdel(KEYS.record(task_id), name)


def _vendor(redis: Redis, task_id: str) -> None:
    envelope = field(redis, task_id, "task").replace(b'"headers"', b'"vendor":"x","headers"')
    redis.hset(KEYS.record(task_id), "task", envelope)


def _of_another(redis: Redis, task_id: str) -> None:
    """Give it body and signature of another task, which is signed in truth."""
    other = secret_task("another")
    put(redis, other, protection(signing=WEB))
    for name in ("task", "request", "signature"):
        redis.hset(KEYS.record(task_id), name, field(redis, other.id, name))


SPOILT = {
    "without its signature": (_take("signature"), "is not signed; this worker obeys known"),
    "with nonsense": (_put("signature", b"\xff web 1 a"), "has a signature that is none"),
    "another body": (_put("request", EVIL), "is not what web has signed"),
    "another vendor": (_vendor, "is not what web has signed"),
    "another kind": (_put("kind", "vision"), "is not what web has signed"),
    "another task's": (_of_another, "is not what web has signed"),
}
REASONS = {"without its signature": "unsigned", "with nonsense": "unsigned"}


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_not_as_it_was_signed_is_not_obeyed(
    worker: Watched, reader: Client, redis: Redis, aimock: Aimock, how: str
) -> None:
    spoil, message = SPOILT[how]
    task = secret_task()
    put(redis, task, protection(signing=WEB))
    spoil(redis, task.id)
    ring_for(redis, task)
    assert_refused(reader, task.id, message)
    assert worker.refused == {REASONS.get(how, "forged"): 1}
    assert f"of task {task.id} is not obeyed: the task {message}" in worker.said
    assert calls_of(aimock) == 0


def test_a_record_that_somebody_has_kept_is_worth_nothing_after_a_month(
    worker: Watched, reader: Client, redis: Redis, aimock: Aimock
) -> None:
    old, young = secret_task(), secret_task()
    put(redis, old, protection(signing=WEB), at=now_ms() - GOOD_MS - 1000)
    put(redis, young, protection(signing=WEB), at=now_ms() - GOOD_MS + 60_000)
    for task in (old, young):
        ring_for(redis, task)
    assert_refused(reader, old.id, "was signed 30 days ago")
    assert answer_of(reader, young.id) == ANSWER
    assert worker.refused == {"old": 1}
    assert calls_of(aimock) == 1


# --- not signed by anybody known --------------------------------------------------------------


@pytest.mark.parametrize(
    ("signing", "message", "reason"),
    [
        ("", "is not signed", "unsigned"),
        (f"stranger:{key(99)}", "is signed by stranger, whom this worker does not", "unknown"),
        (f"web:{key(99)}", "is not what web has signed, or not by its key", "forged"),
    ],
)
def test_a_producer_that_is_not_known_is_not_obeyed(  # noqa: PLR0913, PLR0917
    worker: Watched, reader: Client, start_client: StartClient, aimock: Aimock,
    signing: str, message: str, reason: str,
) -> None:  # fmt: skip
    producer = start_client(NEW, signing)
    assert_refused(reader, producer.enqueue(secret_task()).id, message)
    assert worker.refused == {reason: 1}
    assert calls_of(aimock) == 0


@pytest.mark.parametrize("celery_task", CELERY_TASKS.values())
def test_a_plain_celery_message_is_answered_and_not_obeyed(
    worker: Watched, reader: Client, redis: Redis, aimock: Aimock, celery_task: str
) -> None:
    task_id, kind = new_id(), celery_task.removeprefix("router.")
    path = {"path": "/v1/messages"} if kind == "native" else {}
    task = secret_json() | {"id": task_id, "kind": kind, **path}
    if kind == "vision":
        image = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
        task["request"]["messages"][0]["content"] = [image]
    redis.lpush(Queue.INTERACTIVE, foreign.message(task, task=celery_task))
    until(partial(redis.exists, KEYS.record(task_id)), "it is on record")
    assert_refused(reader, task_id, "task: must be signed: write its record, and sign it")
    assert worker.refused == {"unsigned": 1}
    assert calls_of(aimock) == 0
    until(lambda: not redis.hlen(foreign.UNACKED), "the message is acknowledged")


def test_a_message_cannot_end_a_signed_task_by_its_id(
    worker: Watched, reader: Client, redis: Redis, aimock: Aimock
) -> None:
    """It is put aside, since its id is another's."""
    task = secret_task()
    put(redis, task, protection(signing=WEB))
    redis.lpush(Queue.INTERACTIVE, foreign.message(secret_json() | {"id": task.id}))
    until(lambda: len(reader.dead_letters()) == 1, "it is put aside")
    assert reader.status(task.id).state is State.QUEUED
    assert worker.refused == {"unsigned": 1}
    ring_for(redis, task)
    assert answer_of(reader, task.id) == ANSWER
    assert calls_of(aimock) == 1


# --- known ------------------------------------------------------------------------------------


def test_a_signed_task_is_obeyed_whoever_rings_for_it_and_however_often(
    worker: Watched, reader: Client, redis: Redis, aimock: Aimock
) -> None:
    """A doorbell carries an id alone."""
    task = secret_task()
    put(redis, task, protection(NEW, BILLING))
    for _ in range(3):
        ring_for(redis, task)
    assert answer_of(reader, task.id) == ANSWER
    assert calls_of(aimock) == 1
    assert worker.refused == {}


def test_many_signed_tasks_are_obeyed(worker: Watched, start_client: StartClient) -> None:
    client = start_client(NEW, WEB)
    handles = client.enqueue_all([secret_task(streamed=False) for _ in range(20)])
    assert [answer_of(client, one.id) for one in handles] == [ANSWER] * 20
    assert worker.refused == {}


def test_an_operator_without_any_key_replays_what_was_signed(
    worker: Watched, start_client: StartClient, aimock: Aimock
) -> None:
    error = {"error": {"message": "pay"}, "status": 402}
    aimock.serve({"match": {}, "response": error})
    client, operator = start_client(NEW, WEB), start_client()
    task_id = client.enqueue(secret_task(deadline=now_ms() + 60_000)).id
    with pytest.raises(TaskFailed, match="payment_required"):
        client.result(task_id, timeout=30)
    serve(aimock)
    operator.replay(task_id)
    assert answer_of(client, task_id) == ANSWER
    assert client.status(task_id).replays == 1
    assert worker.refused == {}
