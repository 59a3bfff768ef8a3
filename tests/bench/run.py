"""The whole run: every peer in turn, each with its workloads."""

import importlib.util
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import redis

from tests.bench import proc
from tests.bench.children import Child, Silent
from tests.bench.machine import machine, versions
from tests.bench.measure import measure
from tests.bench.peers.roster import Peer
from tests.bench.session import Failed, Router, session
from tests.bench.streams import Answering
from tests.bench.workloads import WORKLOADS, Workload, scaled
from worker import embedded

#: Streams and chunks, calls, and connections of each, with which the upstream's own ceiling is
#: measured: more than any workload asks for at once.
_CEILING: Final = (1000, 200, 20_000, 400)
#: What the others repeat: the rest of theirs is shown beside ours, and no goal is held to it.
REPEATED: Final = ("a", "b")
#: What the harness takes for a failure of a peer, and shows in its row.
FAILURES: Final = (
    Failed, Silent, embedded.EmbeddedUnavailable, AssertionError, OSError, ValueError,
    redis.RedisError,
)  # fmt: skip

#: Figures of the line that each run is logged with.
_SHOWN: Final = (
    *("peer", "workload", "error", "wall_s", "busy", "cpu_us_chunk", "cpu_ms_task", "chunks_s"),
    *(
        "cpu_us_call",
        "calls_s",
        "latency_ms",
        "calm_latency_ms",
        "calm_share",
        "call_ms",
        "efficiency",
        "enqueued_s",
    ),
    *("batch_enqueued_s", "lost", "doubled", "failed"),
)

logger = logging.getLogger("bench")


@dataclass(frozen=True)
class Job:
    """What shall be run."""

    peers: Sequence[Peer]
    keys: Sequence[str]
    folder: Path
    scale: float = 1.0
    repeats: int = 1
    seed: int = 1


@dataclass
class Results:
    """What came of it; a run that is interrupted leaves what it has."""

    job: Job
    upstream: dict[str, float] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    def as_dict(self) -> dict[str, Any]:
        """Put all into one object, for a file."""
        return {
            "machine": machine(),
            "versions": versions(),
            "seed": self.job.seed,
            "scale": self.job.scale,
            "repeats": self.job.repeats,
            "minutes": round((time.monotonic() - self.begun) / 60, 1),
            "upstream": self.upstream,
            "runs": self.runs,
        }


def run(job: Job, results: Results) -> None:
    """Run everything, the peers in turn, as often as asked; fill the results."""
    router = Router()
    with router.child:
        results.upstream = _ceiling(router, job.scale)
        logger.info("upstream: %s", _line(results.upstream))
        for repeat in range(job.repeats):
            for peer in job.peers:
                for key, figures in _run_peer(job, peer, router, repeat):
                    row = {"peer": peer.name, "workload": key, "repeat": repeat, **figures}
                    results.runs.append(row)
                    logger.info("%s", _line(row))


def _run_peer(
    job: Job, peer: Peer, router: Router, repeat: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run a peer's workloads; those with the same number of slots share a worker."""
    if missing := [name for name in peer.needs if importlib.util.find_spec(name) is None]:
        yield from ((key, {"error": f"not installed: {', '.join(missing)}"}) for key in job.keys)
        return
    keys = peer.workloads if repeat == 0 or peer.repeats else REPEATED
    chosen = [one for one in WORKLOADS if one.key in job.keys and one.key in keys]
    left = [scaled(one, job.scale, peer.cap) for one in chosen]
    while left:
        slots = left[0].slots
        group = [one for one in left if one.slots == slots]
        done = []
        for work, figures in _share_worker(job, peer, group, router, job.seed + repeat):
            done.append(work)
            yield work.key, figures
        left = [one for one in left if one not in done]


def _share_worker(
    job: Job, peer: Peer, group: Sequence[Workload], router: Router, seed: int
) -> Iterator[tuple[Workload, dict[str, Any]]]:
    """Run workloads on one worker, until one of them fails: what it leaves undone is not next's."""
    work = group[0]
    try:
        with session(peer, work.slots, router, job.folder) as one:
            for work in group:
                figures = measure(one, work, seed)
                yield work, figures
                if "error" in figures:
                    return
    except FAILURES as error:
        yield work, {"error": f"{type(error).__name__}: {error}"}


def _ceiling(router: Router, scale: float) -> dict[str, float]:
    """Measure what the upstream gives when nothing but it is in the way."""
    streams, chunks, calls, connections = _CEILING
    streams, calls = (max(connections, round(count * scale)) for count in (streams, calls))
    with Child("tests.bench.ceiling", str(router.port)) as reader:
        reader.wait_ready()
        router.begin(Answering(chunks=chunks))
        before = proc.cpu_s(router.child.pid)
        streams_s = reader.ask(f"{streams} {connections} stream", 60)
        between = proc.cpu_s(router.child.pid)
        router.begin(Answering())
        calls_s = reader.ask(f"{calls} {connections} answer", 60)
        after = proc.cpu_s(router.child.pid)
    return {
        "chunks_s": streams * chunks / streams_s,
        "cpu_us_chunk": (between - before) / (streams * chunks) * 1e6,
        "calls_s": calls / calls_s,
        "cpu_us_call": (after - between) / calls * 1e6,
    }


def _line(row: dict[str, Any]) -> str:
    """Write the figures that tell how it went, in one line."""
    return " ".join(f"{name}={_short(row[name])}" for name in _SHOWN if row.get(name) is not None)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "/".join(_short(part) for part in value.values())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
