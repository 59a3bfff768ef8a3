"""One peer's worker, with a Redis of its own and the producer that feeds it."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import redis

from tests.bench.children import Child
from tests.bench.peers.roster import Peer
from tests.bench.producer import Plan
from tests.bench.streams import Answering
from tests.bench.work import REDIS_URL, SLOTS, URL, WARM
from tests.parts.program import ROOT, Program, without_settings
from tests.parts.web import free_port, get, post
from worker import embedded

#: Seconds for a worker to make its first call after its start.
START_S: Final = 60.0
#: Tasks that each worker has had before it is measured: it has imported and connected by then.
WARM_TASKS: Final = 50
#: Seconds between two tasks that ask whether a worker is there: a worker may lose what comes
#: before it listens.
_KNOCK_S: Final = 0.5
#: Seconds between two looks.
_POLL_S: Final = 0.02
#: Seconds for a task that came before the worker listened.
_LATE_S: Final = 15.0
_KEY: Final = "sk-bench-5f2d8c41"


class Failed(RuntimeError):
    """A peer could not do its work; the message says what was seen."""


def until(look: Callable[[], bool], what: str, within_s: float) -> None:
    """Wait until ``look`` is true; Failed, naming ``what``, where that takes longer."""
    deadline = time.monotonic() + within_s
    while not look():
        if time.monotonic() > deadline:
            message = f"{what}: not within {within_s:g} s"
            raise Failed(message)
        time.sleep(_POLL_S)


class Router:
    """The upstream, as the harness asks it."""

    def __init__(self) -> None:
        """Start it."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.child = Child("tests.bench.upstream", str(self.port))
        self.child.wait_ready()

    def begin(self, answering: Answering) -> None:
        """Let it forget, and answer like this."""
        post(f"{self.url}/bench/begin", asdict(answering))

    def release(self) -> None:
        """End the streams that are held open."""
        post(f"{self.url}/bench/release", {})

    def state(self) -> dict[str, int]:
        """Ask for its counts."""
        state: dict[str, int] = json.loads(get(f"{self.url}/bench/state")[1])
        return state

    def report(self) -> dict[str, Any]:
        """Ask for all that it noted."""
        report: dict[str, Any] = json.loads(get(f"{self.url}/bench/report", timeout=30)[1])
        return report


@dataclass
class Session:
    """A worker that is ready, and its surroundings."""

    peer: Peer
    slots: int
    router: Router
    server: embedded.EmbeddedServer
    redis: redis.Redis
    producer: Child
    #: None where only the producer is measured.
    worker: Program | None

    def produce(self, plan: Plan, within_s: float) -> list[int]:
        """Let the producer carry out a plan; return its moments."""
        moments: list[int] = self.producer.ask(json.dumps(asdict(plan)), within_s)
        return moments

    def drained(self) -> bool:
        """Tell whether Celery has taken everything off its queue."""
        return not self.redis.llen("celery") and not self.redis.hlen("unacked")

    def alive(self) -> None:
        """Raise Failed where the worker has ended, with the last lines that it said."""
        if self.worker is not None and not self.worker.running:
            said = " / ".join(self.worker.output.strip().splitlines()[-3:])
            message = f"the worker ended: {said[-300:]}"
            raise Failed(message)

    def warm_up(self) -> None:
        """Wait until the worker works, and let it work for a moment."""
        numbers = iter(range(WARM, WARM + 1000))
        self.router.begin(Answering(chunks=2))
        deadline = time.monotonic() + START_S
        while True:
            self.alive()
            self._warm(next(numbers), 1)
            with suppress(Failed):
                until(self._answered(1), "it makes a call", _KNOCK_S)
                break
            if time.monotonic() > deadline:
                message = f"the worker made no call within {START_S:g} s of its start"
                raise Failed(message)
        first = next(numbers)
        self._warm(first, WARM_TASKS)
        until(self._answered(WARM_TASKS), f"{WARM_TASKS} tasks are through", START_S)
        with suppress(Failed):  # what it has lost is not missed
            until(self._answered(first + WARM_TASKS - WARM), "all are", _LATE_S)

    def _warm(self, first: int, count: int) -> None:
        batch = self.peer.batch == "each"
        self.produce(Plan(first, first + count, stream=True, batch=batch), START_S)

    def _answered(self, count: int) -> Callable[[], bool]:
        if self.peer.over == "drained":
            return self.drained
        return lambda: self.router.state()["ended"] >= count


@contextmanager
def session(peer: Peer, slots: int, router: Router, folder: Path) -> Iterator[Session]:
    """Start a peer with so many slots, 0 for its producer alone; end all of it afterwards.

    Redis keeps nothing on disk: all peers have the same, and the disk is not what is measured.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with embedded.start(folder / "valkey", persistence=False) as server:
        environment = _environment(server.url, router.url, slots)
        with redis.Redis.from_url(server.url) as client:
            # A subscriber that is slow is to be seen as slow, not to be cut off.
            client.config_set("client-output-buffer-limit", "pubsub 0 0 0")
            with (
                Child("tests.bench.producer", peer.queue, environment=environment) as producer,
                _worker(peer, slots, folder, environment) as worker,
            ):
                producer.wait_ready()
                one = Session(peer, slots, router, server, client, producer, worker)
                if worker is not None:
                    one.warm_up()
                yield one


@contextmanager
def _worker(
    peer: Peer, slots: int, folder: Path, environment: dict[str, str]
) -> Iterator[Program | None]:
    if not slots:
        yield None
        return
    log = folder / f"{peer.name}-{slots}.log"
    log.unlink(missing_ok=True)
    program = Program(peer.line(slots), log, env=environment)
    try:
        yield program
    finally:
        program.kill()


def _environment(redis_url: str, url: str, slots: int) -> dict[str, str]:
    return {
        **without_settings(os.environ),
        "PYTHONPATH": str(ROOT),
        REDIS_URL: redis_url,
        URL: f"{url}/v1/chat/completions",
        SLOTS: str(slots or 1),
        # router-worker's own names for the same.
        "ROUTER_WORKER_BASE_URL": url,
        "ROUTER_WORKER_CONCURRENCY": str(slots or 1),
        "YOUROUTER_API_KEY": _KEY,
        "PORT": str(free_port()),
    }
