"""Many tasks through one worker leave nothing behind: no memory, no thread, no key for ever.

``make endurance`` sends 100,000; ``make test`` 4,000.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import redis as redis_library

from api_contracts.client import Client
from api_contracts.client.compose import chat_task
from api_contracts.names import Keys, Queue
from api_contracts.requests import Task
from tests.conftest import StartValkey, StartWorker
from tests.parts.aimock import Aimock
from tests.parts.wait import until
from tests.parts.worker import Worker

TASKS: Final = int(os.environ.get("ENDURANCE_TASKS", "4000"))
#: As many tasks as are on the way at once: more than slots, so that the queue is never empty.
AHEAD: Final = 400
SLOTS: Final = 100
#: The share of the tasks after which a worker has all that it will ever need.
WARM: Final = 0.25
#: How much larger or smaller it may be at the end.
NOISE: Final = 0.05
RESULT_TTL_S: Final = 60


def tasks(count: int, text: str = "tell") -> Iterator[Task]:
    """Streams, whole answers, and one in ten that the router refuses."""
    for number in range(count):
        said = "nobody knows" if number % 10 == 0 else text
        options = {"result_ttl": RESULT_TTL_S, "metadata": {"number": number}}
        messages = [{"role": "user", "content": said}]
        yield chat_task("m", messages, stream=number % 2 == 0, options=options)


def ended(worker: Worker) -> int:
    return int(sum(worker.samples("tasks_total").values()))


def resident_mib(worker: Worker) -> float:
    return _status(worker, "VmRSS") / 1024


def threads(worker: Worker) -> int:
    return _status(worker, "Threads")


def _status(worker: Worker, name: str) -> int:
    lines = Path(f"/proc/{worker.program.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def without_expiry(redis: redis_library.Redis) -> set[bytes]:
    return {key for key in redis.scan_iter(count=1000) if redis.ttl(key) == -1}


def fill_slots(client: Client, worker: Worker) -> None:
    """Let every slot be used once: connections are made when they are needed first."""
    for task in tasks(2 * SLOTS, "wait"):
        client.enqueue(task)
    _keep_up(worker, 2 * SLOTS)


def send(client: Client, worker: Worker, first: int, last: int) -> None:
    """Send tasks, not more than so many ahead of the worker."""
    for sent, task in enumerate(tasks(last - first), first + 1):
        client.enqueue(task)
        if sent % AHEAD == 0:
            _keep_up(worker, sent - AHEAD)
    _keep_up(worker, last)


def _keep_up(worker: Worker, count: int) -> None:
    until(lambda: ended(worker) >= count, f"{count} tasks have ended", within=60)


# Seconds: 20 tasks each, where a quick machine does 200.
@pytest.mark.timeout(60 + TASKS / 20)
def test_many_tasks_leave_no_memory_and_no_key_behind(
    aimock: Aimock, worker_process: StartWorker, start_valkey: StartValkey
) -> None:
    answer = {"content": "All that glisters is not gold."}
    aimock.serve(
        {"match": {"userMessage": "tell"}, "response": answer, "chunkSize": 10},
        {"match": {"userMessage": "wait"}, "response": answer, "latency": 500},
    )
    server = start_valkey(persistence=False)
    worker = worker_process(aimock.url, REDIS_URL=server.url, ROUTER_WORKER_CONCURRENCY=str(SLOTS))
    warm = int(TASKS * WARM)
    with Client(server.url) as client, redis_library.Redis.from_url(server.url) as redis:
        fill_slots(client, worker)
        send(client, worker, 2 * SLOTS, warm)
        memory, count = resident_mib(worker), threads(worker)
        send(client, worker, warm, TASKS)
        at_end = resident_mib(worker)
        sys.stdout.write(f"{TASKS} tasks: {memory:.1f} MiB after {warm}, {at_end:.1f} at the end\n")
        assert abs(at_end - memory) / memory < NOISE
        # The one that served the last scrape may still be on its way out.
        until(lambda: threads(worker) <= count, "no thread is left over")
        # What has ended costs those who look after what goes on nothing: nobody is on the list.
        # Whoever ended during a heartbeat may be, until the lease would have ended.
        until(lambda: not redis.exists(Keys().due), "nobody is left to look after", within=40)
        assert [redis.llen(queue) for queue in Queue] == [0, 0]
        assert without_expiry(redis) == {Keys().tally.encode()}
