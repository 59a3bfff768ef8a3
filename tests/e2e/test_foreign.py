"""A foreign producer's message: on record before it is acknowledged, and run once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import redis as redis_library

from api_contracts.client import Client
from api_contracts.requests import new_id
from tests.conftest import StartValkey, StartWorker
from tests.parts import foreign
from tests.parts.cable import Cable
from tests.parts.following import KEYS, error_of, log_of, result_of
from tests.parts.gate import Gate, Pause, whole
from tests.parts.program import ROOT
from tests.parts.tasks import chat
from tests.parts.wait import until
from tests.parts.worker import Worker
from worker.app import VISIBILITY_TIMEOUT_S
from worker.reception import SHORTEST_TTL_S

GOOD = whole({"choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]})
#: How long a message may take to come again, in seconds: each worker looks for those that nobody
#: acknowledged every 10 s, and a Redis that was silent is asked again after 5 s.
AGAIN_S = 40.0


class Apart:
    """A Redis of records and another of queues, with a cable to each."""

    def __init__(self, start_valkey: StartValkey) -> None:
        self.records = start_valkey(persistence=False)
        self.queues = start_valkey(persistence=False)
        self.cable = Cable(self.queues.port)
        self.records_cable = Cable(self.records.port)
        self.redis = redis_library.Redis.from_url(self.records.url)
        self.broker = redis_library.Redis.from_url(self.queues.url)

    @property
    def settings(self) -> Any:
        return {"REDIS_URL": self.records_cable.url, "ROUTER_WORKER_BROKER_URL": self.cable.url}

    def close(self) -> None:
        os.kill(self.records.pid, signal.SIGCONT)
        self.redis.close()
        self.broker.close()
        self.cable.close()
        self.records_cable.close()

    @contextmanager
    def records_silent(self) -> Iterator[None]:
        """Let what is said to the records wait inside the block, and be heard behind it."""
        os.kill(self.records.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.records.pid, signal.SIGCONT)

    def let_time_pass(self) -> None:
        """Make what was taken look as if that were as long ago as matters."""
        tags: Any = self.broker.zrange(foreign.UNACKED_INDEX, 0, -1)
        for tag in tags:
            self.broker.zincrby(foreign.UNACKED_INDEX, -VISIBILITY_TIMEOUT_S, tag)

    @property
    def unacknowledged(self) -> int:
        count: Any = self.broker.hlen(foreign.UNACKED)
        return int(count)

    def wait_until_taken(self) -> None:
        """Wait until a worker has the one message, and has asked for another."""
        until(
            lambda: self.unacknowledged == 1 and _blocked(self.broker) == 1,
            "the message is taken",
        )


@pytest.fixture
def apart(start_valkey: StartValkey) -> Iterator[Apart]:
    apart = Apart(start_valkey)
    yield apart
    apart.close()


def test_a_worker_that_is_killed_before_the_record_is_written_loses_nothing(
    apart: Apart, gate: Gate, worker_process: StartWorker
) -> None:
    gate.answer(GOOD, GOOD)
    worker = worker_process(gate.url, **apart.settings)
    # What it says before it is killed is not to be heard later.
    with apart.records_cable.silent():
        task = foreign.send(apart.broker)
        apart.wait_until_taken()
        worker.kill()
    assert not apart.redis.exists(KEYS.record(task))
    apart.let_time_pass()
    worker_process(gate.url, **apart.settings)
    assert len(result_of(apart.redis, task, within=AGAIN_S).attempts) == 1
    assert len(gate.requests) == 1
    until(lambda: apart.unacknowledged == 0, "it is acknowledged")


def test_a_worker_that_is_killed_before_it_acknowledges_doubles_nothing(
    apart: Apart, gate: Gate, worker_process: StartWorker
) -> None:
    """The queues fall silent while the record is written, so that no word of it comes through."""
    gate.answer(GOOD, GOOD)
    worker = worker_process(gate.url, **apart.settings)
    with apart.records_silent():
        task = foreign.send(apart.broker)
        apart.wait_until_taken()
        silent = ExitStack()
        silent.enter_context(apart.cable.silent())
    with silent:
        first = result_of(apart.redis, task, within=AGAIN_S)
        worker.kill()
    assert apart.unacknowledged == 1
    apart.let_time_pass()
    worker_process(gate.url, **apart.settings)
    until(lambda: apart.unacknowledged == 0, "it came again", within=AGAIN_S)
    result_of(apart.redis, foreign.send(apart.broker), within=AGAIN_S)
    assert result_of(apart.redis, task) == first
    assert len(gate.requests) == 2


@pytest.mark.usefixtures("worker")
def test_what_a_foreign_task_leaves_stays_longer_than_its_message_may_come_again(
    gate: Gate, redis: redis_library.Redis
) -> None:
    gate.answer(GOOD)
    task = foreign.send(redis, options={"result_ttl": 1})
    result_of(redis, task)
    stays: Any = redis.ttl(KEYS.record(task))
    assert SHORTEST_TTL_S - 5 <= stays <= SHORTEST_TTL_S
    assert SHORTEST_TTL_S > 2 * VISIBILITY_TIMEOUT_S


def test_messages_outlive_restarts_of_the_broker_that_meet_them_unacknowledged(
    apart: Apart, gate: Gate, worker_process: StartWorker, start_valkey: StartValkey
) -> None:
    """With late acknowledgements of Celery's own, this ended the worker."""
    gate.answer(*[GOOD] * 20)
    queues = start_valkey(appendfsync="always")
    worker = worker_process(gate.url, **apart.settings | {"ROUTER_WORKER_BROKER_URL": queues.url})
    tasks = []
    with apart.records_silent(), redis_library.Redis.from_url(queues.url) as broker:
        for _ in range(3):
            tasks += [foreign.send(broker) for _ in range(3)]
            until(lambda: broker.llen(foreign.QUEUE) == 0, "they are taken", within=30)
            queues.stop()
            queues = start_valkey(port=queues.port, appendfsync="always")
    for task in tasks:
        assert len(result_of(apart.redis, task, within=30).attempts) == 1
    assert len(gate.requests) == len(tasks)
    assert worker.program.running


def test_a_full_redis_ends_no_worker_and_loses_no_message(
    start_valkey: StartValkey, worker_process: StartWorker, gate: Gate
) -> None:
    """Celery alone pops a message, cannot note it, and ends."""
    gate.answer(*[GOOD] * 5)
    server = start_valkey()
    worker = worker_process(gate.url, REDIS_URL=server.url)
    with redis_library.Redis.from_url(server.url) as redis:
        worker.pause()
        until(lambda: _blocked(redis) == 0, "nobody waits for messages")
        tasks = [foreign.send(redis) for _ in range(5)]
        redis.config_set("maxmemory", 1)
        worker.resume()
        until(lambda: "could not be noted" in worker.output, "it has met the full memory")
        redis.config_set("maxmemory", 0)
        for task in tasks:
            assert len(result_of(redis, task).attempts) == 1
    assert len(gate.requests) == 5
    assert worker.program.running


def _blocked(redis: redis_library.Redis) -> int:
    clients: Any = redis.info("clients")
    return int(clients["blocked_clients"])


@pytest.mark.parametrize("trouble", ["record", "key"])
def test_a_task_whose_record_redis_refuses_is_parked(
    worker: Worker, redis: redis_library.Redis, trouble: str
) -> None:
    """Where another program has put something else there."""
    task = chat() | {"id": new_id(), "options": {"idempotency_key": "k"}}
    redis.hset("a hash", "a", "b")
    place = KEYS.record(task["id"]) if trouble == "record" else KEYS.idempotency("default", "k")
    redis.set(place, "no hash") if trouble == "record" else redis.rename("a hash", place)
    foreign.send(redis, task)
    (kept,) = until(lambda: foreign.letters_of(redis), "a dead letter")
    assert json.loads(kept[b"error"])["message"] == "Redis refuses its record: ResponseError"
    until(lambda: redis.hlen(foreign.UNACKED) == 0, "it is acknowledged")


@pytest.mark.usefixtures("worker")
def test_a_hundred_messages_with_one_key_are_one_call(
    gate: Gate, redis: redis_library.Redis
) -> None:
    gate.answer((Pause(0.5), *GOOD), *[GOOD] * 99)
    task = chat() | {"options": {"idempotency_key": "order-17", "tenant": "acme"}}
    tasks = [task | {"id": new_id()} for _ in range(100)]
    redis.lpush(foreign.QUEUE, *(foreign.message(one) for one in tasks))
    owner: Any = until(lambda: redis.get(KEYS.idempotency("acme", "order-17")), "an owner")
    first = owner.decode()
    assert len(result_of(redis, first).attempts) == 1
    for one in tasks:
        if one["id"] != first:
            error = error_of(redis, one["id"])
            assert error["code"] == "invalid_request"
            assert error["message"] == (
                f"options.idempotency_key: already used by task {first}; follow that one"
            )
    assert len(gate.requests) == 1


@pytest.mark.usefixtures("worker")
def test_a_key_that_another_content_has_is_refused_whoever_has_it(
    gate: Gate, redis: redis_library.Redis, client: Client
) -> None:
    gate.answer(GOOD)
    options = {"idempotency_key": "order-17"}
    first = client.enqueue(chat() | {"options": options}).id
    result_of(redis, first)
    same = foreign.send(redis, options=options)
    other = foreign.send(redis, chat(temperature=1), options=options)
    assert error_of(redis, same)["message"] == (
        f"options.idempotency_key: already used by task {first}; follow that one"
    )
    assert error_of(redis, other)["message"] == (
        f"options.idempotency_key: already used by task {first} with another content; use a new key"
    )
    assert len(gate.requests) == 1


@pytest.mark.usefixtures("worker")
def test_a_key_that_somebody_took_and_died_is_worked_for_under_his_id(
    gate: Gate, redis: redis_library.Redis
) -> None:
    gate.answer(GOOD)
    owner = new_id()
    redis.set(KEYS.idempotency("default", "order-17"), owner)
    task = foreign.send(redis, options={"idempotency_key": "order-17"})
    assert error_of(redis, task)["message"].endswith(f"by task {owner}; follow that one")
    assert len(result_of(redis, owner).attempts) == 1


@pytest.mark.usefixtures("worker")
def test_a_message_with_a_key_that_comes_again_is_the_same_task(
    gate: Gate, redis: redis_library.Redis
) -> None:
    gate.answer(GOOD, GOOD)
    task = chat() | {"id": new_id(), "options": {"idempotency_key": "order-17"}}
    for _ in range(3):
        foreign.send(redis, task)
    result_of(redis, task["id"])
    result_of(redis, foreign.send(redis))
    assert [event.type for event in log_of(redis, task["id"])][-1] == "completed"
    assert len(gate.requests) == 2


#: What each of the producers does: it waits for all of them, and then enqueues from ten threads.
PRODUCER = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from api_contracts.client import Client

url, key = sys.argv[1:]
together = threading.Barrier(10)
with Client(url) as client, ThreadPoolExecutor(10) as pool:
    def enqueue(_):
        together.wait()
        question = [{"role": "user", "content": "hello"}]
        return client.chat("m", question, options={"idempotency_key": key}).id
    print("ready", flush=True)
    sys.stdin.readline()
    print(*set(pool.map(enqueue, range(10))), flush=True)
"""


@pytest.mark.usefixtures("worker")
def test_a_hundred_enqueues_of_one_key_from_ten_processes_are_one_call(
    gate: Gate, redis: redis_library.Redis, redis_url: str
) -> None:
    gate.answer((Pause(0.5), *GOOD), *[GOOD] * 99)
    command = [sys.executable, "-c", PRODUCER, redis_url, "order-17"]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    settings = os.environ | {"PYTHONPATH": str(ROOT)}
    producers: list[Any] = [subprocess.Popen(command, env=settings, **pipes) for _ in range(10)]
    for producer in producers:
        assert producer.stdout.readline() == "ready\n"
    with ThreadPoolExecutor(10) as pool:
        said = list(pool.map(lambda one: one.communicate("go\n")[0], producers))
    (task,) = set(" ".join(said).split())
    assert len(result_of(redis, task).attempts) == 1
    time.sleep(0.5)  # for whatever else might be called
    assert len(gate.requests) == 1
