"""What router-worker promises of its speed, and whether a run has shown it. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.bench.outcome import OWN, Outcome, memory

#: The tasks of Celery and the call of httpx whose sum (c) is held to.
_PARTS: Final = ("celery-nothing", "httpx-call")

#: Reads a figure of router-worker, maybe held to another's; None where it was not measured.
Measure = Callable[[Outcome], float | None]


@dataclass(frozen=True)
class Goal:
    """A goal: at most so much, or at least."""

    words: str
    limit: float
    measure: Measure
    unit: str
    most: bool

    def met(self, measured: float | None) -> bool | None:
        """Tell whether it is met; None where it was not measured."""
        if measured is None:
            return None
        return measured <= self.limit if self.most else measured >= self.limit


def _at_most(words: str, limit: float, measure: Measure, unit: str = "") -> Goal:
    return Goal(words, limit, measure, unit, most=True)


def _at_least(words: str, limit: float, measure: Measure, unit: str = "") -> Goal:
    return Goal(words, limit, measure, unit, most=False)


def _own(workload: str, figure: str) -> Measure:
    return lambda outcome: outcome.median(OWN, workload, figure)


def _faster(kind: str, workload: str) -> Measure:
    """Tell how many times the chunks/s a core of the best peer of a kind."""
    return lambda outcome: _ratio(
        outcome.least(kind, workload, "cpu_us_chunk"), outcome.median(OWN, workload, "cpu_us_chunk")
    )


def _dearer(workload: str) -> Measure:
    """Tell how many times the CPU a chunk of the limit."""
    return lambda outcome: _ratio(
        outcome.median(OWN, workload, "cpu_us_chunk"),
        outcome.median("limit", workload, "cpu_us_chunk"),
    )


def _task_of_parts(outcome: Outcome) -> float | None:
    parts = [outcome.median(part, "c", "cpu_ms_task") for part in _PARTS]
    known = [part for part in parts if part is not None]
    bare = sum(known) if len(known) == len(parts) else None
    return _ratio(outcome.median(OWN, "c", "cpu_ms_task"), bare)


def _two_thousand(outcome: Outcome) -> float | None:
    levels = memory(outcome, OWN)
    return levels[-1][1] / levels[-1][0] * 2000 if levels else None


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


GOALS: Final = (
    *(
        goal
        for key in ("a", "b")
        for goal in (
            _at_least(
                f"({key}) chunks/s a core, of the best Celery's", 4, _faster("celery", key), "×"
            ),
            _at_least(
                f"({key}) chunks/s a core, of the best async queue's",
                2.5,
                _faster("async", key),
                "×",
            ),
            _at_most(f"({key}) CPU a chunk, of the bare limit's", 2, _dearer(key), "×"),
        )
    ),
    *(
        _at_most(
            f"({key}) added latency, core not busy, {share}",
            limit,
            _own(key, f"calm_latency_ms.{share}"),
            "ms",
        )
        for key in ("paced", "a")
        for share, limit in (("p50", 2), ("p99", 10))
    ),
    _at_most(
        "(c) CPU a task, of a Celery task that does nothing and an httpx call",
        1.6,
        _task_of_parts,
        "×",
    ),
    _at_most("(d) 2,000 open streams, more than idle", 150, _two_thousand, "MiB"),
    _at_most("(idle) enqueue → call, p50", 10, _own("idle", "call_ms.p50"), "ms"),
    _at_most("(idle) enqueue → call, p99", 50, _own("idle", "call_ms.p99"), "ms"),
    _at_least("(e) enqueued", 3000, _own("e", "enqueued_s"), "/s"),
    _at_least("(e) enqueued in batches", 10_000, _own("e", "batch_enqueued_s"), "/s"),
    _at_least("(slots) efficiency", 0.95, _own("slots", "efficiency")),
)
