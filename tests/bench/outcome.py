"""The results of a run, asked by peer, workload and figure. Pure.

A figure is named by its path: `latency_ms.p50`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.bench.figures import Spread, spread
from tests.bench.peers.roster import ROSTER

#: The peer that is ours.
OWN: Final = "router-worker"


@dataclass(frozen=True)
class Outcome:
    """All rows of a run."""

    rows: Sequence[Mapping[str, Any]]

    def peers(self, *workloads: str) -> list[str]:
        """Name the peers that were asked to do one of these, in the order of the roster."""
        asked = {row["peer"] for row in self.rows if row["workload"] in workloads}
        return [peer.name for peer in ROSTER if peer.name in asked]

    def get(self, peer: str, workload: str, figure: str) -> Spread | None:
        """Return a figure of the runs that did not fail; None where there is none."""
        values = [
            value
            for row in self._of(peer, workload)
            if "error" not in row and (value := _at(row, figure)) is not None
        ]
        return spread(values) if values else None

    def median(self, peer: str, workload: str, figure: str) -> float | None:
        """Return its median."""
        found = self.get(peer, workload, figure)
        return found and found.median

    def least(self, kind: str, workload: str, figure: str) -> float | None:
        """Return the least median among the peers of a kind."""
        names = [peer.name for peer in ROSTER if peer.kind == kind]
        found = [self.median(name, workload, figure) for name in names]
        return min((one for one in found if one is not None), default=None)

    def troubles(self) -> Iterator[str]:
        """Yield a sentence for each run that failed, or that lost or doubled something."""
        for row in self.rows:
            said = [str(row["error"])] if "error" in row else []
            said += [f"{name.replace('_', ' ')}: {row[name]}" for name in _FAULTS if row.get(name)]
            if (calls := row.get("calls", 0)) > row.get("tasks", 0):
                said.append(f"{calls} calls of {row['tasks']} tasks")
            if said:
                yield f"{row['peer']}, ({row['workload']}): {'; '.join(said)}"

    def _of(self, peer: str, workload: str) -> Iterator[Mapping[str, Any]]:
        for row in self.rows:
            if row["peer"] == peer and row["workload"] == workload:
                yield row


_FAULTS: Final = ("lost", "doubled", "lost_endings", "doubled_endings", "failed", "strays")


def _at(row: Mapping[str, Any], figure: str) -> float | None:
    found: Any = row
    for name in figure.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    value: float | None = found
    return value


def memory(outcome: Outcome, peer: str) -> list[tuple[int, float]]:
    """Return how much more than idle a worker is resident, in MiB, by open streams; medians."""
    by_level: dict[int, list[float]] = {}
    for row in outcome.rows:
        if row["peer"] == peer and "levels" in row:
            for level in row["levels"]:
                more = level["resident_mib"] - row["idle_mib"]
                by_level.setdefault(level["open"], []).append(more)
    return [(level, spread(values).median) for level, values in sorted(by_level.items())]
