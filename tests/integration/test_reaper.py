"""Lost doorbells, dead workers: somebody comes by and rings again."""

import time
from typing import Any

import pytest
import redis as redis_library

from api_contracts.client import Client
from api_contracts.client.compose import chat_task
from api_contracts.client.submission import CREATE, submission
from api_contracts.events import Chunk
from api_contracts.names import Keys, Queue
from tests.conftest import StartWorker
from tests.parts.aimock import Aimock
from tests.parts.following import error_of, result_of
from tests.parts.foreign import AnyQueue
from tests.parts.wait import until
from tests.parts.worker import Worker

QUESTION = [{"role": "user", "content": "tell"}]
TEXT = "All that glisters is not gold; often have you heard that told. "
#: A lease that ends soon.
QUICK: Any = {"ROUTER_WORKER_LEASE_S": "2", "ROUTER_WORKER_HEARTBEAT_S": "0.5"}


def serve(aimock: Aimock, latency: int) -> None:
    response = {"content": TEXT}
    match = {"userMessage": "tell"}
    aimock.serve({"match": match, "response": response, "latency": latency, "chunkSize": 3})


def rung(worker: Worker) -> dict[str, float]:
    """Return how often its reaper rang, by cause."""
    return {cause: times for cause, times in worker.samples("redeliveries_total").items() if times}


def test_a_killed_workers_stream_is_restarted_by_another(
    aimock: Aimock, redis: redis_library.Redis, redis_url: str, worker_process: StartWorker
) -> None:
    serve(aimock, 150)
    first = worker_process(aimock.url, **QUICK)
    with Client(redis_url) as client:
        handle = client.chat("m", QUESTION, stream=True)
        next(event for event in handle if isinstance(event, Chunk))
        first.kill()
        serve(aimock, 5)
        worker_process(aimock.url, **QUICK)
        events = list(handle.events("1-1"))
    started = next(event for event in events if event.type == "started")
    assert (started.id, started.resets) == ("2-0", True)
    assert events[-1].type == "completed"
    until(lambda: not redis.zcard(Keys().due), "nobody is left to look after")


def test_a_task_that_must_not_be_restarted_fails_when_its_worker_dies(
    aimock: Aimock, redis: redis_library.Redis, redis_url: str, worker_process: StartWorker
) -> None:
    serve(aimock, 150)
    first = worker_process(aimock.url, **QUICK)
    with Client(redis_url) as client:
        handle = client.chat("m", QUESTION, stream=True, options={"on_interrupt": "fail"})
        next(event for event in handle if isinstance(event, Chunk))
        first.kill()
        worker_process(aimock.url, **QUICK)
        # Killed before its first heartbeat: the enqueue's own date, 20 s on, is what counts.
        assert error_of(redis, handle.id, within=40)["code"] == "interrupted"
    assert len(aimock.journal()) == 1


def test_a_task_that_has_killed_three_workers_is_given_to_no_fourth(
    aimock: Aimock, redis: redis_library.Redis, redis_url: str, worker_process: StartWorker
) -> None:
    worker_process(aimock.url, **QUICK)
    with Client(redis_url) as client:
        task = chat_task("m", QUESTION)
        commands = submission(task, Keys(), int(time.time() * 1000))
        execute: Any = redis.execute_command
        execute("EVAL", CREATE, *commands.create_with_keys)
        redis.hset(Keys().record(task.id), mapping={"deaths": 3})
        execute(*commands.ring)
        assert error_of(redis, task.id)["code"] == "poison"
        assert client.status(task.id).state == "failed"
    assert aimock.journal() == []


def test_a_lost_doorbell_is_rung_again(
    aimock: Aimock, redis: redis_library.Redis, worker_process: StartWorker
) -> None:
    serve(aimock, 0)
    worker_process(aimock.url, **QUICK)
    task = chat_task("m", QUESTION)
    # A producer that died before it rang, as long ago as matters.
    commands = submission(task, Keys(), int((time.time() - 60) * 1000))
    # Both at once: it is due by now, and a reaper that finds no record strikes it off.
    pipe: Any = redis.pipeline(transaction=True)
    pipe.execute_command(*commands.due)
    pipe.execute_command("EVAL", CREATE, *commands.create_with_keys)
    pipe.execute()
    assert result_of(redis, task.id).attempts[0].attempt == 1


def test_a_retry_whose_timer_died_with_its_worker_is_made_by_another(
    aimock: Aimock, redis: redis_library.Redis, redis_url: str, worker_process: StartWorker
) -> None:
    error = {"error": {"message": "busy"}, "status": 503}
    aimock.serve({"match": {"userMessage": "tell"}, "response": error, "retryAfter": 3})
    first = worker_process(aimock.url, **QUICK)
    with Client(redis_url) as client:
        task = client.chat("m", QUESTION).id
        until(lambda: client.status(task).state == "retrying", "the first call has failed")
        first.kill()
        serve(aimock, 0)
        second = worker_process(aimock.url, **QUICK)
        assert len(result_of(redis, task, within=20).attempts) == 2
    assert rung(second) == {"cause=timer": 1.0}


def test_a_live_task_is_left_alone_for_many_leases(
    aimock: Aimock, redis: redis_library.Redis, redis_url: str, worker_process: StartWorker
) -> None:
    serve(aimock, 500)
    workers = [worker_process(aimock.url, **QUICK) for _ in range(2)]
    with Client(redis_url) as client:
        task = client.chat("m", QUESTION, stream=True).id
        # 22 chunks of half a second: five leases of 2 s.
        result = result_of(redis, task, within=60)
    assert result.timings.total_ms > 4 * 2_000
    assert len(result.attempts) == len(aimock.journal()) == 1
    assert [rung(worker) for worker in workers] == [{}, {}]


def test_a_queue_that_is_merely_long_is_rung_for_by_nobody(
    aimock: Aimock, redis: redis_library.Redis, redis_url: str, queue: AnyQueue,
    worker_process: StartWorker,
) -> None:  # fmt: skip
    serve(aimock, 200)
    length = 2_000
    with Client(redis_url) as client:
        for _ in range(length):
            client.chat("m", QUESTION)
    # All were to be looked at long ago, as after an hour in the queue.
    waiting: Any = redis.zrange(Keys().due, 0, -1)
    redis.zadd(Keys().due, dict.fromkeys(waiting, 1))
    worker = worker_process(aimock.url, ROUTER_WORKER_CONCURRENCY="1", **QUICK)
    until(lambda: not redis.zcount(Keys().due, "-inf", 2), "the reaper took all", within=60)
    until(lambda: queue.waiting() < length, "the worker takes the first")
    assert rung(worker) == {}
    assert queue.waiting() > 0, "it was long all the while"


@pytest.mark.parametrize("junk", ["no id", "0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c99"])
def test_junk_among_what_is_due_stops_nobody(
    aimock: Aimock, redis: redis_library.Redis, worker_process: StartWorker, junk: str
) -> None:
    worker_process(aimock.url, **QUICK)
    redis.set(Keys().record(junk), "no hash")
    redis.zadd(Keys().due, {junk: 1, "gone": 1})
    until(lambda: not redis.zcard(Keys().due), "an empty list")
    assert redis.llen(Queue.INTERACTIVE) == 0


def test_a_task_of_a_kind_that_nobody_knows_ends_with_its_reason(
    aimock: Aimock, redis: redis_library.Redis, worker_process: StartWorker
) -> None:
    worker = worker_process(aimock.url, **QUICK)
    task_id = "0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c98"
    record: Any = {"state": "queued", "created_at": 1, "kind": "embeddings"}
    redis.hset(Keys().record(task_id), mapping=record)
    redis.zadd(Keys().due, {task_id: 1})
    assert error_of(redis, task_id)["code"] == "invalid_request"
    assert worker.get("/healthz")[0] == 200


def test_the_brokers_address_is_the_settings_alone(
    aimock: Aimock, redis_url: str, worker_process: StartWorker
) -> None:
    serve(aimock, 0)
    worker_process(aimock.url, CELERY_BROKER_URL="redis://127.0.0.1:1/0")
    with Client(redis_url) as client:
        assert client.chat("m", QUESTION).result(10).finish_reason == "stop"
