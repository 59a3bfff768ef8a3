"""Enqueueing: a task is on record once, its doorbell rings, and conflicts are named."""

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from api_contracts.client import Client
from api_contracts.client.submission import RING_AGAIN_MS
from api_contracts.errors import (
    IdempotencyConflict,
    InvalidTask,
    StoreUnavailable,
    TaskExists,
    TaskNotFound,
)
from api_contracts.names import Queue
from tests.client.conftest import Shell, StartShell
from tests.conftest import StartValkey
from tests.parts.cable import Cable
from tests.parts.scripts import KEYS, Scripts, a_task, types

THREADS = 100


def rung(redis: Redis, queue: str = Queue.INTERACTIVE) -> list[str]:
    """The ids that doorbells on this queue carry, oldest first."""
    messages: Any = redis.lrange(queue, 0, -1)
    bodies = [base64.b64decode(json.loads(message)["body"]) for message in reversed(messages)]
    return [json.loads(body)[0][0] for body in bodies]


def tasks(redis: Redis) -> int:
    """How many tasks are on record."""
    return len(list(redis.scan_iter("rw:{*}:events")))


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """Do it in many threads; what each returned or raised."""

    def caught(number: int) -> Any:
        try:
            return work(number)
        except InvalidTask as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(caught, range(THREADS)))


def test_a_task_is_on_record_looked_after_and_rung(shell: Shell, redis: Redis) -> None:
    task = a_task(priority="batch")
    assert shell.enqueue(task) == task.id
    scripts = Scripts(redis)
    assert types(scripts.log(task.id)) == ["queued"]
    assert scripts.record(task.id)[b"request"] == task.request_json()
    due: Any = redis.zscore(KEYS.due, task.id)
    assert abs(due - RING_AGAIN_MS - int(scripts.record(task.id)[b"created_at"])) < 5_000
    assert set(rung(redis, Queue.BATCH)) == {task.id}
    assert rung(redis) == []


def test_a_large_body_stands_in_the_record_alone(shell: Shell, redis: Redis) -> None:
    """Neither its doorbell nor its log nor anything else grows with it."""
    others = []
    shell.enqueue(a_task())  # the first one loads the script, and may ring twice for it
    for text in ("x", "x" * 4_000_000):
        redis.flushall()
        task = a_task(text, idempotency_key="k")
        shell.enqueue(task)
        sizes: dict[bytes, Any] = {key: redis.memory_usage(key, 0) for key in redis.scan_iter()}
        assert sizes.pop(KEYS.record(task.id).encode()) > len(text)
        others.append(sorted(sizes.values()))
    small, large = others
    assert len(small) == 4, "doorbell, log, due time and key"
    assert all(abs(one - two) < 64 for one, two in zip(small, large, strict=True)), others


def test_a_task_may_be_a_plain_dict(shell: Shell, redis: Redis) -> None:
    request = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    task_id = shell.enqueue({"kind": "chat", "request": request})
    assert set(rung(redis)) == {task_id}


def test_an_invalid_task_is_refused_before_anything_is_sent(shell: Shell, redis: Redis) -> None:
    with pytest.raises(InvalidTask, match=r"request\.model: is required"):
        shell.enqueue({"kind": "chat", "request": {"messages": [{"role": "user"}]}})
    assert not redis.keys()


def test_the_same_task_again_is_the_same_and_rings_again(shell: Shell, redis: Redis) -> None:
    task = a_task()
    assert shell.enqueue(task) == shell.enqueue(task) == task.id
    assert types(Scripts(redis).log(task.id)) == ["queued"]
    assert set(rung(redis)) == {task.id}


def test_an_id_with_another_content_is_taken(shell: Shell, redis: Redis) -> None:
    task = a_task("hello")
    shell.enqueue(task)
    before = Scripts(redis).record(task.id)
    with pytest.raises(TaskExists, match=task.id) as caught:
        shell.enqueue(a_task("bye").model_copy(update={"id": task.id}))
    assert caught.value.task_id == task.id
    assert Scripts(redis).record(task.id) == before


def test_a_key_with_the_same_content_gives_the_first_task_back(shell: Shell, redis: Redis) -> None:
    first = shell.enqueue(a_task(idempotency_key="order:17"))
    assert shell.enqueue(a_task(idempotency_key="order:17")) == first
    assert tasks(redis) == 1
    assert set(rung(redis)) == {first}


def test_a_key_with_another_content_names_its_task(shell: Shell, redis: Redis) -> None:
    first = shell.enqueue(a_task("hello", idempotency_key="k"))
    with pytest.raises(IdempotencyConflict, match=f"already used by task {first}") as caught:
        shell.enqueue(a_task("bye", idempotency_key="k"))
    assert caught.value.task_id == first
    assert "bye" not in str(caught.value)
    assert tasks(redis) == 1


def test_tenants_have_keys_of_their_own(shell: Shell) -> None:
    one = shell.enqueue(a_task("hello", idempotency_key="k", tenant="a"))
    other = shell.enqueue(a_task("bye", idempotency_key="k", tenant="b"))
    assert one != other


def test_a_key_stays_longer_than_its_result(shell: Shell, redis: Redis) -> None:
    shell.enqueue(a_task(idempotency_key="k", result_ttl=100))
    stay: Any = redis.ttl(KEYS.idempotency("default", "k"))
    assert stay > 7 * 86_400


def test_one_key_from_a_hundred_threads_is_one_task(redis_url: str, redis: Redis) -> None:
    with Client(redis_url) as client:
        ids = at_once(lambda _: client.enqueue(a_task(idempotency_key="k")).id)
    assert len(set(ids)) == 1
    assert tasks(redis) == 1
    assert types(Scripts(redis).log(ids[0])) == ["queued"]
    assert set(rung(redis)) == set(ids)


def test_one_key_and_two_contents_from_a_hundred_threads_is_one_task(
    redis_url: str, redis: Redis
) -> None:
    with Client(redis_url) as client:
        answers = at_once(lambda n: client.enqueue(a_task(str(n % 2), idempotency_key="k")).id)
    ids = {answer for answer in answers if isinstance(answer, str)}
    conflicts = [answer for answer in answers if isinstance(answer, IdempotencyConflict)]
    assert len(ids) == tasks(redis) == 1
    assert len(conflicts) == THREADS // 2
    assert {error.task_id for error in conflicts} == ids


def test_many_threads_share_a_client(redis_url: str, redis: Redis) -> None:
    """No answer of Redis goes to another thread than the one that asked."""

    def work(number: int) -> bool:
        task = a_task(f"task {number}")
        for _ in range(5):
            handle = client.enqueue(task)
            status = handle.status()
            assert (handle.id, status.id) == (task.id, task.id)
            with pytest.raises(TaskNotFound):
                client.status(str(uuid4()))
        return True

    with Client(redis_url) as client:
        assert at_once(work) == [True] * THREADS
    assert tasks(redis) == THREADS


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_lost_reply_makes_no_second_task(
    start_shell: StartShell, cable: Cable, redis: Redis, lost: int, key: str | None
) -> None:
    """Where the client gives up, the caller may ask again: it is the same task."""
    shell, task = start_shell(cable.url), a_task(idempotency_key=key)
    cable.lose_replies(lost)
    for _ in range(4):
        try:
            assert shell.enqueue(task) == task.id
            break
        except StoreUnavailable:
            continue
    assert cable.lost_all
    assert tasks(redis) == 1
    assert types(Scripts(redis).log(task.id)) == ["queued"]
    assert task.id in rung(redis)


def test_a_forgotten_script_is_loaded_again(shell: Shell, redis: Redis) -> None:
    for _ in range(2):
        redis.script_flush()
        assert shell.status(shell.enqueue(a_task())).state == "queued"


def test_the_doorbell_rings_on_a_broker_of_its_own(
    start_shell: StartShell, redis_url: str, redis: Redis, start_valkey: StartValkey
) -> None:
    server = start_valkey(persistence=False)
    shell = start_shell(redis_url, broker_url=server.url)
    task_id = shell.enqueue(a_task())
    assert types(Scripts(redis).log(task_id)) == ["queued"]
    assert rung(redis) == []
    with Redis.from_url(server.url) as broker:
        assert broker.keys() == [b"router.interactive"]
        assert rung(broker) == [task_id]


def test_a_broker_that_is_away_is_told_though_the_task_is_on_record(
    start_shell: StartShell, redis_url: str, redis: Redis, start_valkey: StartValkey
) -> None:
    """It is looked after: the reaper rings when the broker is back. Asking again does no harm."""
    server = start_valkey(persistence=False)
    shell, task = start_shell(redis_url, broker_url=server.url), a_task()
    server.stop()
    with pytest.raises(StoreUnavailable, match=f"{server.port}.*look at REDIS_URL"):
        shell.enqueue(task)
    assert shell.status(task.id).state == "queued"
    assert redis.zscore(KEYS.due, task.id) is not None
    start_valkey(port=server.port, persistence=False)
    assert shell.enqueue(task) == task.id
    with Redis.from_url(server.url) as broker:
        assert rung(broker) == [task.id]


def test_an_invalid_task_leaves_nothing_behind(redis_url: str, redis: Redis) -> None:
    options = {"idempotency_key": "k", "deadline": 1_000_000_000_001}
    with Client(redis_url) as client, pytest.raises(InvalidTask, match="deadline"):
        client.chat("m", [{"role": "user", "content": "hello"}], options=options)
    assert redis.keys() == []
