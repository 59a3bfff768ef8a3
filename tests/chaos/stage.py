"""Everything that runs while things break: Redis, the router, workers and producers."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from subprocess import TimeoutExpired
from typing import Any, Final, Self

from tests.chaos.servers import Front
from tests.chaos.shapes import group
from tests.chaos.stops import REDIS, Stop
from tests.parts.aimock import Aimock
from tests.parts.following import KEYS
from tests.parts.program import ROOT, Program, without_settings
from tests.parts.wait import until
from tests.parts.web import free_port
from tests.parts.worker import Worker

#: The workers' lease, in seconds: a death is noticed soon.
LEASE_S: Final = 3
#: What workers are told in every run. Retries follow quickly, since the order of things is looked
#: at and not how long a provider needs.
QUICK: Final = {
    "ROUTER_WORKER_LEASE_S": str(LEASE_S),
    "ROUTER_WORKER_HEARTBEAT_S": "1",
    "ROUTER_WORKER_RETRY_BASE_S": "0.1",
    "ROUTER_WORKER_RETRY_CAP_S": "1",
}
#: Longest wait for a worker to take tasks, in seconds: two busy cores.
READY_S: Final = 60.0
#: Longest wait for work to be done between two faults, in seconds.
WORK_S: Final = 120.0


@dataclass(frozen=True)
class Load:
    """How much is asked, and of what."""

    shapes: Sequence[str] = ("mixed",)
    producers: int = 2
    threads: int = 16


class Slot:
    """A place where a worker runs, dies, and runs again."""

    def __init__(self, number: int, start: Callable[[int], Worker]) -> None:
        self._number = number
        self._start = start
        self.worker = start(number)
        #: When workers were stopped here.
        self.stops: list[Stop] = []
        #: What is wrong with how a worker here ended.
        self.complaints: list[str] = []

    @property
    def name(self) -> str:
        """The worker's name, as events say it."""
        return f"router-worker-{self.worker.program.pid}@{gethostname()}"

    def crash(self) -> None:
        """kill -9."""
        self._check()
        with self.stopped():
            self.worker.kill()

    def restart(self) -> None:
        """Start the next worker, and wait until it takes tasks."""
        self.worker = self._start(self._number)
        self.worker.wait_ready(within=READY_S)

    def leave(self, *, within: float = 60.0) -> None:
        """SIGTERM, as every deployment sends it, and wait until it has left."""
        self._check()
        with self.stopped():
            status = self.worker.stop(within=within)
        if status != 0:
            self.complaints.append(f"{self.name} left with status {status}")

    def stall(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after a time."""
        with self.stopped():
            self.worker.pause()
            time.sleep(seconds)
            self.worker.resume()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Note that the worker was stopped inside the block."""
        at = _now_ms()
        yield
        self.stops.append(Stop(self.name, at, _now_ms()))

    def _check(self) -> None:
        """A worker that is not running before it is stopped has ended by itself."""
        if not self.worker.program.running:
            tail = self.worker.output[-2000:]
            self.complaints.append(f"{self.name} ended by itself; it said:\n{tail}")


class Stage:
    """All of it, in one folder. Leaving the ``with`` block ends all that still runs."""

    def __init__(
        self, folder: Path, front: Front, settings: Mapping[str, str], load: Load, seed: str
    ) -> None:
        """Start the router; workers and load come at their own call."""
        self._folder = folder
        self.front = front
        self._settings = {**QUICK, **settings}
        self._load = load
        self._seed = seed
        self.aimock = Aimock(
            folder / "aimock.log", "--journal-max", "0", "--fixture-counts-max", "0"
        )
        self.slots: list[Slot] = []
        self._ports: list[int] = []
        self._producers: list[Program] = []
        #: How far the notes were read, and how many of them tell of an accepted task.
        self._read: Counter[Path] = Counter()
        self._accepted = 0
        #: When Redis was away.
        self.absences: list[Stop] = []
        self.complaints: list[str] = []

    def __enter__(self) -> Self:
        fixtures = [one for shape in group(*self._load.shapes) for one in shape.fixtures()]
        self.aimock.serve(*fixtures)
        return self

    def __exit__(self, *_: object) -> None:
        for producer in self._producers:
            producer.kill()
        for slot in self.slots:
            slot.worker.program.resume()
            slot.worker.kill()
        self.aimock.program.stop()
        self.front.close()

    def start_workers(self, count: int) -> None:
        """Start workers, and wait until they take tasks."""
        self._ports = [free_port() for _ in range(count)]
        self.slots += [Slot(number, self._worker) for number in range(count)]
        for slot in self.slots:
            slot.worker.wait_ready(within=READY_S)

    def start_load(self) -> None:
        """Start the producers, and wait until each has had a task accepted."""
        for number in range(self._load.producers):
            notes = self._notes(number)
            notes.touch()
            command = [
                sys.executable, "-m", "tests.chaos.load", "--url", self.front.url,
                "--notes", str(notes), "--seed", f"{self._seed} {number}",
                "--threads", str(self._load.threads), "--shapes", *self._load.shapes,
            ]  # fmt: skip
            log = self._folder / f"producer-{number}.log"
            self._producers.append(Program(command, log, env=_environment()))
        files = self.notes
        until(lambda: all(file.stat().st_size for file in files), "the load", within=READY_S)

    @property
    def notes(self) -> list[Path]:
        """What producers and subscribers noted."""
        return [self._notes(number) for number in range(self._load.producers)]

    def accepted(self) -> int:
        """Count the tasks accepted so far."""
        for file in self.notes:
            with file.open("rb") as notes:
                notes.seek(self._read[file])
                # Half a line may stand at the end.
                lines = notes.read().rpartition(b"\n")[0]
            self._read[file] += len(lines) + bool(lines)
            self._accepted += lines.count(b'{"what": "accepted"')
        return self._accepted

    def work(self, count: int) -> None:
        """Wait until so many more tasks have been accepted: things go on between two faults."""
        due = self.accepted() + count
        until(lambda: self.accepted() >= due, f"{count} more tasks", within=WORK_S)

    def runs(self, worker: str) -> int:
        """Count the tasks that are on record as run by this worker."""
        redis = self.front.redis
        pipe = redis.pipeline(transaction=False)
        going: Any = redis.zrange(KEYS.due, 0, -1)
        for task_id in going:
            pipe.hmget(KEYS.record(task_id.decode()), "state", "worker")
        return pipe.execute().count([b"running", worker.encode()])

    @contextmanager
    def without_redis(self) -> Iterator[None]:
        """Note that Redis is away inside the block."""
        at = _now_ms()
        yield
        self.absences.append(Stop(REDIS, at, _now_ms()))

    def end_load(self, *, within: float) -> None:
        """Let no more tasks in, and wait until all that are in have been seen to end.

        Whoever still waits then is cut off: what it waits for is lost.
        """
        for producer in self._producers:
            producer.terminate()
        deadline = time.monotonic() + within
        for number, producer in enumerate(self._producers):
            try:
                status = producer.wait(within=max(0.1, deadline - time.monotonic()))
            except TimeoutExpired:
                status = None
            if status != 0:
                self.complaints.append(f"producer {number} ended with {status}: {producer.output}")
                producer.kill()

    def _notes(self, number: int) -> Path:
        return self._folder / f"notes-{number}.jsonl"

    def _worker(self, number: int) -> Worker:
        return Worker(
            self._folder / f"worker-{number}.log",
            redis_url=self.front.url,
            base_url=self.aimock.url,
            PORT=str(self._ports[number]),
            **self._settings,
        )


def _now_ms() -> int:
    return int(time.time() * 1000)


def _environment() -> dict[str, str]:
    return {**without_settings(os.environ), "PYTHONPATH": str(ROOT)}
