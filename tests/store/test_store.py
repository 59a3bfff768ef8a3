"""The store on a real server: what a writer leaves arrives once and in order, whatever is cut."""

import asyncio
import base64
import gc
import json
import time
import weakref
from typing import Any

import pytest
from redis import OutOfMemoryError, Redis
from redis.asyncio import Redis as AsyncRedis

from api_contracts.client.submission import RING_AGAIN_MS
from api_contracts.errors import ErrorCode, TaskError
from api_contracts.names import Queue, State
from tests.conftest import StartValkey
from tests.parts.cable import Cable
from tests.parts.scripts import KEYS, LEASE_MS, Scripts, a_task, chunk, ending, endings, types
from tests.parts.wait import until_async
from tests.store.conftest import StartStore, stays
from worker import pump as pump_module
from worker import writer as writer_module
from worker.claim import Claim, NotClaimed
from worker.look import Word
from worker.pump import Closed
from worker.store import Refusal, Store
from worker.store.queues import DOORBELL_LIMIT
from worker.writer import Stop, Stopped, Writer

ERROR = TaskError(code=ErrorCode.INVALID_REQUEST, message="what is this?", retryable=False)


def now_ms() -> int:
    return int(time.time() * 1000)


async def begun(store: Store) -> Writer:
    """A task of its own, claimed."""
    task = a_task()
    assert await store.create(task, now_ms())
    claim = await store.claim(task.id, "")
    assert isinstance(claim, Claim)
    return Writer(store, claim)


def say(writer: Writer, count: int = 1) -> None:
    for _ in range(count):
        writer.append([chunk(writer.claim.task_id, writer.attempt, writer.seq + 1)])


async def end(store: Store, writer: Writer, state: State = State.COMPLETED) -> bool:
    """End the attempt behind what it has said."""
    task_id, place = writer.claim.task_id, f"{writer.attempt}-{writer.seq + 1}"
    token = writer.claim.token
    return await store.settle(task_id, place, token, ending(task_id, place, state), state, {}, 60)


def assert_whole(scripts: Scripts, writer: Writer, chunks: int) -> None:
    """The log has the whole attempt, each event once and in order, and its ending."""
    places = [place for place, _ in scripts.log(writer.claim.task_id)]
    assert places == ["0-1", *(f"1-{seq}" for seq in range(chunks + 2))]


async def test_a_writer_that_has_ended_leaves_at_once(
    start_store: StartStore, redis_url: str
) -> None:
    """It holds its request, which may have 32 MiB; garbage in cycles is looked for seldom."""
    store = await start_store(redis_url)
    gc.disable()
    try:
        writer = await begun(store)
        say(writer, 3)
        assert await end(store, writer)
        gone = weakref.ref(writer)
        del writer
        assert gone() is None
    finally:
        gc.enable()


async def test_large_events_go_in_several_calls(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    """None holds Redis up for long, however many came together."""
    store = await start_store(redis_url)
    writer = await begun(store)
    redis.config_resetstat()
    data = b'"%b"' % bytes(b"x" * 32 * 1024)
    writer.append([chunk(writer.claim.task_id, 1, seq, data) for seq in range(1, 101)])
    await store.link.ping()
    assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == 4
    assert await end(store, writer)


async def test_events_left_together_go_in_one_call(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    store = await start_store(redis_url)
    writer = await begun(store)
    redis.config_resetstat()
    say(writer, 300)
    await store.link.ping()
    say(writer, 5)
    assert await end(store, writer)
    calls = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert calls == 3, "two of append.lua, one of settle.lua"
    assert_whole(Scripts(redis), writer, 305)


async def test_writers_side_by_side_keep_their_order(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    store = await start_store(redis_url)
    writers = [await begun(store) for _ in range(20)]
    for turn in range(50):
        for writer in writers:
            say(writer)
        if turn % 7 == 0:
            await store.link.ping()
    assert all(await asyncio.gather(*(end(store, writer) for writer in writers)))
    for writer in writers:
        assert_whole(Scripts(redis), writer, 50)


async def test_a_lost_reply_neither_loses_nor_doubles_anything(
    start_store: StartStore, cable: Cable, redis: Redis
) -> None:
    """Every step of a task's life, each with its reply lost and its batch sent again."""
    store = await start_store(cable.url)
    cable.lose_replies()
    writer = await begun(store)
    for _ in range(3):
        cable.lose_replies()
        say(writer, 2)
        await store.link.ping()
    cable.lose_replies()
    assert await store.renew([(writer.claim.task_id, writer.claim.token)]) == []
    cable.lose_replies()
    say(writer)
    assert await end(store, writer)
    assert cable.lost_all
    assert_whole(Scripts(redis), writer, 7)
    assert await store.claim(writer.claim.task_id, "") is NotClaimed.ENDED


async def test_a_claim_whose_reply_is_lost_costs_no_attempt(
    start_store: StartStore, cable: Cable, redis: Redis
) -> None:
    store = await start_store(cable.url)
    task = a_task()
    await store.create(task, now_ms())
    cable.lose_replies(2)
    claim = await store.claim(task.id, "")
    assert cable.lost_all
    assert isinstance(claim, Claim)
    assert claim.attempt == 1
    assert types(Scripts(redis).log(task.id)) == ["queued", "started"]


async def test_a_claim_is_looked_after_from_its_first_moment(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    """A task that has long waited is not due to be looked at for as long again."""
    store = await start_store(redis_url)
    task = a_task()
    await store.create(task, now_ms())
    hours: Any = {task.id: now_ms() + 10 * 3_600_000}
    redis.zadd(KEYS.due, hours)
    assert isinstance(await store.claim(task.id, ""), Claim)
    due: Any = redis.zscore(KEYS.due, task.id)
    assert due <= now_ms() + LEASE_MS


async def test_a_claim_lets_nobody_look_later_than_was_planned(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    store = await start_store(redis_url)
    task = a_task()
    await store.create(task, now_ms())
    before = redis.zscore(KEYS.due, task.id)
    assert isinstance(await store.claim(task.id, ""), Claim)
    assert redis.zscore(KEYS.due, task.id) == before


async def test_connections_that_are_killed_at_any_moment_lose_and_double_nothing(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    store = await start_store(redis_url)
    writers = [await begun(store) for _ in range(10)]
    killed = 0

    async def speak(writer: Writer) -> bool:
        while killed < 6 or writer.seq <= 100:
            say(writer)
            await asyncio.sleep(0.001)
        return await end(store, writer)

    speaking = asyncio.gather(*(speak(writer) for writer in writers))
    async with AsyncRedis.from_url(redis_url) as admin:
        while not speaking.done():
            killed += await admin.client_kill_filter(_type="normal", skipme=True)
            await asyncio.sleep(0.03)
    assert all(await speaking)
    for writer in writers:
        assert writer.seq > 100
        assert_whole(Scripts(redis), writer, writer.seq)


async def test_scripts_that_redis_has_forgotten_are_loaded_again(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    store = await start_store(redis_url)
    writer = await begun(store)
    for _ in range(3):
        redis.script_flush()
        say(writer, 2)
        await store.link.ping()
    redis.script_flush()
    assert await end(store, writer)
    assert_whole(Scripts(redis), writer, 6)


async def test_a_batch_of_which_redis_knows_only_the_later_scripts_keeps_its_order(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    """As when another worker loads them between two commands of ours."""
    store = await start_store(redis_url)
    writer = await begun(store)
    redis.script_flush()
    Scripts(redis).settle("of no task", "1-1", State.FAILED)
    say(writer, 3)
    assert await end(store, writer)
    assert_whole(Scripts(redis), writer, 3)


async def test_a_redis_that_comes_back_gets_what_gathered(
    start_store: StartStore, start_valkey: StartValkey
) -> None:
    server = start_valkey()
    store = await start_store(server.url)
    writer = await begun(store)
    say(writer, 2)
    await store.link.ping()
    server.stop()
    say(writer, 2)
    server = await asyncio.to_thread(start_valkey, port=server.port)
    say(writer, 2)
    assert await end(store, writer)
    with Redis.from_url(server.url) as client:
        assert_whole(Scripts(client), writer, 6)


async def test_a_store_that_closes_while_redis_is_away_tells_every_caller(
    start_store: StartStore, start_valkey: StartValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump_module, "CLOSE_S", 0.1)
    server = start_valkey(persistence=False)
    store = await start_store(server.url)
    writer = await begun(store)
    server.stop()
    say(writer)
    asked = asyncio.create_task(store.link.ping())
    store.pump.close()
    with pytest.raises(Closed):
        await asked
    assert (await writer.stopped).stop is Stop.STORE
    assert store.pump.buffered == 0
    with pytest.raises(Closed):
        await store.link.ping()


async def test_more_events_than_the_buffer_takes_stop_the_attempt(
    start_store: StartStore, start_valkey: StartValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "BUFFER_LIMIT", 10_000)
    server = start_valkey()
    store = await start_store(server.url)
    writer, other = await begun(store), await begun(store)
    server.stop()
    while not writer.stopped.done():
        say(writer)
    assert store.pump.buffered > 10_000
    assert (await writer.stopped).stop is Stop.STORE
    assert not other.stopped.done(), "it said nothing"
    server = await asyncio.to_thread(start_valkey, port=server.port)
    assert await end(store, writer, State.FAILED)
    assert store.pump.buffered == 0


async def test_a_server_that_only_reads_is_waited_for(
    start_store: StartStore, start_valkey: StartValkey
) -> None:
    """A master that was demoted takes no writes until it is the master again."""
    server = start_valkey(persistence=False)
    store = await start_store(server.url)
    writer = await begun(store)
    with Redis.from_url(server.url) as admin:
        admin.replicaof("127.0.0.1", "1")
        say(writer, 2)
        ended = asyncio.create_task(end(store, writer))
        await until_async(lambda: store.pump.trouble == "ReadOnlyError", "trouble")
        admin.replicaof("NO", "ONE")
        assert await ended
        assert_whole(Scripts(admin), writer, 2)
    assert store.pump.trouble is None


async def test_a_writer_learns_that_its_attempt_is_another_s(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    store = await start_store(redis_url)
    writer = await begun(store)
    Scripts(redis).set(writer.claim.task_id, lease_until=1)
    assert isinstance(await store.claim(writer.claim.task_id, ""), Claim)
    say(writer, 3)
    assert await writer.stopped == Stopped(Stop.GONE)
    assert not await end(store, writer)
    assert store.fenced == 4
    held = (writer.claim.task_id, writer.claim.token)
    assert await store.renew([held]) == [writer.claim.task_id]
    assert types(Scripts(redis).log(writer.claim.task_id)) == ["queued", "started", "started"]


async def test_what_redis_refused_is_not_skipped_over(
    start_store: StartStore, start_valkey: StartValkey
) -> None:
    """Full memory refuses a chunk; there is room again before the next one and the ending."""
    server = start_valkey(persistence=False)
    store = await start_store(server.url)
    writer = await begun(store)
    with Redis.from_url(server.url) as admin:
        say(writer, 2)
        await store.link.ping()
        admin.config_set("maxmemory", 1)
        say(writer, 2)
        await store.link.ping()
        admin.config_set("maxmemory", 0)
        say(writer, 2)
        with pytest.raises(store.errors, match="lacks events before 1-7"):
            await end(store, writer)
        stopped = await writer.stopped
        assert stopped.stop is Stop.STORE
        assert "memory" in stopped.message
        assert [place for place, _ in Scripts(admin).log(writer.claim.task_id)][-1] == "1-2"
        assert await end(store, writer, State.FAILED)


async def test_leases_are_renewed_together_and_noted(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    store = await start_store(redis_url)
    writers = [await begun(store) for _ in range(50)]
    gone = a_task()
    held = [(writer.claim.task_id, writer.claim.token) for writer in writers]
    assert await store.renew([*held, (gone.id, "nobody's")]) == [gone.id]
    for task_id, _ in held:
        until = float(Scripts(redis).record(task_id)[b"lease_until"])
        assert redis.zscore(KEYS.due, task_id) == until
    assert redis.zscore(KEYS.due, gone.id) is None


async def test_a_foreign_task_is_put_on_record_once(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    store = await start_store(redis_url)
    task = a_task("hello")
    at = now_ms()
    assert await store.create(task, at) == (task.id, True)
    assert await store.create(task, at + 1) == (task.id, True)
    other = a_task("bye").model_copy(update={"id": task.id})
    assert await store.create(other, at) == (task.id, False)
    assert types(Scripts(redis).log(task.id)) == ["queued"]
    assert redis.zscore(KEYS.due, task.id) == at + RING_AGAIN_MS


@pytest.mark.parametrize("lost", [0, 1, 2])
async def test_a_refusal_ends_the_task_where_its_producer_looks(
    start_store: StartStore, cable: Cable, redis: Redis, lost: int
) -> None:
    """However many replies are lost on the way."""
    store, task, scripts = await start_store(cable.url), a_task(), Scripts(redis)
    cable.lose_replies(lost)
    assert await store.refuse(task.id, "chat", ERROR, now_ms(), "a refusal") is Refusal.NEW
    assert await store.refuse(task.id, "chat", ERROR, now_ms(), "a refusal") is Refusal.KNOWN
    assert types(scripts.log(task.id)) == ["queued", "failed"]
    assert scripts.record(task.id)[b"state"] == b"failed"
    assert json.loads(scripts.record(task.id)[b"error"])["message"] == "what is this?"
    assert scripts.ttls(task.id) == stays(scripts, 86_400)
    assert redis.zscore(KEYS.due, task.id) is None
    counts: Any = redis.hgetall(KEYS.tally)
    assert counts == {b"a refusal": b"1"}


@pytest.mark.parametrize(
    "said", [{"state": "running"}, {"digest": ""}], ids=["as ever", "nothing of its content"]
)
async def test_a_refusal_touches_no_task_of_that_id(
    start_store: StartStore, redis_url: str, redis: Redis, said: dict[str, str]
) -> None:
    """Nor one that says nothing of its content, as a refusal itself does."""
    store = await start_store(redis_url)
    writer = await begun(store)
    scripts, task_id = Scripts(redis), writer.claim.task_id
    scripts.set(task_id, **said)
    before = scripts.record(task_id), scripts.log(task_id), redis.zscore(KEYS.due, task_id)
    assert await store.refuse(task_id, "chat", ERROR, now_ms(), "a refusal") is Refusal.TAKEN
    after = scripts.record(task_id), scripts.log(task_id), redis.zscore(KEYS.due, task_id)
    assert after == before
    assert not redis.exists(KEYS.tally)


async def test_a_completed_task_needs_its_request_no_more(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    store = await start_store(redis_url)
    for state, kept in ((State.COMPLETED, False), (State.FAILED, True), (State.CANCELLED, True)):
        writer = await begun(store)
        assert await end(store, writer, state)
        scripts, task_id = Scripts(redis), writer.claim.task_id
        assert (b"request" in scripts.record(task_id)) is kept
        assert endings(scripts.log(task_id)) == [state]


def doorbell(message: bytes) -> tuple[str, str, list[object]]:
    """Celery's name for the work, the queue that the message names, and the arguments."""
    envelope = json.loads(message)
    body = json.loads(base64.b64decode(envelope["body"]))
    queue = envelope["properties"]["delivery_info"]["routing_key"]
    return envelope["headers"]["task"], queue, body[0]


@pytest.mark.parametrize("queue", list(Queue))
async def test_a_doorbell_carries_the_id_and_is_looked_after(
    start_store: StartStore, redis_url: str, redis: Redis, queue: Queue
) -> None:
    store, task, at = await start_store(redis_url), a_task(), now_ms()
    await store.duties.ring(task.id, "vision", queue, at + RING_AGAIN_MS)
    messages: Any = redis.lrange(queue, 0, -1)
    assert [doorbell(message) for message in messages] == [("router.vision", queue, [task.id])]
    assert redis.zscore(KEYS.due, task.id) == at + RING_AGAIN_MS
    fleet = await store.duties.fleet()
    assert fleet.depths == {one: int(one is queue) for one in Queue}
    assert 0 <= fleet.ages[queue] < 5
    assert [fleet.ages[one] for one in Queue if one is not queue] == [0.0]
    assert (fleet.dead_letters, fleet.open_tasks) == (0, 1)


async def test_one_worker_is_elected_until_its_term_is_over(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    store = await start_store(redis_url)
    assert await store.duties.elected("one", 60_000)
    assert not await store.duties.elected("other", 60_000)
    assert await store.duties.elected("one", 50), "it may go on"
    await until_async(lambda: not redis.exists(KEYS.exporter), "the term is over")
    assert await store.duties.elected("other", 60_000)


async def be_elected(store: Store, worker: str) -> None:
    while True:
        await store.duties.elected(worker, 60_000)


async def test_who_resigns_leaves_the_office_to_others_though_its_pump_has_ended(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    first, second = [await start_store(redis_url) for _ in range(2)]
    assert await first.duties.elected("one", 60_000)
    first.pump.close()
    with pytest.raises(Closed):
        await be_elected(first, "one")
    await second.duties.resign("other")
    assert redis.exists(KEYS.exporter), "only who has the office can leave it"
    redis.script_flush()
    await first.duties.resign("one")
    assert await second.duties.elected("other", 60_000)


async def test_how_long_a_foreign_message_waits_is_not_told(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    store = await start_store(redis_url)
    redis.lpush(Queue.BATCH, b'{"headers":{}}')
    fleet = await store.duties.fleet()
    assert (fleet.depths[Queue.BATCH], Queue.BATCH in fleet.ages) == (1, False)


async def test_a_large_message_that_waits_is_not_fetched_to_learn_its_age(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    store = await start_store(redis_url)
    redis.lpush(Queue.INTERACTIVE, b"x" * 4_000_000)
    before = redis.info("stats")["total_net_output_bytes"]
    fleet = await store.duties.fleet()
    assert redis.info("stats")["total_net_output_bytes"] - before < 100_000
    assert (fleet.depths[Queue.INTERACTIVE], Queue.INTERACTIVE in fleet.ages) == (1, False)


async def test_doorbells_ring_on_a_broker_of_their_own(
    start_store: StartStore, start_valkey: StartValkey, redis_url: str, redis: Redis
) -> None:
    server = start_valkey(persistence=False)
    store, task = await start_store(redis_url, server.url), a_task()
    await store.create(task, now_ms())
    await store.duties.ring(task.id, "chat", Queue.BATCH, now_ms())
    assert redis.llen(Queue.BATCH) == 0
    assert (await store.duties.fleet()).depths[Queue.BATCH] == 1
    with Redis.from_url(server.url) as broker:
        assert broker.keys() == [Queue.BATCH.encode()]


async def test_a_full_redis_makes_nobody_forget_a_task(
    start_store: StartStore, start_valkey: StartValkey
) -> None:
    server = start_valkey(persistence=False)
    store, task = await start_store(server.url), a_task()
    await store.create(task, now_ms())
    with Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(OutOfMemoryError):
            await store.duties.look([task.id])


async def test_one_spoilt_record_costs_no_other_lease(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    store, tasks = await start_store(redis_url), [a_task() for _ in range(3)]
    held = []
    for task in tasks:
        await store.create(task, now_ms())
        claim = await store.claim(task.id, "")
        assert isinstance(claim, Claim)
        held.append((task.id, claim.token))
    redis.set(KEYS.record(tasks[1].id), "no hash")
    assert await store.renew(held) == [tasks[1].id]


@pytest.mark.parametrize(
    "rung_at",
    [True, 10**15, 10**4000, -(10**4000), 1.5, "x", None],
    ids=["true", "future", "beyond", "before", "half", "text", "none"],
)
async def test_an_oldest_message_that_says_nonsense_rings_for_nobody_and_spoils_no_batch(
    start_store: StartStore, redis_url: str, redis: Redis, rung_at: object
) -> None:
    store = await start_store(redis_url)
    writer = await begun(store)
    task = a_task()
    await store.create(task, now_ms())
    redis.lpush(Queue.INTERACTIVE, json.dumps({"headers": {"rung_at": rung_at}}))
    looking = asyncio.create_task(store.duties.look([task.id]))
    while not looking.done():
        say(writer)
        await asyncio.sleep(0)
    (look,) = await looking
    assert look.word is Word.WAIT
    assert await end(store, writer)
    assert_whole(Scripts(redis), writer, writer.seq)


async def test_a_large_message_at_the_end_of_a_queue_is_not_read_as_a_doorbell(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    """Whoever waits for its place in a queue must not hold up every stream."""
    store = await start_store(redis_url)
    task = a_task()
    await store.create(task, now_ms())
    doorbell = {"headers": {"rung_at": now_ms() - 1_000}}
    redis.lpush(Queue.INTERACTIVE, json.dumps(doorbell))
    redis.hset(KEYS.record(task.id), "created_at", now_ms() - 60_000)
    redis.hset(KEYS.record(task.id), "due_at", now_ms() - 60_000)
    redis.lset(Queue.INTERACTIVE, -1, json.dumps(doorbell | {"body": "x" * DOORBELL_LIMIT}))
    (look,) = await store.duties.look([task.id])
    assert look.word is Word.WAIT
    redis.lset(Queue.INTERACTIVE, -1, json.dumps(doorbell))
    (look,) = await store.duties.look([task.id])
    assert look.word is Word.RING


async def test_what_is_no_tasks_id_leaves_the_list_of_what_is_due(
    start_store: StartStore, redis_url: str, redis: Redis
) -> None:
    """A doorbell with such an id would be obeyed by nobody."""
    store = await start_store(redis_url)
    junk: Any = {b"\xff\xfe": 1, "no id": 1, "": 1}
    redis.zadd(KEYS.due, junk)
    record: Any = {"state": "queued", "kind": "chat", "created_at": 1}
    redis.hset(KEYS.record("no id"), mapping=record)
    looks = await store.duties.look(await store.duties.take(10))
    assert [look.word for look in looks] == [Word.OVER] * 3
    for look in looks:
        await store.duties.over(look.task_id, "")
    assert redis.zcard(KEYS.due) == 0


async def test_a_command_that_cannot_be_packed_spoils_no_other(
    start_store: StartStore, redis_url: str
) -> None:
    store = await start_store(redis_url)
    asked = [store.pump.ask(*one) for one in (("SET", "a", 1), ("SET", "b", "\ud800"), ("PING",))]
    first, bad, last = await asyncio.gather(*asked, return_exceptions=True)
    assert (first, last) == (b"OK", b"PONG")
    assert isinstance(bad, UnicodeEncodeError)
