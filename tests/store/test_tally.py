"""How a task ended is counted once: whoever dies, and however often it is said."""

import asyncio
import time
from typing import Any

import pytest
from redis import Redis

from api_contracts.client import Client
from api_contracts.names import State
from api_contracts.requests import Task
from tests.parts.cable import Cable
from tests.parts.letters import replaying
from tests.parts.scripts import EXPIRED, KEYS, Scripts, a_task
from tests.parts.wait import until_async
from tests.store.conftest import StartStore
from worker.claim import Claim, NotClaimed
from worker.metrics import Metrics
from worker.reaper import Reaper
from worker.store import Store
from worker.tally import Tally
from worker.telemetry import TaskEnd

FAILED = Tally(()).ended(TaskEnd("chat", "auto", None, State.FAILED, None))
CANCELLED = Tally(()).ended(TaskEnd("chat", "", None, State.CANCELLED, None))
#: What another program may have left where the counts are kept.
RUBBISH: dict[str, tuple[str, ...]] = {
    "a text": ("SET", "rubbish"),
    "no number": ("HSET", "x", "y"),
}


class Part:
    """A store with a reaper, and a task of its own that runs."""

    def __init__(self, store: Store, redis: Redis) -> None:
        self.store = store
        self.redis: Any = redis
        self.scripts = Scripts(redis)
        metrics = Metrics(slots=1, models=(), prices={}, fleet=lambda: None, readings=dict)
        self.reaper = Reaper(store, metrics)

    async def begin(self, **options: Any) -> Task:
        task = a_task(**options)
        await self.store.create(task, int(time.time() * 1000))
        assert isinstance(self.scripts.claim(task.id, "token"), Claim)
        return task

    def end(self, task: Task) -> None:
        """End it, and go no further: the worker dies here."""
        assert self.scripts.settle(task.id, "1-1", State.FAILED, uncounted=FAILED) == 1

    async def reap(self, task: Task) -> None:
        """Let the reaper come by."""
        self.redis.zadd(KEYS.due, {task.id: 1})
        assert await self.reaper.round() == 1

    @property
    def counted(self) -> dict[str, int]:
        counts = self.redis.hgetall(KEYS.tally)
        return {name.decode(): int(count) for name, count in counts.items()}


@pytest.fixture
async def part(start_store: StartStore, redis_url: str, redis: Redis) -> Part:
    return Part(await start_store(redis_url), redis)


async def test_whoever_ends_a_task_counts_it(part: Part) -> None:
    task = await part.begin()
    part.end(task)
    assert await part.store.duties.over(task.id, FAILED)
    assert part.counted == {FAILED: 1}
    assert b"uncounted" not in part.scripts.record(task.id)
    assert part.redis.zscore(KEYS.due, task.id) is None


async def test_it_is_counted_once_however_often_it_is_said(part: Part) -> None:
    task = await part.begin()
    part.end(task)
    told = [part.store.duties.over(task.id, FAILED) for _ in range(5)]
    assert sorted(await asyncio.gather(*told)) == [False] * 4 + [True]
    assert part.counted == {FAILED: 1}


async def test_the_reaper_counts_what_a_worker_did_not_live_to_count(part: Part) -> None:
    task = await part.begin()
    part.end(task)
    await part.reap(task)
    assert part.counted == {FAILED: 1}


async def test_an_id_that_comes_on_the_list_again_is_not_counted_again(part: Part) -> None:
    """Its producer has repeated himself, after the end."""
    task = await part.begin()
    part.end(task)
    await part.store.duties.over(task.id, FAILED)
    await part.reap(task)
    assert part.counted == {FAILED: 1}
    assert part.redis.zcard(KEYS.due) == 0


async def test_what_is_said_again_since_its_answer_was_lost_is_not_counted_again(
    part: Part,
) -> None:
    """Though the id came on the list between: a late doorbell, or its producer, put it there."""
    task = await part.begin()
    part.end(task)
    assert await part.store.duties.over(task.id, FAILED)
    part.redis.zadd(KEYS.due, {task.id: 1})
    assert not await part.store.duties.over(task.id, FAILED)
    assert part.counted == {FAILED: 1}
    assert part.redis.zcard(KEYS.due) == 0


async def test_what_has_no_record_any_more_is_counted_as_it_is_struck_off(part: Part) -> None:
    task = await part.begin()
    part.end(task)
    part.redis.delete(KEYS.record(task.id))
    assert await part.store.duties.over(task.id, FAILED)
    assert not await part.store.duties.over(task.id, FAILED)
    assert part.counted == {FAILED: 1}


async def test_a_connection_that_is_cut_counts_nothing_twice(
    start_store: StartStore, cable: Cable, redis: Redis
) -> None:
    part = Part(await start_store(cable.url), redis)
    tasks = [await part.begin() for _ in range(100)]
    for task in tasks:
        part.end(task)
    told = [asyncio.create_task(part.store.duties.over(task.id, FAILED)) for task in tasks]
    await asyncio.sleep(0)
    cable.cut()
    await asyncio.gather(*told)
    assert part.counted == {FAILED: 100}


async def test_what_expires_and_what_is_cancelled_waits_to_be_counted(
    part: Part, redis_url: str
) -> None:
    expired, cancelled = a_task(expires_at=int(time.time() * 1000) + 60_000), await part.begin()
    part.scripts.create(expired)
    part.scripts.set(expired.id, expires_at=1)
    assert part.scripts.claim(expired.id, "token") is NotClaimed.EXPIRED
    assert part.scripts.record(expired.id)[b"uncounted"] == EXPIRED.encode()
    with Client(redis_url) as client:
        assert client.cancel(cancelled.id)
        assert await part.reaper.round() == 1
        assert client.cancel(cancelled.id)
    assert part.counted == {CANCELLED: 1}
    assert part.redis.zcard(KEYS.due) == 0, "a second cancel puts nothing on the list"


async def test_what_a_record_says_is_to_be_counted_is_ours_or_is_not_counted(part: Part) -> None:
    for hostile in ("", "x", "[1", FAILED + "x", '["router_worker_tasks_total"]', FAILED * 100):
        task = await part.begin()
        part.end(task)
        part.scripts.set(
            task.id, uncounted=f"{hostile}\n{FAILED}" if len(hostile) < 99 else hostile
        )
        await part.reap(task)
    assert part.counted == {FAILED: 5}


@pytest.mark.parametrize("rubbish", RUBBISH)
async def test_what_another_program_puts_there_keeps_no_task_on_the_list(
    part: Part, rubbish: str
) -> None:
    command, *arguments = RUBBISH[rubbish]
    part.redis.execute_command(command, KEYS.tally, *arguments)
    task = await part.begin()
    part.end(task)
    assert await part.store.duties.over(task.id, FAILED)
    assert part.redis.zcard(KEYS.due) == 0


async def test_what_is_cancelled_is_counted_however_soon_its_record_may_go(
    part: Part, redis_url: str
) -> None:
    """Nobody runs it, so that a reaper counts it, who comes by some seconds later."""
    task = a_task(result_ttl=1)
    await part.store.create(task, int(time.time() * 1000))
    with Client(redis_url) as client:
        assert client.cancel(task.id)
    await until_async(lambda: not part.scripts.log(task.id), "its time is over")
    assert await part.reaper.round() == 1
    assert part.counted == {CANCELLED: 1}


async def test_a_task_that_is_replayed_before_its_ending_is_counted_is_still_looked_after(
    part: Part, redis_url: str
) -> None:
    task = await part.begin()
    part.end(task)
    with Client(redis_url) as client:
        client.replay(task.id)
    assert await part.store.duties.over(task.id, FAILED)
    assert part.counted == {FAILED: 1}
    assert part.redis.zscore(KEYS.due, task.id) is not None


async def test_a_task_that_is_struck_off_in_the_middle_of_its_replay_is_still_looked_after(
    part: Part,
) -> None:
    """By whoever counts its old ending, between what puts it on the list and the script."""
    task = await part.begin()
    part.end(task)
    for command in replaying(part.redis, task.id):
        if command[0] == "ZADD" and not part.counted:
            assert await part.store.duties.over(task.id, FAILED)
    assert part.counted == {FAILED: 1}
    assert part.redis.zscore(KEYS.due, task.id) is not None


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
async def test_what_somebody_else_has_spoilt_is_counted_by_whoever_found_it_or_the_reaper(
    part: Part, *, dies: bool
) -> None:
    task = a_task()
    await part.store.create(task, int(time.time() * 1000))
    part.redis.xadd(KEYS.events(task.id), {"event": "theirs"}, id="9-9")
    found = await part.store.claim(task.id, EXPIRED, FAILED)
    assert found is NotClaimed.SPOILT
    if dies:
        await part.reap(task)
    else:
        assert await part.store.duties.over(task.id, FAILED)
    assert not await part.store.duties.over(task.id, FAILED)
    assert part.counted == {FAILED: 1}
