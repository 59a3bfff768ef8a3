"""One workload on one peer: done, watched, checked, and put into figures."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.bench import proc
from tests.bench.account import Seen, account
from tests.bench.children import Child
from tests.bench.producer import Plan
from tests.bench.session import Failed, Session, until
from tests.bench.streams import Answering
from tests.bench.workloads import Workload

#: Seconds after the last ending for a worker to do what it does behind it: acknowledge, record.
SETTLE_S: Final = 0.3
#: Seconds between two looks at the worker's CPU time, which Linux counts in ticks of 10 ms.
SAMPLE_S: Final = 0.1
#: Seconds without a chunk and without an ending after which a workload has failed.
STALL_S: Final = 30.0
#: Seconds between two looks at it.
_POLL_S: Final = 0.05
#: Seconds for the streams of one level to be open.
_LEVEL_S: Final = 60.0


@dataclass(frozen=True)
class _Look:
    """What was used until a moment."""

    worker: proc.Use
    producer_cpu_s: float
    redis_cpu_s: float
    upstream_cpu_s: float
    commands: int
    bytes: int


def measure(session: Session, work: Workload, seed: int) -> dict[str, Any]:
    """Do a workload; return its figures. Failed or Silent where it cannot be done."""
    if not work.slots:
        return _enqueue(session, work)
    held = bool(work.levels)
    answering = Answering(work.chunks, work.gap_s, work.delay_s, held, seed)
    session.router.begin(answering)
    with _subscriber(session, work) as subscriber:
        before = _look(session)
        with _sampled(session) as used:
            if held:
                moments, memory = _open(session, subscriber, work)
            else:
                moments, memory = _ask(session, work), {}
            error = _wait(session, subscriber, work)
        over_ns = time.monotonic_ns()
        time.sleep(SETTLE_S)
        after = _look(session)
        seen = Seen(
            moments=moments,
            upstream=session.router.report(),
            subscriber=subscriber.ask("report"),
            before=asdict(before),
            after=asdict(after),
            over_ns=over_ns,
            used=used,
            published=session.peer.over == "published",
        )
    figures = account(work, seen) | memory
    return figures | ({"error": error} if error else {})


def measure_sound(session: Session, work: Workload) -> dict[str, Any]:
    """Do a workload; return its figures. Failed where it went wrong: they say nothing then."""
    figures = measure(session, work, seed=1)
    if trouble := figures.get("error") or figures["lost"] or figures["doubled"]:
        message = f"{session.peer.name}, {work}: {trouble}"
        raise Failed(message)
    return figures


@contextmanager
def _subscriber(session: Session, work: Workload) -> Iterator[Child]:
    what = "stream" if work.streams else "answer"
    port, pattern = str(session.server.port), session.peer.pattern
    with Child("tests.bench.subscriber", port, pattern, str(work.subscribers), what) as subscriber:
        subscriber.wait_ready()
        yield subscriber


@contextmanager
def _sampled(session: Session) -> Iterator[list[tuple[int, float]]]:
    """Note the worker's CPU time every :data:`SAMPLE_S`, beside what goes on."""
    assert session.worker is not None
    pid, over = session.worker.pid, threading.Event()
    used = [(time.monotonic_ns(), proc.cpu_s(pid))]

    def sample() -> None:
        while not over.wait(SAMPLE_S):
            used.append((time.monotonic_ns(), proc.cpu_s(pid)))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield used
    finally:
        over.set()
        thread.join()


def _plan(session: Session, work: Workload, first: int, last: int) -> Plan:
    batch = session.peer.batch == "each"
    return Plan(first, last, work.streams, work.pace_s, work.image_bytes, batch)


def _ask(session: Session, work: Workload) -> list[int]:
    """Enqueue all."""
    return session.produce(_plan(session, work, 0, work.tasks), work.limit_s)


def _wait(session: Session, subscriber: Child, work: Workload) -> str | None:
    """Wait until all is over; tell what is not, where that takes too long or nothing moves."""
    begun = moved = time.monotonic()
    before: tuple[int, int] | None = None
    while True:
        session.alive()
        so_far = _so_far(session, subscriber, work)
        if so_far[0] >= work.tasks:
            return None
        now = time.monotonic()
        if so_far != before:
            moved, before = now, so_far
        if now - begun > work.limit_s or now - moved > STALL_S:
            return f"{so_far[0]} of {work.tasks} tasks were over after {now - begun:.0f} s"
        time.sleep(_POLL_S)


def _so_far(session: Session, subscriber: Child, work: Workload) -> tuple[int, int]:
    """Count the tasks that are over, and anything that shows that something moves."""
    if session.peer.over == "drained":
        return (work.tasks if session.drained() else 0), session.redis.llen("celery")
    if session.peer.over == "answered":
        return session.router.state()["ended"], 0
    state: Mapping[str, int] = subscriber.ask("state")
    return state["ended"] + state["failed"], state["chunks"]


def _open(session: Session, subscriber: Child, work: Workload) -> tuple[list[int], dict[str, Any]]:
    """Open streams level by level, look at the memory of each, and let them end."""
    assert session.worker is not None
    pid = session.worker.pid
    idle = proc.use(pid)
    moments: list[int] = []
    levels = []
    first = 0
    for level in work.levels:
        moments[first:] = session.produce(_plan(session, work, first, level), _LEVEL_S)
        first = level

        def opened(level: int = level) -> bool:
            session.alive()
            state: Mapping[str, int] = subscriber.ask("state")
            return session.router.state()["open"] >= level and state["chunks"] >= level

        until(opened, f"{level} streams are open", _LEVEL_S)
        now = proc.use(pid)
        levels.append({"open": level, "resident_mib": now.resident_mib, "threads": now.threads})
    session.router.release()
    return moments, {"idle_mib": idle.resident_mib, "idle_threads": idle.threads, "levels": levels}


def _enqueue(session: Session, work: Workload) -> dict[str, Any]:
    """Measure the producer alone."""
    figures: dict[str, Any] = {"tasks": work.tasks}
    ways = {"": False} | ({"batch_": True} if session.peer.batch else {})
    for way, batch in ways.items():
        plan = Plan(0, work.tasks, stream=True, batch=batch)
        cpu_s = proc.cpu_s(session.producer.pid)
        moments = session.produce(plan, work.limit_s)
        used = proc.cpu_s(session.producer.pid) - cpu_s
        figures[f"{way}enqueued_s"] = work.tasks / ((moments[-1] - moments[0]) / 1e9)
        figures[f"{way}enqueue_cpu_us"] = used / work.tasks * 1e6
    return figures


def _look(session: Session) -> _Look:
    assert session.worker is not None
    commands: Mapping[str, Mapping[str, int]] = session.redis.info("commandstats")
    stats: Mapping[str, int] = session.redis.info("stats")
    return _Look(
        proc.use(session.worker.pid),
        proc.cpu_s(session.producer.pid),
        proc.cpu_s(session.server.pid),
        proc.cpu_s(session.router.child.pid),
        sum(one["calls"] for one in commands.values()),
        stats["total_net_input_bytes"] + stats["total_net_output_bytes"],
    )
