"""What moved in a worker's metrics between two scrapes. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from worker import telemetry
from worker.telemetry import METRICS, Row

#: One sample of our own exposition, whose labels are closed lists: none holds a quote.
_SAMPLE: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
#: The label that tells most of what a counter counted; empty where it has none.
_BY: Final = {
    telemetry.TASKS: "outcome",
    telemetry.CALLS: "status_class",
    telemetry.CHUNKS: "vendor",
    telemetry.TOKENS: "type",
    telemetry.COST: "model",
    telemetry.RETRIES: "code",
    telemetry.GIVE_UPS: "reason",
    telemetry.PARKED: "queue",
    telemetry.LEASES_LOST: "",
    telemetry.FENCED: "",
    telemetry.REDELIVERIES: "cause",
    telemetry.DROPPED: "reason",
    telemetry.REFUSED: "reason",
    telemetry.HANDED_BACK: "",
    telemetry.DEAD_LETTERS: "code",
    telemetry.ROUND_TRIPS: "",
}

#: Values by name and labels.
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass(frozen=True, slots=True)
class Moved:
    """A metric that moved: by how much, and what that is made of, in words."""

    name: str
    by: int
    detail: str


def read(exposition: str) -> Samples:
    """Read every sample."""
    return {
        (name, tuple(_LABEL.findall(labels or ""))): float(value)
        for name, labels, value in _SAMPLE.findall(exposition)
    }


def moved(before: str, after: str) -> list[Moved]:
    """Return the counters and histograms of ours that moved, in the README's order."""
    old = read(before)
    change = {sample: value - old.get(sample, 0) for sample, value in read(after).items()}
    return [found for row in METRICS if (found := _moved(row, change)) and found.by]


def _moved(row: Row, change: Samples) -> Moved | None:
    if row.type == "counter":
        parts = _sums(change, row.name, _BY[row])
        text = ", ".join(f"{name} {count:.0f}" for name, count in parts.items() if name and count)
        return Moved(row.name, int(sum(parts.values())), text)
    buckets = _sums(change, f"{row.name}_bucket", "le")
    if row.type == "gauge" or not buckets:
        return None
    text = ", ".join(f"p{q} ~{quantile(buckets, q / 100):.2g} s" for q in (50, 95))
    return Moved(row.name, int(buckets["+Inf"]), text)


def _sums(change: Samples, name: str, label: str) -> dict[str, float]:
    """Add up a metric's samples by one label."""
    sums: dict[str, float] = {}
    for (sample, labels), amount in change.items():
        if sample == name:
            value = dict(labels).get(label, "")
            sums[value] = sums.get(value, 0) + amount
    return sums


def quantile(buckets: dict[str, float], share: float) -> float:
    """Estimate a quantile as PromQL's ``histogram_quantile`` does: evenly inside its bucket.

    ``buckets`` are cumulative, by their upper bound. Beyond the last bound, that is the answer.
    """
    bounds = sorted((float(bound), count) for bound, count in buckets.items())
    rank = share * bounds[-1][1]
    low, below = 0.0, 0.0
    for bound, count in bounds:
        if count >= rank and count > below:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (rank - below) / (count - below)
        low, below = bound, count
    return low
