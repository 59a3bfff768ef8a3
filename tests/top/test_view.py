"""What is read of a real server: all there is to see, in bounded work, and nothing is written."""

import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from redis import Redis

from api_contracts.client.box import key_id as key_id_of
from api_contracts.client.connection import Address
from api_contracts.client.signatures import signer
from api_contracts.errors import StoreUnavailable
from api_contracts.names import Queue
from api_contracts.requests import new_id
from tests.conftest import StartValkey
from tests.parts.dump import as_it_is
from tests.parts.letters import bury, now_ms, park
from tests.parts.scripts import KEYS, Hand, Scripts, a_task
from tests.parts.secrecy import NEW, WEB, key_id, protection, put, secret_task
from tests.top.readings import doorbell
from worker import presence
from worker.cli.top.model import Overview, overview
from worker.presence import Presence
from worker.store import view as view_module
from worker.store.view import View

#: What may be sent to Redis, and how often at most for one frame.
ALLOWED: Final = {
    "hello": 2, "ping": 2, "select": 2, "client|setinfo": 8, "auth": 2,
    "time": 1, "zcard": 2, "zrange": 3, "get": view_module.WORKERS,
    "hmget": view_module.NAMED + view_module.DUE + view_module.LETTERS,
    "eval_ro": len(Queue) + view_module.STREAMS,
    # Inside the scripts.
    "lindex": len(Queue), "llen": len(Queue),
    "xrange": 3 * view_module.STREAMS, "xrevrange": view_module.STREAMS,
}  # fmt: skip
#: What is asked here, not there.
OURS: Final = {"info", "config|resetstat"}

Look = Callable[..., Any]


@pytest.fixture
async def views() -> AsyncIterator[Callable[..., View]]:
    """Make views; each is closed with the test."""
    async with AsyncExitStack() as stack:

        def make(url: str, broker_url: str | None = None) -> View:
            view = View(Address(url, broker_url or url, KEYS))
            stack.push_async_callback(view.close)
            return view

        yield make


async def seen(view: View) -> Overview:
    return overview(await view.read())


def running(redis: Redis, *texts: str, **options: Any) -> Hand:
    """A task that runs and has said this."""
    task = a_task("a prompt", **options)
    Scripts(redis).create(task)
    redis.zadd(KEYS.due, {task.id: now_ms() + 20_000})
    hand = Hand(redis, task.id)
    hand.say(*texts)
    return hand


def sign(redis: Redis, worker: str, *tasks: str, ago_ms: int = 0, taken: int = 0) -> None:
    """Sign the roll as a worker does."""
    said = Presence(slots=400, taken=taken, attempts_per_s=0.5, fault=None, tasks=tasks)
    redis.zadd(KEYS.workers, {worker: now_ms() - ago_ms})
    redis.set(KEYS.worker(worker), presence.write(said))


def ring_at(redis: Redis, at: int) -> None:
    """Ring a doorbell on the batch queue at this moment, in unix ms."""
    redis.lpush(Queue.BATCH, doorbell(at))


def allow(redis: Redis, *rights: str) -> None:
    """Let the user `looker` do this and nothing else."""
    asked: Any = redis
    asked.execute_command("ACL", "SETUSER", "looker", "reset", "on", ">pw", "~*", *rights)


def forbid(redis: Redis) -> None:
    """Let `looker` do nothing any more."""
    asked: Any = redis
    asked.execute_command("ACL", "DELUSER", "looker")


async def test_nothing_is_seen_where_nothing_is(
    views: Callable[..., View], redis_url: str, redis: Redis
) -> None:
    empty = await seen(views(redis_url))
    assert abs(empty.at - now_ms()) < 5000
    assert [(one.name, one.waiting, one.oldest_s) for one in empty.queues] == [
        (queue, 0, None) for queue in Queue
    ]
    assert (empty.open_tasks, empty.running, empty.dead_letters) == (0, 0, 0)
    assert [*empty.workers, *empty.streams, *empty.retries, *empty.failures] == []
    assert redis.keys() == []


async def test_all_that_goes_on_is_seen_and_nothing_is_changed(
    views: Callable[..., View], redis_url: str, redis: Redis
) -> None:
    now = now_ms()
    stream, late = running(redis, "one ", "two"), running(redis)
    late.vanish()
    retrying = running(redis, "half")
    retrying.retry()
    error = '{"code":"timeout","message":"the prompt","retryable":true,"status":504}'
    Scripts(redis).set(retrying.task_id, error=error, due_at=now + 60_000)
    dead, parked = bury(redis, now - 60_000), park(redis, at=now)
    sign(redis, "router-worker-7@host", stream.task_id, taken=1)
    sign(redis, "router-worker-8@host", ago_ms=20_000)
    ring_at(redis, now - 5000)
    before = as_it_is(redis)
    found = await seen(views(redis_url))
    assert as_it_is(redis) == before
    (_, batch) = found.queues
    assert batch.waiting == 1
    passed_s = (now_ms() - now) / 1000
    assert batch.oldest_s is not None
    assert 5 <= batch.oldest_s <= 5 + passed_s
    assert [(one.name, one.alive, one.taken) for one in found.workers] == [
        ("router-worker-8@host", False, 0),
        ("router-worker-7@host", True, 1),
    ]
    streams = {one.task_id: one for one in found.streams}
    assert set(streams) == {stream.task_id, late.task_id}
    one = streams[stream.task_id]
    assert (one.model, one.worker, one.attempt, one.chunks) == ("m", "hand", 1, 2)
    assert one.age_s is not None
    assert 0 <= one.age_s <= passed_s
    assert not one.orphaned
    assert (streams[late.task_id].chunks, streams[late.task_id].orphaned) == (0, True)
    (retry,) = found.retries
    assert (retry.task_id, retry.model, retry.code) == (retrying.task_id, "m", "timeout")
    assert 60 - passed_s <= retry.due_s <= 60
    assert [(one.task_id, one.kind) for one in found.failures] == [
        (parked, "message"),
        (dead, "chat"),
    ]
    # `bury` leaves no due time behind it.
    assert (found.open_tasks, found.looked_at, found.running) == (3, 3, 2)


async def test_the_pace_of_a_stream_is_that_of_its_last_chunks(
    views: Callable[..., View], redis_url: str, redis: Redis
) -> None:
    hand, now = running(redis), now_ms()
    # 40 chunks, a second apart, to which that is little what passes until they are looked at; those
    # before them came at once.
    moments = [now - 600_000] * 60 + [now - 1000 * n for n in range(40, 0, -1)]
    for seq, at in enumerate(moments, 1):
        event = {"id": f"1-{seq}", "task_id": hand.task_id, "type": "chunk", "at": at, "data": {}}
        entry: Any = {"event": json.dumps(event, separators=(",", ":"))}
        redis.xadd(KEYS.events(hand.task_id), entry, id=f"1-{seq}")
    (line,) = (await seen(views(redis_url))).streams
    assert line.chunks == 100
    assert line.chunks_per_s == pytest.approx(1, rel=0.2)


async def test_the_attempt_before_does_not_count(
    views: Callable[..., View], redis_url: str, redis: Redis
) -> None:
    first = running(redis, *"abcdefgh")
    first.vanish()
    Hand(redis, first.task_id, worker="second").say("a")
    (line,) = (await seen(views(redis_url))).streams
    assert (line.attempt, line.worker, line.chunks) == (2, "second", 1)


async def test_queues_on_a_server_of_their_own_are_seen(
    views: Callable[..., View], redis_url: str, redis: Redis, start_valkey: StartValkey
) -> None:
    server = start_valkey(persistence=False)
    redis.lpush(Queue.BATCH, b"not here")
    with Redis.from_url(server.url) as broker:
        ring_at(broker, now_ms())
        ring_at(broker, now_ms())
    found = await seen(views(redis_url, server.url))
    assert [one.waiting for one in found.queues] == [0, 2]


# --- bounded, and read-only -------------------------------------------------------------------


def record_many(redis: Redis, count: int) -> None:
    """Put so many queued tasks on record, which are due to be looked at from now on."""
    due = now_ms()
    for first in range(0, count, 10_000):
        pipe = redis.pipeline(transaction=False)
        for number in range(first, min(first + 10_000, count)):
            task_id = f"{number:08x}-0000-4000-8000-000000000000"
            fields: Any = {"state": "queued", "kind": "chat", "created_at": due, "model": "m"}
            pipe.zadd(KEYS.due, {task_id: due + number})
            pipe.hset(KEYS.record(task_id), mapping=fields)
        pipe.execute()


def commands(redis: Redis) -> dict[str, int]:
    """How often each command was called since the counts began."""
    stats: Any = redis.info("commandstats")
    counted = {name.removeprefix("cmdstat_"): int(one["calls"]) for name, one in stats.items()}
    return {name: calls for name, calls in counted.items() if name not in OURS}


async def test_a_frame_costs_little_however_much_is_on_record(
    views: Callable[..., View], redis_url: str, redis: Redis
) -> None:
    hands = [running(redis, "one ", "two") for _ in range(150)]
    record_many(redis, 100_000)
    for hand in hands:
        # Behind all that waits.
        redis.zadd(KEYS.due, {hand.task_id: now_ms() + 10_000_000})
    for number in range(300):
        sign(redis, f"router-worker-{number}@host", ago_ms=number, taken=1)
    for place in range(3):
        named = [hand.task_id for hand in hands[50 * place : 50 * place + 50]]
        sign(redis, f"router-worker-{place}@host", *named, taken=50)
    for _ in range(60):
        park(redis)
    view = views(redis_url)
    redis.config_resetstat()
    began = time.monotonic()
    found = await seen(view)
    took_s = time.monotonic() - began
    called = commands(redis)
    assert called.keys() <= ALLOWED.keys()
    assert {name: calls for name, calls in called.items() if calls > ALLOWED[name]} == {}
    # 150 that workers name, and 500 that are due.
    assert len(found.workers) == view_module.WORKERS
    assert len(found.streams) == view_module.STREAMS
    assert (found.open_tasks, found.dead_letters) == (100_150, 60)
    assert found.looked_at == 650
    assert len(found.failures) == view_module.LETTERS
    assert took_s < 2.0, "it is 0.02 s on a machine that has nothing else to do"


async def test_running_tasks_are_seen_though_all_that_waits_is_due_before_them(
    views: Callable[..., View], redis_url: str, redis: Redis
) -> None:
    hands = [running(redis, "one") for _ in range(20)]
    record_many(redis, 5_000)
    for hand in hands:
        redis.zadd(KEYS.due, {hand.task_id: now_ms() + 10_000_000})
    sign(redis, "router-worker-7@host", *(hand.task_id for hand in hands), taken=20)
    found = await seen(views(redis_url))
    assert {one.task_id for one in found.streams} == {hand.task_id for hand in hands}
    assert (found.open_tasks, found.looked_at) == (5_020, 520)


async def test_who_may_only_read_sees_it_all(
    views: Callable[..., View], redis_url: str, redis: Redis
) -> None:
    allow(redis, "+@read", "+@connection", "+time", "+eval_ro")
    try:
        hand = running(redis, "one ", "two")
        bury(redis)
        sign(redis, "router-worker-7@host", hand.task_id)
        found = await seen(views(redis_url.replace("redis://", "redis://looker:pw@")))
        assert (len(found.streams), len(found.failures), len(found.workers)) == (1, 1, 1)
        assert found.streams[0].chunks == 2
    finally:
        forbid(redis)


async def test_who_may_not_even_read_is_told_so(
    views: Callable[..., View], redis_url: str, redis: Redis
) -> None:
    allow(redis, "+@connection")
    try:
        with pytest.raises(StoreUnavailable, match="eval_ro"):
            await views(redis_url.replace("redis://", "redis://looker:pw@")).read()
    finally:
        forbid(redis)


async def test_a_redis_without_scripts_that_only_read_is_read_all_the_same(
    views: Callable[..., View], start_valkey: StartValkey, tmp_path: Path
) -> None:
    """As Redis 6.2."""
    settings = tmp_path / "old.conf"
    settings.write_text('rename-command EVAL_RO ""\n')
    server = start_valkey(persistence=False, include=str(settings))
    view = views(server.url)
    with Redis.from_url(server.url) as redis:
        hand = running(redis, "one ", "two")
        redis.config_resetstat()
        for _ in range(2):
            (line,) = (await seen(view)).streams
            assert (line.task_id, line.chunks) == (hand.task_id, 2)
        counts = commands(redis)
    assert counts["eval"] == 2 * (len(Queue) + 1)


async def test_neither_prompts_nor_answers_leave_redis(
    views: Callable[..., View], redis_url: str, redis: Redis
) -> None:
    hand = running(redis, "the answer ", "goes on")
    retrying = running(redis, "the answer")
    retrying.retry()
    bury(redis, text="a prompt")
    redis.lpush(Queue.BATCH, b"x" * 20_000_000)
    sign(redis, "router-worker-7@host", hand.task_id)
    redis.config_resetstat()
    reading = await views(redis_url).read()
    assert not re.search(r"a prompt|the answer|messages|xxxx", repr(reading))
    assert reading.queues[Queue.BATCH] == (1, b"")
    stats: Any = redis.info("stats")
    assert stats["total_net_output_bytes"] < 20_000


# --- what anybody may have written ------------------------------------------------------------

LOGS: Final[dict[str, Callable[[Redis, str], Any]]] = {
    "a string": lambda redis, key: redis.set(key, "no log"),
    "a hash": lambda redis, key: redis.hset(key, "no", "log"),
    "another field": lambda redis, key: redis.xadd(key, {"x": "y"}, id="1-0"),
    "no JSON": lambda redis, key: redis.xadd(key, {"event": "\x1b[2J"}, id="1-5"),
    "a moment that is none": lambda redis, key: redis.xadd(
        key, {"event": '{"at":' + "9" * 400}, id="1-5"
    ),
    "the last id of all": lambda redis, key: redis.xadd(
        key, {"event": '{"at":1'}, id="1-18446744073709551615"
    ),
    "a gap": lambda redis, key: redis.xadd(key, {"event": '{"at":1'}, id="1-999999"),
    "nothing": lambda redis, key: redis.delete(key),
}


@pytest.mark.parametrize("log", LOGS)
async def test_a_log_of_another_making_hides_nothing(
    views: Callable[..., View], redis_url: str, redis: Redis, log: str
) -> None:
    sound, spoilt = running(redis, "one ", "two"), running(redis)
    key = KEYS.events(spoilt.task_id)
    redis.delete(key)
    LOGS[log](redis, key)
    found = await seen(views(redis_url))
    assert {one.task_id for one in found.streams} == {sound.task_id, spoilt.task_id}
    (line,) = (one for one in found.streams if one.task_id == spoilt.task_id)
    assert (line.age_s, line.chunks_per_s) == (None, None)


@pytest.mark.parametrize("kind", ["string", "list"])
async def test_keys_of_another_type_hide_nothing_else(
    views: Callable[..., View], redis_url: str, redis: Redis, kind: str
) -> None:
    hand = running(redis, "one")
    sign(redis, "router-worker-7@host", hand.task_id, "no id", new_id())
    wrong = [KEYS.dead, Queue.INTERACTIVE, KEYS.record(other := new_id()), KEYS.worker("w")]
    ids: Any = {other: 1, "}{": 2, b"\xff": 3}
    redis.zadd(KEYS.due, ids)
    members: Any = {"w": now_ms(), b"\xff": "inf"}
    redis.zadd(KEYS.workers, members)
    for key in wrong:
        _ = redis.set(key, "x") if kind == "string" else redis.rpush(key, "x")
    found = await seen(views(redis_url))
    assert [one.task_id for one in found.streams] == [hand.task_id]
    assert {one.name for one in found.workers} == {"router-worker-7@host", "w", "\ufffd"}
    assert not found.failures


@pytest.mark.parametrize("index", [KEYS.due, KEYS.workers, KEYS.dead])
async def test_an_index_that_is_none_hides_the_rest_no_more_than_it_must(
    views: Callable[..., View], redis_url: str, redis: Redis, index: str
) -> None:
    hand = running(redis, "one")
    sign(redis, "router-worker-7@host", hand.task_id)
    bury(redis)
    redis.delete(index)
    redis.set(index, "no index")
    found = await seen(views(redis_url))
    assert [one.task_id for one in found.streams] == [hand.task_id]
    assert len(found.failures) == (index != KEYS.dead)


# --- Redis away -------------------------------------------------------------------------------


async def test_a_redis_that_is_away_is_named_and_one_that_is_back_is_read(
    views: Callable[..., View], start_valkey: StartValkey
) -> None:
    server = start_valkey(persistence=False)
    port = urlsplit(server.url).port or 0
    view = views(server.url)
    assert (await view.read()).open_tasks == 0
    server.stop()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="Redis cannot be used") as caught:
            await view.read()
        assert "REDIS_URL" in str(caught.value)
    start_valkey(port=port, persistence=False)
    assert (await view.read()).open_tasks == 0


async def test_a_redis_that_hangs_is_waited_for_no_longer_than_its_time_out(
    views: Callable[..., View], start_valkey: StartValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_module, "TIMEOUT_S", 2.0)
    server = start_valkey(persistence=False)
    view = views(server.url)
    await view.read()
    with Redis.from_url(server.url) as client:
        client.client_pause(60_000)
    with pytest.raises(StoreUnavailable, match="did not answer in time"):
        await view.read()


# --- what doctor looks at beside it -----------------------------------------------------------


async def test_how_tasks_are_protected_is_read_and_nothing_of_what_they_say(
    views: Callable[..., View], redis_url: str, redis: Redis
) -> None:
    put(redis, sealed := secret_task(), protection(NEW, WEB))
    put(redis, plain := secret_task(), protection())
    redis.set(KEYS.record(other := new_id()), "no record")
    redis.hset(KEYS.record(long := new_id()), "signature", "x" * 100_000)
    found = await views(redis_url).marks([sealed.id, plain.id, other, long, new_id()])
    assert [(key_id_of(mark.head), signer(mark.signature)) for mark in found] == [
        (key_id(NEW).hex(), "web"),
        (None, None),
        (None, None),
        (None, None),
    ]
    assert max(len(mark.head) for mark in found) == view_module.HEAD
    assert max(len(mark.signature) for mark in found) == view_module.SIGNATURE
    assert await views(redis_url).marks([]) == []


async def test_the_moment_is_read_at_which_the_first_task_is_due(
    views: Callable[..., View], redis_url: str, redis: Redis
) -> None:
    view = views(redis_url)
    assert (await view.read()).soonest_ms is None
    redis.zadd(KEYS.due, {new_id(): 7, new_id(): 5})
    assert (await view.read()).soonest_ms == 5
