"""Sixty-four subscribers at once, attaching at random moments of runs, miss and double nothing.

The whole form is ``make subscribers`` (1,000 runs); ``make test`` does the first few of them.
"""

import asyncio
import os
import random
from typing import Any, Final

import redis.asyncio

from api_contracts.client import AsyncClient
from api_contracts.events import ENDINGS
from api_contracts.names import Keys
from tests.conftest import StartWorker
from tests.parts.aimock import Aimock

#: Runs, each followed by all subscribers.
RUNS: Final = int(os.environ.get("SUBSCRIBER_RUNS", "12"))
SUBSCRIBERS: Final = 64
#: Runs at once: as many as keep two cores busy without the clients falling behind.
AT_ONCE: Final = 2
#: The span in which subscribers come, in seconds: before the first event, during the stream
#: (about 0.15 s) and after its ending.
MOMENTS: Final = (0.0, 0.3)

TEXT: Final = "All that glisters is not gold; often have you heard that told. " * 3


async def test_64_subscribers_of_each_run_miss_nothing_and_see_nothing_twice(
    aimock: Aimock, redis_url: str, worker_process: StartWorker
) -> None:
    match = {"userMessage": "tell"}
    aimock.serve({"match": match, "response": {"content": TEXT}, "latency": 5, "chunkSize": 6})
    worker_process(aimock.url)
    seed = random.Random(20_261_122)
    gate = asyncio.Semaphore(AT_ONCE)
    async with AsyncClient(redis_url) as client, redis.asyncio.Redis.from_url(redis_url) as store:

        async def run(number: int) -> list[str]:
            async with gate:
                return await _run(client, store, random.Random(seed.random()), number)

        faults = await asyncio.gather(*(run(number) for number in range(RUNS)))
    assert [fault for of_run in faults for fault in of_run] == []


async def _run(client: AsyncClient, store: Any, chance: random.Random, number: int) -> list[str]:
    """Enqueue one task with 64 subscribers about it; return what they got wrong."""
    handle = await client.chat("m", [{"role": "user", "content": "tell"}], stream=True)
    moments = [chance.uniform(*MOMENTS) for _ in range(SUBSCRIBERS)]
    seen = await asyncio.gather(*(_subscribe(client, handle.id, at) for at in moments))
    log = [place.decode() for place, _ in await store.xrange(Keys().events(handle.id))]
    chunks = len([place for place in log if place.startswith("1-")]) - 2
    assert chunks >= len(TEXT) // 6, "the run was no stream"
    await store.delete(Keys().record(handle.id), Keys().events(handle.id))
    return [
        f"run {number}, subscriber from {at:.3f} s: {got}, not {log}"
        for at, got in zip(moments, seen, strict=True)
        if got != log
    ]


async def _subscribe(client: AsyncClient, task_id: str, at: float) -> list[str]:
    """Attach at a moment; return the ids of all events, whose last must be the one ending."""
    await asyncio.sleep(at)
    events = [event async for event in client.stream(task_id)]
    assert [event.type in ENDINGS for event in events].count(True) == 1
    return [event.id for event in events]
