"""The attempts that a process holds, and the word that one of them was cancelled."""

import asyncio

from redis import Redis

from tests.parts.scripts import KEYS, a_task
from tests.store.conftest import StartStore
from worker.claim import Claim
from worker.leases import Leases
from worker.store import Store
from worker.writer import Stop, Stopped, Writer

HEARTBEAT_S = 0.02


async def begun(store: Store) -> Writer:
    """A task of its own, claimed."""
    task = a_task()
    await store.create(task, 0)
    claim = await store.claim(task.id, "")
    assert isinstance(claim, Claim)
    return Writer(store, claim)


async def test_an_attempt_is_stopped_though_its_cancel_came_before_it_was_held(
    start_store: StartStore, redis_url: str
) -> None:
    """A worker may hear of it between the claim's answer and the holding."""
    store = await start_store(redis_url)
    leases = Leases(store, 20, HEARTBEAT_S)
    early, late, other = [await begun(store) for _ in range(3)]
    leases.cancel(early.claim.task_id)
    with leases.hold(early), leases.hold(late), leases.hold(other):
        assert early.stopped.result() == Stopped(Stop.GONE)
        assert not late.stopped.done()
        leases.cancel(late.claim.task_id)
        assert late.stopped.result() == Stopped(Stop.GONE)
        assert not other.stopped.done()


async def test_what_was_cancelled_elsewhere_is_not_kept_for_ever(
    start_store: StartStore, redis_url: str
) -> None:
    store = await start_store(redis_url)
    leases = Leases(store, 20, HEARTBEAT_S)
    claim = (await begun(store)).claim
    leases.cancel(claim.task_id)
    beating = asyncio.create_task(leases.run())
    async with asyncio.timeout(10):
        while True:
            with leases.hold(writer := Writer(store, claim)):
                if not writer.stopped.done():
                    break
            await asyncio.sleep(HEARTBEAT_S)
    beating.cancel()


async def test_the_tasks_that_are_held_longest_are_named(
    start_store: StartStore, redis_url: str
) -> None:
    store = await start_store(redis_url)
    leases = Leases(store, 20, HEARTBEAT_S)
    first, second, third = [await begun(store) for _ in range(3)]
    with leases.hold(first), leases.hold(second):
        with leases.hold(third):
            assert leases.oldest(2) == (first.claim.task_id, second.claim.task_id)
            assert len(leases.oldest(50)) == 3
        assert leases.oldest(50) == (first.claim.task_id, second.claim.task_id)
    assert leases.oldest(50) == ()


async def test_an_attempt_that_is_overtaken_in_its_own_process_is_stopped(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    """No heartbeat asks for it any more, and a call that is not streamed would not notice."""
    store = await start_store(redis_url)
    leases = Leases(store, 20, HEARTBEAT_S)
    old = await begun(store)
    redis.hset(KEYS.record(old.claim.task_id), "lease_until", 1)
    claim = await store.claim(old.claim.task_id, "")
    assert isinstance(claim, Claim)
    new = Writer(store, claim)
    with leases.hold(old):
        with leases.hold(new):
            assert old.stopped.result() == Stopped(Stop.GONE)
        assert not new.stopped.done()
