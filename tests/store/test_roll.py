"""The roll of workers: who signs it, who leaves, and who is forgotten."""

from typing import Any

import pytest
from redis import Redis

from tests.parts.letters import now_ms
from tests.parts.scripts import KEYS
from tests.store.conftest import StartStore
from worker import presence
from worker.presence import KEPT_S, Presence
from worker.store.roll import Roll

SAID = Presence(slots=400, taken=2, attempts_per_s=0.5, fault=None, tasks=("a", "b"))


def names(redis: Redis) -> list[bytes]:
    found: Any = redis.zrange(KEYS.workers, 0, -1)
    return list(found)


async def test_a_worker_that_signs_stands_on_the_roll_with_what_it_said(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    store, now = await start_store(redis_url), now_ms()
    await Roll(store.link, "one").sign(SAID, now)
    await Roll(store.link, "other").sign(SAID, now + 1)
    await Roll(store.link, "one").sign(SAID, now + 5000)
    assert names(redis) == [b"other", b"one"]
    assert redis.zscore(KEYS.workers, "one") == now + 5000
    kept: Any = redis.get(KEYS.worker("one"))
    assert presence.read(kept) == SAID
    lives: list[Any] = [redis.ttl(key) for key in (KEYS.workers, KEYS.worker("one"))]
    assert lives == [pytest.approx(KEPT_S, abs=5)] * 2


async def test_who_leaves_is_struck_off_and_nobody_else(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    store, now = await start_store(redis_url), now_ms()
    one, other = Roll(store.link, "one"), Roll(store.link, "other")
    await one.sign(SAID, now)
    await other.sign(SAID, now)
    await one.leave()
    assert names(redis) == [b"other"]
    assert (redis.exists(KEYS.worker("one")), redis.exists(KEYS.worker("other"))) == (0, 1)


async def test_who_has_not_signed_for_long_is_forgotten(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    store, now = await start_store(redis_url), now_ms()
    await Roll(store.link, "dead").sign(SAID, now - KEPT_S * 1000 - 1)
    await Roll(store.link, "just").sign(SAID, now - KEPT_S * 1000 + 1)
    await Roll(store.link, "one").sign(SAID, now)
    assert names(redis) == [b"just", b"one"]
