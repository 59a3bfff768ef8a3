"""What breaks at night, broken: the right alert fires, and the log says it in a readable line.

The table in deploy/README.md is what is expected.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_library

from api_contracts.client import Client
from tests.conftest import StartValkey, StartWorker
from tests.deploy.conftest import Watch
from tests.parts import answers
from tests.parts.gate import Do, Gate, Pause, stream, whole
from tests.parts.need import installed
from tests.parts.program import ROOT, Program
from tests.parts.prometheus import Prometheus
from tests.parts.rabbitmq import Rabbitmq
from tests.parts.wait import until
from tests.parts.web import free_port
from tests.parts.worker import Worker
from worker import embedded

QUESTION = [{"role": "user", "content": "hello"}]
ANSWER = whole({"choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]})
HEAD, *REST = answers.openai("a", "b")
#: A lease that ends soon, though not for a worker that stands still for a moment, and retries that
#: do not keep the test waiting.
QUICK: Any = {
    "ROUTER_WORKER_LEASE_S": "6",
    "ROUTER_WORKER_HEARTBEAT_S": "0.5",
    "ROUTER_WORKER_RETRY_BASE_S": "0.05",
    "ROUTER_WORKER_RETRY_MAX_ATTEMPTS": "2",
}
#: Longest time until an alert fires, in seconds: what it looks at changes within 10.
FIRES_S = 40.0


def drills() -> dict[str, tuple[set[str], str]]:
    """The table: by what is broken, the alerts, and the line of the log as a pattern."""
    text = (ROOT / "deploy" / "README.md").read_text()
    table = text.partition("## Broken on purpose")[2].partition("##")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", table, re.MULTILINE)[2:]
    assert len(rows) == 7
    return {
        what: (
            set(re.findall(r"`(\w+)`", alerts)),
            ".*".join(map(re.escape, re.findall(r"`(.+)`", line)[0].split("…"))),
        )
        for what, alerts, line in rows
    }


def assert_told(what: str, prometheus: Prometheus, worker: Worker) -> None:
    """Somebody is called, and reads why."""
    alerts, line = drills()[what]
    prometheus.wait_firing(alerts, within=FIRES_S)
    until(lambda: re.search(line, worker.output), f"the worker says {line}")


def test_redis_that_is_stopped_calls_somebody_and_back_again_nobody(
    gate: Gate, start_valkey: StartValkey, worker_process: StartWorker, watch: Watch
) -> None:
    server = start_valkey()
    worker = worker_process(gate.url, REDIS_URL=server.url)
    prometheus = watch(worker)
    until(lambda: prometheus.numbers("router_worker_queue_depth"), "the queues are counted")
    server.stop()
    assert_told("Redis is stopped", prometheus, worker)
    start_valkey(port=server.port)
    until(lambda: not prometheus.firing(), "no alert fires", within=FIRES_S)


class SmallDisk:
    """A Valkey whose disk has room for 2 MiB, in a mount namespace of its own."""

    def __init__(self, folder: Path) -> None:
        """Start it."""
        folder.mkdir()
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        private = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
        mount = 'mount -t tmpfs -o size=2m none "$0" && cd "$0" && exec "$@"'
        self.program = Program(
            [
                installed("unshare", "util-linux"), *private, "sh", "-c", mount, str(folder),
                str(embedded.binary()), str(ROOT / "deploy/redis/redis.conf"),
                "--port", str(port), "--bind", "127.0.0.1", "--auto-aof-rewrite-percentage", "0",
            ],
            folder.with_suffix(".log"),
        )  # fmt: skip
        with redis_library.Redis.from_url(self.url) as redis:
            until(lambda: self._answers(redis), "the server answers")

    def fill(self) -> None:
        """Write until it takes no more."""
        with redis_library.Redis.from_url(self.url) as redis:
            refusal = until(lambda: self._refusal(redis), "it refuses what is written")
        assert "No space left on device" in refusal

    @staticmethod
    def _refusal(redis: redis_library.Redis) -> str:
        try:
            redis.set("filler", os.urandom(65_536))
        except redis_library.ResponseError as error:
            return str(error)
        return ""

    def _answers(self, redis: redis_library.Redis) -> bool:
        assert self.program.running, self.program.output
        try:
            answer: Any = redis.ping()
        except redis_library.ConnectionError:
            return False
        return bool(answer)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "disk")
    yield disk
    disk.program.stop()


def test_a_full_disk(
    gate: Gate, small_disk: SmallDisk, worker_process: StartWorker, watch: Watch
) -> None:
    worker = worker_process(gate.url, REDIS_URL=small_disk.url)
    prometheus = watch(worker)
    until(lambda: prometheus.numbers("router_worker_queue_depth"), "the queues are counted")
    small_disk.fill()
    assert_told("the disk of Redis is full", prometheus, worker)

    def says_why() -> bool:
        status, page = worker.get("/readyz")
        return status == 503 and "MISCONF" in page

    until(says_why, "its page says why it is not ready")


def test_a_full_memory(
    gate: Gate, start_valkey: StartValkey, worker_process: StartWorker, watch: Watch
) -> None:
    full = Pause(30)
    gate.answer((full, *ANSWER))
    server = start_valkey()
    worker = worker_process(gate.url, REDIS_URL=server.url, **QUICK)
    prometheus = watch(worker)
    with Client(server.url) as client, redis_library.Redis.from_url(server.url) as redis:
        client.chat("m", QUESTION)
        until(lambda: gate.requests, "the call is made")
        redis.config_set("maxmemory", 1)
        full.over.set()
        assert_told("the memory of Redis is full", prometheus, worker)
        redis.config_set("maxmemory", 0)


def test_rabbitmq_that_is_stopped_calls_somebody_and_back_again_nobody(
    gate: Gate, tmp_path: Path, worker_process: StartWorker, watch: Watch
) -> None:
    folder = tmp_path / "rabbitmq"
    folder.mkdir()
    with Rabbitmq(folder) as rabbitmq:
        worker = worker_process(gate.url, ROUTER_WORKER_BROKER_URL=rabbitmq.host("own").url)
        prometheus = watch(worker)
        until(lambda: prometheus.numbers("router_worker_queue_depth"), "the queues are counted")
        rabbitmq.stop()
        assert_told("RabbitMQ is stopped", prometheus, worker)
        rabbitmq.start()
        until(lambda: not prometheus.firing(), "no alert fires", within=FIRES_S)


def test_a_wrong_key(gate: Gate, redis_url: str, worker_process: StartWorker, watch: Watch) -> None:
    gate.answer(whole({"error": {"message": "no such key"}}, status=401))
    worker = worker_process(gate.url)
    prometheus = watch(worker)
    with Client(redis_url) as client:
        client.chat("m", QUESTION)
        assert_told("the key is wrong", prometheus, worker)


def test_a_router_that_is_away(
    gate: Gate, redis_url: str, worker_process: StartWorker, watch: Watch
) -> None:
    worker = worker_process(gate.url, **QUICK)
    prometheus = watch(worker)
    with gate.shut(), Client(redis_url) as client:
        for count in (1, 30):
            # Behind the first, the calls that fail are a series that can rise.
            client.enqueue_all(
                [{"kind": "chat", "request": {"model": "m", "messages": QUESTION}}] * count
            )
            until(lambda: worker.samples("tasks_total"), "a task has failed")
            prometheus.wait_scraped([worker], "calls_total")
        assert_told("the router is away", prometheus, worker)


def test_a_worker_that_is_killed(
    gate: Gate, redis_url: str, worker_process: StartWorker, watch: Watch
) -> None:
    gate.answer(stream(HEAD, Do.HANG), stream(HEAD, *REST))
    workers = [worker_process(gate.url, **QUICK) for _ in range(2)]
    prometheus = watch(*workers)
    with Client(redis_url) as client:
        task = client.chat("m", QUESTION, stream=True)
        held: Any = until(
            lambda: [one for one in workers if one.samples("calls_in_flight")["mode=stream"]],
            "a worker makes the call",
        )
        (victim,) = held
        (other,) = (one for one in workers if one is not victim)
        victim.kill()
        assert len(task.result(60).attempts) == 2
    assert_told("a worker is killed", prometheus, other)
