"""A worker's events keep their order while slots move, servers fall silent, and scripts are new."""

import asyncio

import pytest
from redis import Redis

from tests.conftest import StartValkey
from tests.parts.cluster import Cluster
from tests.parts.scripts import KEYS, Scripts, a_task
from tests.parts.wait import until_async
from tests.store.conftest import StartStore
from tests.store.test_store import assert_whole, begun, end, now_ms, say
from worker import pump as pump_module
from worker.store import Store
from worker.writer import Writer


async def speak(store: Store, writer: Writer, over: asyncio.Event) -> bool:
    while not over.is_set():
        say(writer)
        await asyncio.sleep(0.001)
    return await end(store, writer)


async def test_every_event_is_appended_in_its_order_while_slots_move(
    start_store: StartStore, redis_url: str, redis: Redis, cluster: Cluster
) -> None:
    """Some key by key, some at one blow, and one there and back."""
    store = await start_store(redis_url)
    writers = [await begun(store) for _ in range(20)]
    over = asyncio.Event()
    speaking = asyncio.gather(*(speak(store, writer, over) for writer in writers))
    for place, writer in enumerate(writers[:6]):
        key = KEYS.record(writer.claim.task_id)
        await asyncio.to_thread(cluster.move_whole if place % 2 else cluster.move, key)
    await asyncio.to_thread(cluster.move, KEYS.record(writers[0].claim.task_id))
    over.set()
    assert all(await speaking)
    for writer in writers:
        assert writer.seq > 100
        assert_whole(Scripts(redis), writer, writer.seq)


async def test_a_store_whose_cluster_is_not_there_yet_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, start_store: StartStore, start_valkey: StartValkey
) -> None:
    """Here it asks a server that is in none."""
    monkeypatch.setattr(pump_module, "CLOSE_S", 0.1)
    alone = start_valkey(persistence=False)
    store = await start_store(f"redis-cluster://127.0.0.1:{alone.port}")
    asked = asyncio.create_task(store.create(a_task(), now_ms()))
    await until_async(lambda: store.pump.trouble, "trouble")
    assert not asked.done()
    asked.cancel()
