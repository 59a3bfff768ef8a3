"""From what was seen of a workload to its figures, and to what was lost or doubled. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from tests.bench.figures import percentile
from tests.bench.workloads import Workload

#: A worker is busy, from this share of a core on: what it adds to a chunk is then queueing.
BUSY: Final = 0.7


@dataclass(frozen=True)
class Seen:
    """What the producer, the upstream, the subscriber and the kernel told."""

    #: When each task was enqueued, by its number, and when the last was, in ns.
    moments: Sequence[int]
    upstream: Mapping[str, Any]
    subscriber: Mapping[str, Any]
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    #: When all was found to be over, in ns.
    over_ns: int
    #: Moments in ns, and the worker's CPU time until each, in seconds.
    used: Sequence[tuple[int, float]] = ()
    #: Whether it is over with what was published last.
    published: bool = True


def account(work: Workload, seen: Seen) -> dict[str, Any]:
    """Put it into figures. What is per chunk counts whole answers as one."""
    chunks, strays = _own(work, seen.upstream["sent"])
    calls, _ = _own(work, seen.upstream["calls"])
    sent = sum(chunks.values())
    end_ns = seen.subscriber["last_ns"] if seen.published else seen.over_ns
    wall_s = max(1, end_ns - seen.moments[0]) / 1e9
    cpu_s = seen.after["worker"]["cpu_s"] - seen.before["worker"]["cpu_s"]
    figures = {
        "tasks": work.tasks,
        "slots": work.slots,
        "chunks": sent,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "busy": cpu_s / wall_s,
        "cpu_us_chunk": _each(cpu_s * 1e6, sent),
        "cpu_ms_task": _each(cpu_s * 1e3, work.tasks),
        "chunks_s": sent / wall_s,
        "chunks_s_core": _each(sent, cpu_s),
        **_latencies(seen),
        "call_ms": _until_call(seen.moments, calls),
        "late_ms_p99": seen.upstream["late_ms_p99"],
        "calls": sum(map(len, calls.values())),
        "strays": len(strays),
        "peak_mib": seen.after["worker"]["peak_mib"],
        "end_mib": seen.after["worker"]["resident_mib"],
        "end_threads": seen.after["worker"]["threads"],
        "failed": seen.subscriber["failed"],
    }
    if work.delay_s:
        figures["efficiency"] = -(-work.tasks // work.slots) * work.delay_s / wall_s
    if seen.published:
        figures |= lost_and_doubled(work, chunks, seen.subscriber)
    return figures | _others(seen, sent)


def _latencies(seen: Seen) -> dict[str, Any]:
    """Tell how long chunks took: all of them, and those that were sent while the core was not busy.

    What a busy core adds is queueing, and says how much was asked of it.
    """
    latency_ms = seen.subscriber["latency_ms"]
    pairs = zip(seen.subscriber["sent_ns"], latency_ms, strict=True)
    calm = calm_of(pairs, seen.used)
    share = len(calm) / len(latency_ms) if latency_ms else None
    return {
        "latency_ms": _shares(latency_ms),
        "calm_latency_ms": _shares(calm),
        "calm_share": share,
    }


def calm_of(
    latencies: Iterable[tuple[int, float]], used: Sequence[tuple[int, float]]
) -> list[float]:
    """Pick the latencies of chunks that were sent while the worker used less than :data:`BUSY`."""
    ends = [moment for moment, _ in used]
    busy = [
        (cpu_s - cpu_before_s) / ((moment - before) / 1e9) >= BUSY
        for (before, cpu_before_s), (moment, cpu_s) in pairwise(used)
    ]
    calm = []
    for sent_ns, latency_ms in latencies:
        place = bisect_right(ends, sent_ns) - 1
        if 0 <= place < len(busy) and not busy[place]:
            calm.append(latency_ms)
    return calm


def _shares(latencies: Sequence[float]) -> dict[str, float] | None:
    if not latencies:
        return None
    ordered = sorted(latencies)
    shares = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("most", 1.0))
    return {name: percentile(ordered, share) for name, share in shares}


def lost_and_doubled(
    work: Workload, sent: Mapping[int, int], subscriber: Mapping[str, Any]
) -> dict[str, int]:
    """Count the chunks, and the endings, that a subscriber missed or had more than once."""
    came, _ = _own(work, subscriber["seen"])
    times = {int(count): chunks for count, chunks in subscriber["times"].items()}
    endings = {int(count): tasks for count, tasks in subscriber["endings_times"].items()}
    right = work.subscribers
    lost = sum(max(0, count - came.get(number, 0)) for number, count in sent.items())
    return {
        "lost": lost + sum(n for count, n in times.items() if count < right),
        "doubled": sum(n for count, n in times.items() if count > right),
        "lost_endings": work.tasks - sum(n for count, n in endings.items() if count >= right),
        "doubled_endings": sum(n for count, n in endings.items() if count > right),
    }


def _own(work: Workload, noted: Mapping[str, Any]) -> tuple[dict[int, Any], dict[int, Any]]:
    """Part what was noted of the workload's tasks, by number, from that of tasks from before."""
    by_number = {int(number): what for number, what in noted.items()}
    own = {number: what for number, what in by_number.items() if 0 <= number < work.tasks}
    return own, {number: what for number, what in by_number.items() if number not in own}


def _until_call(
    moments: Sequence[int], calls: Mapping[int, Sequence[int]]
) -> dict[str, float] | None:
    """Tell how long it took from handing a task over to its first call."""
    waits = sorted((when[0] - moments[number]) / 1e6 for number, when in calls.items())
    if not waits:
        return None
    return {"p50": percentile(waits, 0.5), "p99": percentile(waits, 0.99), "most": waits[-1]}


def _others(seen: Seen, sent: int) -> dict[str, Any]:
    """Tell what Redis had to do, and what the harness itself has used."""

    def used(name: str) -> float:
        difference: float = seen.after[name] - seen.before[name]
        return difference

    return {
        "redis_commands_chunk": _each(used("commands"), sent),
        "redis_bytes_chunk": _each(used("bytes"), sent),
        "redis_cpu_us_chunk": _each(used("redis_cpu_s") * 1e6, sent),
        "redis_cpu_s": used("redis_cpu_s"),
        "upstream_cpu_s": used("upstream_cpu_s"),
        "producer_cpu_s": used("producer_cpu_s"),
    }


def _each(amount: float, count: float) -> float | None:
    return amount / count if count else None
