"""The executor on a real server and a real network: what becomes of calls that are not made."""

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis

from api_contracts.names import Queue
from api_contracts.options import RetryPolicy
from api_contracts.requests import Task
from tests.parts import answers
from tests.parts.cable import Cable
from tests.parts.gate import Answer, Do, Gate, Pause, stream, whole
from tests.parts.scripts import KEYS, Scripts, a_task, types
from tests.parts.wait import until_async
from tests.store.conftest import StartStore
from worker.attempt import Limits
from worker.claim import Claim
from worker.credentials import Credentials
from worker.executor import CLAIMS, Executor, Policy
from worker.leases import Leases
from worker.metrics import Metrics
from worker.router import Router
from worker.store import Store

POLICY = Policy(20, Limits(5, 5, 60), RetryPolicy(), include_usage=True)


class Parts:
    """An executor and what it is made of."""

    def __init__(self, store: Store, gate: Gate) -> None:
        self.store = store
        self.metrics = Metrics(slots=1, models=(), prices={}, fleet=lambda: None, readings=dict)
        self.router = Router(gate.url, Credentials("sk-test", None), 5)
        leases = Leases(store, 20, 5)
        self.executor = Executor(store, self.router, leases, self.metrics, POLICY)

    async def create(self, **options: Any) -> Task:
        task = a_task(**options)
        await self.store.create(task, int(time.time() * 1000))
        return task


@pytest.mark.parametrize("on_interrupt", ["restart", "fail"])
async def test_a_call_that_was_not_sent_is_handed_back_and_no_attempt(
    start_store: StartStore, redis_url: str, redis: Redis, gate: Gate, on_interrupt: str
) -> None:
    """The worker is told to end while it waits for the claim's answer: nothing is interrupted."""
    parts = Parts(await start_store(redis_url), gate)
    task = await parts.create(on_interrupt=on_interrupt)
    running = asyncio.create_task(parts.executor.run(task.id, "chat"))
    await asyncio.sleep(0)
    await parts.executor.hand_back()
    await running
    await parts.router.close()
    scripts = Scripts(redis)
    record = scripts.record(task.id)
    assert (record[b"state"], record[b"attempt"]) == (b"queued", b"1")
    assert b"attempt:1" not in record
    assert types(scripts.log(task.id)) == ["queued", "started"]
    assert gate.requests == []
    assert b"router_worker_calls_total{" not in parts.metrics.exposition()


async def test_tasks_that_come_at_once_begin_in_turns_and_not_behind_the_end(
    start_store: StartStore, redis_url: str, redis: Redis, gate: Gate
) -> None:
    """The worker is told to end while some wait for their claim's answer, and others to claim."""
    parts = Parts(await start_store(redis_url), gate)
    tasks = [await parts.create() for _ in range(2 * CLAIMS + 1)]
    running = [asyncio.create_task(parts.executor.run(task.id, "chat")) for task in tasks]
    await asyncio.sleep(0)
    await parts.executor.hand_back()
    await asyncio.gather(*running)
    await parts.router.close()
    records = [Scripts(redis).record(task.id) for task in tasks]
    attempts = [int(record[b"attempt"]) for record in records]
    assert attempts == [1] * CLAIMS + [0] * (CLAIMS + 1)
    assert {record[b"state"] for record in records} == {b"queued"}
    assert redis.llen(Queue.INTERACTIVE) == len(tasks), "each was rung again"
    assert gate.requests == []


async def test_a_retry_that_waits_keeps_no_body_in_memory(
    start_store: StartStore, redis_url: str, redis: Redis, gate: Gate
) -> None:
    """A slot is free again then: nothing else bounds how many wait, for a day perhaps."""
    parts = Parts(await start_store(redis_url), gate)
    gate.answer(whole({"error": {"message": "busy"}}, status=503, retry_after="3600"))
    task = await parts.create()
    before = asyncio.all_tasks()
    await parts.executor.run(task.id, "chat")
    await parts.router.close()
    assert Scripts(redis).record(task.id)[b"state"] == b"retrying"
    gc.collect()
    claims = [one for one in gc.get_objects() if isinstance(one, Claim)]
    assert [claim for claim in claims if claim.task_id == task.id] == []
    assert asyncio.all_tasks() == before, "nor a coroutine, which the worker's end would break"


async def test_a_task_that_is_replayed_before_its_worker_hears_of_its_end_is_run_again(
    start_store: StartStore, redis_url: str, redis: Redis, gate: Gate
) -> None:
    """The reply to its end is lost: meanwhile the worker holds it, and keeps one doorbell."""
    cable, scripts = Cable(urlsplit(redis_url).port or 0), Scripts(redis)
    parts = Parts(await start_store(cable.url), gate)
    told = Pause(60)
    gate.answer((told, *whole({"error": {"message": "no"}}, status=400)), ENDS["streamed"])
    task = await parts.create()
    running = asyncio.create_task(parts.executor.run(task.id, "chat"))
    await until_async(lambda: gate.requests, "the call is made")
    cable.lose_replies(3)
    told.over.set()
    await until_async(lambda: scripts.record(task.id)[b"state"] == b"failed", "it has failed")
    assert scripts.replay(task.id) == b"replayed"
    for _ in range(3):
        await parts.executor.run(task.id, "chat")
    await running
    await parts.router.close()
    assert scripts.record(task.id)[b"state"] == b"completed"
    assert len(gate.requests) == 2
    dropped = b'router_worker_doorbells_dropped_total{reason="held"} 2.0'
    assert dropped in parts.metrics.exposition(), "all but the one that is kept"
    cable.close()


#: How a call ends.
ENDS: dict[str, Answer] = {
    "streamed": stream(*answers.openai("Sea", " and", " sand")),
    "cut": stream(*answers.openai("Sea", " and", finish=False)),
    "malformed": stream(b"data: {\n\n"),
    "refused": whole({"error": {"message": "no"}}, status=400),
    "busy": whole({"error": {"message": "busy"}}, status=503, retry_after="3600"),
    "disconnected": (Do.CUT,),
}


@pytest.mark.parametrize("how", ENDS)
async def test_an_attempt_that_has_ended_leaves_its_body_at_once(
    start_store: StartStore, redis_url: str, gate: Gate, how: str
) -> None:
    """It may have 32 MiB, and garbage in cycles is looked for seldom."""
    parts = Parts(await start_store(redis_url), gate)
    gate.answer(ENDS[how])
    task = await parts.create()
    gc.collect()
    gc.disable()
    try:
        await parts.executor.run(task.id, "chat")
        claims = [one for one in gc.get_objects() if isinstance(one, Claim)]
        assert [claim for claim in claims if claim.task_id == task.id] == []
    finally:
        gc.enable()
        await parts.router.close()


def lost(scripts: Scripts, task: Task) -> None:
    """Another worker has the task now."""
    scripts.set(task.id, lease_until=1)
    assert isinstance(scripts.claim(task.id, "another"), Claim)


def cancelled(scripts: Scripts, task: Task) -> None:
    """The task is over, and was counted: it is on the list no more."""
    scripts.cancel(task.id)
    scripts.redis.hdel(KEYS.record(task.id), "uncounted")
    scripts.redis.zrem(KEYS.due, task.id)


@pytest.mark.parametrize("happen", [lost, cancelled])
async def test_an_attempt_that_is_nobody_s_any_more_lets_no_one_look_later_than_a_lease(
    start_store: StartStore,
    redis_url: str,
    redis: Redis,
    gate: Gate,
    happen: Callable[[Scripts, Task], None],
) -> None:
    """It would be retried in an hour; until then nobody would see that the other one has died."""
    parts = Parts(await start_store(redis_url), gate)
    busy = whole({"error": {"message": "busy"}}, status=503, retry_after="3600")
    gate.answer((happened := Pause(60), *busy))
    task = await parts.create()
    running = asyncio.create_task(parts.executor.run(task.id, "chat"))
    await until_async(lambda: gate.requests, "the call")
    happen(Scripts(redis), task)
    happened.over.set()
    await running
    await parts.router.close()
    assert Scripts(redis).record(task.id)[b"state"] != b"retrying"
    due: Any = redis.zscore(KEYS.due, task.id)
    assert due <= (time.time() + POLICY.lease_s) * 1000
