"""The table: for people as Markdown, for programs as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final

from tests.chaos.ledger import Kind
from tests.chaos.run import Row
from tests.chaos.stops import percentile

_HEAD: Final = (
    "fault", "times", "tasks", "attempts", "calls", "lost", "doubled", "texts that differ",
    "counted wrongly", "other faults", "poison", "measured",
)  # fmt: skip
_COLUMNS: Final = (Kind.LOST, Kind.DOUBLED, Kind.DIFFERS)
_EXCUSES: Final = {
    Kind.STRAY: "calls made twice, their claim forgotten",
    Kind.REWOUND: "streams shown an attempt again",
}


def head() -> str:
    """Write the table's head."""
    return "| " + " | ".join(_HEAD) + " |\n| " + " | ".join("---" for _ in _HEAD) + " |"


def line(row: Row) -> str:
    """Write a scenario's line."""
    return "| " + " | ".join(_cells(row)) + " |"


def to_json(rows: Iterable[Row], command: str) -> str:
    """Write all figures, with every wait that was measured."""
    figures = [vars(row) | {"totals": vars(row.totals)} for row in rows]
    return json.dumps({"command": command, "rows": figures})


def _cells(row: Row) -> Iterator[str]:
    totals = row.totals
    yield row.what
    for number in (row.times, totals.tasks, totals.attempts, totals.calls):
        yield f"{number:,}"
    for kind in _COLUMNS:
        yield str(totals.faults[kind])
    yield str(row.miscounted)
    named = (*_COLUMNS, *row.excused)
    others = sum(count for kind, count in totals.faults.items() if kind not in named)
    yield str(others + len(row.complaints))
    yield str(totals.endings["poison"])
    yield "; ".join(_measured(row))


def _measured(row: Row) -> Iterator[str]:
    if row.takeovers:
        half, most = _seconds(row.takeovers, 0.5), _seconds(row.takeovers, 0.99)
        yield f"next attempt after {half} (p50), {most} (p99)"
    if row.resumptions:
        half, most = _seconds(row.resumptions, 0.5), _seconds(row.resumptions, 1.0)
        yield f"next claim {half} (p50), {most} (longest) after Redis was back"
    if row.refused_s is not None:
        yield f"enqueue refused within {row.refused_s:.1f} s"
    for kind, count in row.excused.items():
        yield f"{count} {_EXCUSES[kind]}"


def _seconds(waits: list[int], share: float) -> str:
    return f"{(percentile(waits, share) or 0) / 1000:.1f} s"
