"""Redis goes away, is full or slow: no call is lost, doubled or left without a word."""

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis as redis_library

from api_contracts.client import Client
from api_contracts.events import Chunk
from api_contracts.names import Keys
from tests.conftest import StartValkey, StartWorker
from tests.parts import answers
from tests.parts.cable import Cable
from tests.parts.following import ended, log_of, result_of, until_over
from tests.parts.gate import Do, Gate, Pause, stream, whole
from tests.parts.wait import until
from worker import embedded

QUESTION = [{"role": "user", "content": "hello"}]
HEAD, *REST = answers.openai("a", "b", "c", "d")
ANSWER = whole({"choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]})
#: A lease that ends soon, and back-off that does not keep the test waiting.
QUICK: Any = {
    "ROUTER_WORKER_LEASE_S": "2",
    "ROUTER_WORKER_HEARTBEAT_S": "0.5",
    "ROUTER_WORKER_RETRY_BASE_S": "0.05",
}
LONG: Any = QUICK | {"ROUTER_WORKER_LEASE_S": "8"}


@pytest.fixture
def server(start_valkey: StartValkey) -> embedded.EmbeddedServer:
    """A server of the test's own, which keeps its data."""
    return start_valkey()


@pytest.fixture
def client(server: embedded.EmbeddedServer) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


@pytest.fixture(name="redis")
def own_redis(server: embedded.EmbeddedServer) -> Iterator[redis_library.Redis]:
    with redis_library.Redis.from_url(server.url) as redis:
        yield redis


def chunked(redis: redis_library.Redis, task_id: str, count: int = 1) -> None:
    """Wait until the log has so many chunks."""
    until(
        lambda: sum(isinstance(event, Chunk) for event in log_of(redis, task_id)) >= count,
        f"{count} chunks",
    )


def assert_whole(redis: redis_library.Redis, task_id: str) -> None:
    """The log has one attempt, each event once and in order, and one ending."""
    places = [event.id for event in log_of(redis, task_id)]
    assert places == ["0-1", *(f"1-{seq}" for seq in range(len(places) - 1))]


def test_a_call_lives_through_a_cut_that_is_shorter_than_its_lease(
    gate: Gate,
    server: embedded.EmbeddedServer,
    redis: redis_library.Redis,
    client: Client,
    worker_process: StartWorker,
) -> None:
    gate.answer(stream(HEAD, *(step for one in REST for step in (Pause(0.7), one))))
    cable = Cable(urlsplit(server.url).port or 0)
    worker_process(gate.url, REDIS_URL=cable.url, **LONG)
    task = client.chat("m", QUESTION, stream=True).id
    chunked(redis, task)
    with cable.silent():
        time.sleep(2.0)  # the cut itself: shorter than the lease
    assert len(result_of(redis, task).attempts) == 1
    assert len(gate.requests) == 1
    assert_whole(redis, task)
    cable.close()


def test_a_redis_that_is_away_for_longer_than_a_lease_costs_the_call_and_no_death(
    gate: Gate,
    server: embedded.EmbeddedServer,
    client: Client,
    worker_process: StartWorker,
    start_valkey: StartValkey,
) -> None:
    gate.answer(stream(HEAD, Do.HANG), stream(HEAD, *REST))
    worker = worker_process(gate.url, REDIS_URL=server.url, **QUICK)
    task = client.chat("m", QUESTION, stream=True).id
    with redis_library.Redis.from_url(server.url) as before:
        chunked(before, task)
    server.stop()
    until(lambda: worker.samples("calls_in_flight")["mode=stream"] == 0, "the call is stopped")
    assert worker.get("/readyz")[0] == 503
    start_valkey(port=server.port)
    with redis_library.Redis.from_url(server.url) as redis:
        result = result_of(redis, task, within=30)
        assert [attempt.outcome for attempt in result.attempts] == ["store", "completed"]
        assert redis.hget(Keys().record(task), "deaths") is None
    assert len(gate.requests) == 2
    until(lambda: worker.get("/readyz")[0] == 200, "the worker is ready again")
    assert "Deprecation" not in worker.output


def test_a_stream_that_a_full_redis_refuses_fails_as_store_and_is_made_again(
    gate: Gate,
    server: embedded.EmbeddedServer,
    redis: redis_library.Redis,
    client: Client,
    worker_process: StartWorker,
) -> None:
    full = Pause(60)
    gate.answer(stream(HEAD, full, *REST, Do.HANG), stream(HEAD, *REST))
    worker = worker_process(gate.url, REDIS_URL=server.url, **LONG)
    task = client.chat("m", QUESTION, stream=True).id
    chunked(redis, task)
    redis.config_set("maxmemory", 1)
    full.over.set()
    until(lambda: worker.samples("calls_in_flight")["mode=stream"] == 0, "the call is stopped")
    redis.config_set("maxmemory", 0)
    result = result_of(redis, task)
    assert [attempt.outcome for attempt in result.attempts] == ["store", "completed"]
    assert [event.type for event in log_of(redis, task)][-1] == "completed"


def test_an_answer_that_a_full_redis_cannot_take_is_kept_until_it_can(
    gate: Gate,
    server: embedded.EmbeddedServer,
    redis: redis_library.Redis,
    client: Client,
    worker_process: StartWorker,
) -> None:
    full = Pause(60)
    gate.answer((full, *ANSWER))
    worker = worker_process(gate.url, REDIS_URL=server.url, **LONG)
    task = client.chat("m", QUESTION).id
    until(lambda: gate.requests, "the call is made")
    redis.config_set("maxmemory", 1)
    full.over.set()
    until(lambda: worker.samples("calls_total"), "the call has ended")
    redis.config_set("maxmemory", 0)
    assert len(result_of(redis, task).attempts) == 1
    assert len(gate.requests) == 1


def test_a_redis_that_is_full_for_long_gets_a_failure_in_place_of_the_answer(
    gate: Gate,
    server: embedded.EmbeddedServer,
    redis: redis_library.Redis,
    client: Client,
    worker_process: StartWorker,
) -> None:
    """And the task is a dead letter, with its request, for somebody to replay."""
    full = Pause(60)
    gate.answer((full, *ANSWER))
    worker = worker_process(
        gate.url, REDIS_URL=server.url, ROUTER_WORKER_RETRY_MAX_ATTEMPTS="1", **QUICK
    )
    task = client.chat("m", QUESTION).id
    until(lambda: gate.requests, "the call is made")
    redis.config_set("maxmemory", 1)
    full.over.set()
    until(lambda: "Redis refuses the end of" in worker.output, "the answer is given up")
    until(lambda: "its memory is full" in worker.get("/readyz")[1], "its page says why")
    assert worker.get("/readyz")[0] == 503
    redis.config_set("maxmemory", 0)
    until(lambda: worker.get("/readyz")[0] == 200, "the worker is ready again")
    ending = ended(redis, task)[-1]
    assert ending.type == "failed"
    assert ending.error.code == "store"
    assert redis.zscore(Keys().dead, task) is not None
    assert redis.hexists(Keys().record(task), "request")


def test_a_slow_redis_delays_and_breaks_nothing(
    gate: Gate,
    server: embedded.EmbeddedServer,
    redis: redis_library.Redis,
    client: Client,
    worker_process: StartWorker,
) -> None:
    gate.answer(stream(HEAD, *(step for one in REST for step in (Pause(0.3), one))))
    worker_process(gate.url, REDIS_URL=server.url, **LONG)
    task = client.chat("m", QUESTION, stream=True).id
    chunked(redis, task)
    redis.client_pause(2000)
    assert len(result_of(redis, task).attempts) == 1
    assert_whole(redis, task)


def test_a_worker_that_slept_past_its_lease_writes_nothing_and_stops_its_call(
    gate: Gate,
    server: embedded.EmbeddedServer,
    redis: redis_library.Redis,
    client: Client,
    worker_process: StartWorker,
) -> None:
    asleep = Pause(60)
    gate.answer(stream(HEAD, asleep, *REST, Do.HANG), stream(HEAD, *REST))
    sleeper = worker_process(gate.url, REDIS_URL=server.url, **QUICK)
    task = client.chat("m", QUESTION, stream=True).id
    chunked(redis, task)
    # Behind a renewal, so that none is on its way: it would time out as the sleeper wakes, and the
    # attempt end before it has anything to write.
    key = Keys().record(task)
    claimed = redis.hget(key, "lease_until")
    until(lambda: redis.hget(key, "lease_until") != claimed, "the lease is renewed")
    sleeper.pause()
    # What he has to write when he wakes.
    asleep.over.set()
    worker_process(gate.url, REDIS_URL=server.url, **QUICK)
    result = result_of(redis, task, within=40)
    until_over(redis, task)
    before = redis.xrange(Keys().events(task)), redis.hgetall(Keys().record(task))
    sleeper.resume()
    until(lambda: sleeper.samples("leases_lost_total") == {"": 1.0}, "it notices")
    assert sleeper.samples("calls_in_flight")["mode=stream"] == 0
    assert sleeper.samples("fenced_writes_total")[""] >= 1
    assert [attempt.outcome for attempt in result.attempts] == ["interrupted", "completed"]
    assert (redis.xrange(Keys().events(task)), redis.hgetall(Keys().record(task))) == before
