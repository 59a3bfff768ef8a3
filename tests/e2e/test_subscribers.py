"""Subscribers of real tasks that stop reading, and how long the log stays that they go on from."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import redis as redis_library

from api_contracts.client import AsyncClient, Client
from api_contracts.client.text import text_of_chunk, text_of_response
from api_contracts.events import Chunk, Event, Started
from tests.conftest import StartValkey, StartWorker
from tests.parts import answers
from tests.parts.following import KEYS, ended, log_of, result_of
from tests.parts.gate import Gate, Pause, stream, whole
from tests.parts.scripts import wait_for_subscriber
from tests.parts.sentinels import Sentinels
from tests.parts.wait import until
from tests.parts.worker import Worker

QUESTION: Final[list[Any]] = [{"role": "user", "content": "?"}]
#: A stream of 20 MiB: more than the buffers of both sockets hold (10 MiB here) and Redis's own.
TEXTS: Final = [f"{number}:" + "x" * 40_000 for number in range(500)]
#: Between two chunks of a stream that lasts while a failover does.
LATER: Final = Pause(0.2)
#: A refusal whose retry is long enough in coming for somebody to look.
BUSY: Final = whole(
    {"error": {"message": "busy", "type": "overloaded"}}, status=503, retry_after="2"
)


@pytest.fixture
def redis(start_valkey: StartValkey) -> Iterator[redis_library.Redis]:
    """A server that cuts off whoever lets 256 KiB wait."""
    server = start_valkey(persistence=False)
    with redis_library.Redis.from_url(server.url) as client:
        client.config_set("client-output-buffer-limit", "pubsub 256kb 0 0")
        yield client


@pytest.fixture
def url(redis: redis_library.Redis) -> str:
    return f"redis://127.0.0.1:{redis.connection_pool.connection_kwargs['port']}/0"


@pytest.fixture
def worker(worker_process: StartWorker, gate: Gate, url: str) -> Worker:
    return worker_process(gate.url, REDIS_URL=url, ROUTER_WORKER_RETRY_BASE_S="0.05")


@pytest.fixture
def producer(worker: Worker, url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@contextmanager
def not_reading(url: str, channel: str) -> Iterator[None]:
    """Subscribe to a channel, and read nothing of it; what comes waits at Redis."""
    with socket.socket() as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        end.connect(("127.0.0.1", urlsplit(url).port))
        end.sendall(f"SUBSCRIBE {channel}\r\n".encode())
        yield


def listeners(redis: redis_library.Redis, task_id: str) -> int:
    counted: Any = redis.pubsub_numsub(KEYS.live(task_id))
    return int(counted[0][1])


@pytest.mark.parametrize("limit", ["256kb", "0"], ids=["cut off", "never cut off"])
def test_a_subscriber_that_stops_reading_slows_no_stream(
    producer: Client, gate: Gate, redis: redis_library.Redis, url: str, limit: str
) -> None:
    """Redis cuts him off, or keeps it all for him: the worker hears of neither."""
    redis.config_set("client-output-buffer-limit", f"pubsub {limit} 0 0")
    took_ms: dict[int, list[int]] = {0: [], 4: []}
    for deaf in (0, 4, 0, 4):
        unheard = Pause(60)
        gate.answer(stream(unheard, *answers.openai(*TEXTS)))
        handle = producer.chat("m", QUESTION, stream=True)
        with ExitStack() as stack:
            for _ in range(deaf):
                stack.enter_context(not_reading(url, KEYS.live(handle.id)))
            wait_for_subscriber(redis, handle.id, deaf)
            unheard.over.set()
            result = result_of(redis, handle.id, within=60)
            assert listeners(redis, handle.id) == (deaf if limit == "0" else 0)
        assert [len(result.attempts), len(log_of(redis, handle.id))] == [1, len(TEXTS) + 4]
        took_ms[deaf].append(result.timings.total_ms - (result.timings.first_chunk_ms or 0))
    # The better of two runs each, on a noisy machine: a worker that waited for him would wait for
    # ever.
    assert min(took_ms[4]) < 3 * min(took_ms[0]) + 2_000, took_ms


async def paused(url: str, task_id: str, cut_off: Callable[[], None]) -> list[Event]:
    """Follow a task, and stop in mid-iteration until Redis has had enough."""
    async with AsyncClient(url) as client:
        events = client.stream(task_id)
        seen = [await anext(events) for _ in range(3)]
        await asyncio.to_thread(cut_off)
        return [*seen, *[event async for event in events]]


def paused_sync(url: str, task_id: str, cut_off: Callable[[], None]) -> list[Event]:
    with Client(url) as client:
        events = client.stream(task_id)
        seen = [next(events) for _ in range(3)]
        cut_off()
        return [*seen, *events]


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_a_subscriber_that_stops_reading_misses_nothing_when_he_goes_on(
    producer: Client, gate: Gate, redis: redis_library.Redis, url: str, kind: str
) -> None:
    pieces, stopped = answers.openai(*TEXTS), Pause(60)
    gate.answer(stream(pieces[0], stopped, *pieces[1:]))
    handle = producer.chat("m", QUESTION, stream=True)

    def cut_off() -> None:
        wait_for_subscriber(redis, handle.id)
        stopped.over.set()
        ended(redis, handle.id, within=60)
        assert listeners(redis, handle.id) == 0, "he read too much"

    if kind == "Client":
        seen = paused_sync(url, handle.id, cut_off)
    else:
        seen = asyncio.run(paused(url, handle.id, cut_off))
    assert seen == log_of(redis, handle.id)
    assert [event.id for event in seen[2:]] == [f"1-{seq}" for seq in range(1, len(TEXTS) + 3)]


def test_record_and_log_never_expire_while_their_task_goes_on_and_do_behind_it(
    producer: Client, gate: Gate, redis: redis_library.Redis
) -> None:
    pieces, looked = answers.openai("a", "b"), Pause(60)
    gate.answer(BUSY, stream(pieces[0], looked, *pieces[1:]))
    handle = producer.chat("m", QUESTION, stream=True, options={"result_ttl": 600})
    seen: dict[str, set[tuple[int, int]]] = {}

    def over() -> bool:
        with redis.pipeline() as at_once:
            at_once.hget(KEYS.record(handle.id), "state")
            at_once.ttl(KEYS.record(handle.id))
            at_once.ttl(KEYS.events(handle.id))
            state, record, log = at_once.execute()
        seen.setdefault(state.decode(), set()).add((record, log))
        if state == b"running" and "retrying" in seen:
            looked.over.set()
        return bool(state == b"completed")

    until(over, "the task has ended")
    ((record, log),) = seen.pop("completed")
    assert {"retrying", "running"} <= set(seen)
    assert all(ttls == {(-1, -1)} for ttls in seen.values()), seen
    assert record == log
    assert 590 <= log <= 600


@pytest.mark.parametrize("lose", [False, True], ids=["nothing lost", "its end lost"])
def test_a_stream_that_runs_while_its_master_dies_is_seen_whole(
    sentinels: Sentinels, gate: Gate, worker_process: StartWorker, *, lose: bool
) -> None:
    """Whether the call goes on or is made again: what stands there at the end is the answer."""
    slow = [step for piece in answers.openai(*"abcdefghijklmnopqrst") for step in (piece, LATER)]
    gate.answer(stream(*slow), stream(*slow))
    worker_process(gate.url, REDIS_URL=sentinels.url)
    with (
        Client(sentinels.url) as client,
        redis_library.Redis.from_url(sentinels.master.url) as old,
        redis_library.Redis.from_url(sentinels.replica.url) as replica,
    ):

        def part() -> None:
            """Let the replica get no more."""
            replica.config_set("masterauth", "wrong")
            old.config_set("requirepass", "right")
            old.client_kill_filter(_type="replica")

        at: dict[str, Callable[[], None]] = {"1-5": sentinels.kill_master}
        if lose:
            at["1-3"] = part
        handle = client.chat("m", QUESTION, stream=True)
        shown: list[str] = []
        for event in handle:
            if isinstance(event, Started) and event.resets:
                shown = []
            if isinstance(event, Chunk):
                shown.append(text_of_chunk(event.data))
            at.pop(event.id, lambda: None)()  # once: what is lost is shown again
        answer = handle.result()
    assert "".join(shown) == text_of_response(answer.response) == "abcdefghijklmnopqrst"
    assert len(answer.attempts) == len(gate.requests)
    assert len(gate.requests) == 2 or not lose, "the log lacked what the worker had written"
