"""Celery goes on consuming, whatever Redis does; where it does not, /readyz says since when."""

import json
import os
import re
import signal
import time
from collections.abc import Callable

import redis as redis_library

from api_contracts.client import Client
from tests.conftest import StartValkey, StartWorker
from tests.parts import foreign
from tests.parts.following import result_of
from tests.parts.gate import Do, Gate, whole
from tests.parts.wait import until
from tests.parts.worker import Worker
from worker.consumer import SILENT_S

QUESTION = [{"role": "user", "content": "hello"}]
GOOD = whole({"choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]})
#: Longest time from Redis's return to the first answer, in seconds.
RESUME_S = 30.0


def celery_says(worker: Worker) -> str:
    """Return what /readyz says of Celery; nothing where all is well."""
    return str(json.loads(worker.get("/readyz")[1])["failed"].get("celery", ""))


def held(worker: Worker, check: Callable[[], bool], seconds: float) -> None:
    """Look for so long whether a condition holds; the worker must live."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert check(), worker.get("/readyz")
        time.sleep(0.5)
    assert worker.program.running


def test_a_celery_that_hears_nothing_fails_the_readiness_probe_and_recovers(
    gate: Gate, start_valkey: StartValkey, worker_process: StartWorker
) -> None:
    gate.answer(GOOD)
    server = start_valkey()
    worker = worker_process(gate.url, REDIS_URL=server.url)
    began = time.time()
    os.kill(server.pid, signal.SIGSTOP)
    try:
        said = until(lambda: celery_says(worker), "it says so", within=SILENT_S + 10)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert time.time() - began > SILENT_S - 3
    since = re.search(r"since (\S+Z), with slots free", said)
    assert since, said
    told = time.mktime(time.strptime(since.group(1), "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    # It was heard once a second until then, and the page was asked 15 s later.
    assert abs(told - began) < SILENT_S / 2
    until(lambda: worker.get("/readyz")[0] == 200, "it is ready again", within=RESUME_S)
    with redis_library.Redis.from_url(server.url) as redis, Client(server.url) as client:
        assert len(result_of(redis, client.chat("m", QUESTION).id).attempts) == 1


def test_a_worker_whose_slots_are_all_taken_is_ready(
    gate: Gate, start_valkey: StartValkey, worker_process: StartWorker
) -> None:
    gate.answer((Do.HANG,))
    server = start_valkey()
    worker = worker_process(
        gate.url,
        REDIS_URL=server.url,
        ROUTER_WORKER_CONCURRENCY="1",
        ROUTER_WORKER_DRAIN_S="0.1",
    )
    with redis_library.Redis.from_url(server.url) as redis:
        foreign.send(redis)
        foreign.send(redis)
    until(lambda: gate.requests, "the slot is taken")
    held(worker, lambda: celery_says(worker) == "", SILENT_S + 2)
    assert len(gate.requests) == 1


def test_consuming_resumes_after_each_of_many_restarts_of_redis(
    gate: Gate, start_valkey: StartValkey, worker_process: StartWorker
) -> None:
    restarts = int(os.environ.get("RESTARTS", "5"))
    gate.answer(*[GOOD] * (2 * restarts))
    server = start_valkey(appendfsync="always")
    worker = worker_process(gate.url, REDIS_URL=server.url)
    seconds = []
    for _ in range(restarts):
        with redis_library.Redis.from_url(server.url) as redis:
            waiting = foreign.send(redis)
        server.stop()
        server = start_valkey(port=server.port, appendfsync="always")
        back = time.monotonic()
        with redis_library.Redis.from_url(server.url) as redis, Client(server.url) as client:
            fresh = client.chat("m", QUESTION).id
            for task in (waiting, fresh):
                result_of(redis, task, within=RESUME_S)
        seconds.append(round(time.monotonic() - back, 1))
        assert worker.program.running
    until(lambda: worker.get("/readyz")[0] == 200, "it is ready")
    print(f"{restarts} restarts; seconds to the first answers: {seconds}")  # noqa: T201
