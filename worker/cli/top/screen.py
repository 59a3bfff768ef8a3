"""An overview laid out for a terminal: readable in 80 columns, in as many rows as there are. Pure.

Names are strangers' words: what is no printable character is shown as ``?``, and nothing in them
is markup.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.cli.terminal import one_line
from worker.cli.top.model import (
    FailureLine,
    Overview,
    QueueLine,
    RetryLine,
    StreamLine,
    WorkerLine,
)
from worker.cli.words import seconds

#: A stream that has been silent for so long stands out, in seconds: behind it lies a provider's
#: pause for thought, before it the time-out.
STALLED_S: Final = 15.0
#: Rows of trouble that are shown.
_TROUBLE_ROWS: Final = 3
#: Characters of trouble that are laid out.
_TROUBLE: Final = 1000
#: Characters of a name that are laid out; a column has less.
_NAME: Final = 200
#: Begins the name of every worker, so it tells them apart by nothing.
_WORKER: Final = "router-worker-"
_UNKNOWN: Final = "–"
_ALARM: Final = "bold red"
#: Below this a second figure behind the point tells something.
_SMALL: Final = 10


@dataclass(frozen=True, slots=True)
class Around:
    """What stands around the tables: which Redis, how to leave, and what is wrong with reading."""

    place: str
    hint: str = ""
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; one without a width takes what the others leave."""

    title: str
    width: int | None = None
    right: bool = True


@dataclass(frozen=True, slots=True)
class Section:
    """A table: its columns, its rows, and how many there would be."""

    columns: tuple[Column, ...]
    rows: Sequence[tuple[Text, ...]]
    total: int


def frame(
    overview: Overview | None, around: Around, width: int, height: int | None
) -> RenderableType:
    """Lay out a frame: all rows, or as many as the height leaves, shared out fairly."""
    head = [*_heading(overview, around, width)]
    if overview is None:
        return Group(*head)
    queues = _queues(overview.queues)
    sections = (
        _workers(overview.workers),
        _streams(overview),
        _retries(overview.retries),
        _failures(overview),
    )
    needs = [len(section.rows) for section in sections]
    if height is None:
        parts = [_table(queues, len(queues.rows)), *map(_table, sections, needs)]
        return Group(*head, *(one for part in parts for one in (Text(), part)))
    fixed = len(head) + 1 + len(queues.rows) + len(sections)
    rows = shares(needs, height - fixed)
    return Group(*head, _table(queues, len(queues.rows)), *map(_table, sections, rows))


def shares(needs: Sequence[int], rows: int) -> list[int]:
    """Share rows out: nobody gets more than he needs, and who needs more gets no less than others.

    What is left over goes to the first.
    """
    given = [0] * len(needs)
    left = rows
    while left > 0 and given != list(needs):
        for place, need in enumerate(needs):
            if given[place] < need and left > 0:
                given[place] += 1
                left -= 1
    return given


def label(text: str, limit: int = _NAME) -> str:
    """Write a stranger's word in one line, with ``?`` for what is no printable character.

    Marks that turn the direction of writing, or have no shape at all, are none either.
    """
    said = one_line(text[:limit])
    return "".join(one if one.isprintable() else "?" for one in said)


def _heading(overview: Overview | None, around: Around, width: int) -> list[RenderableType]:
    """Write what stands above the tables, a renderable for each row."""
    at = _UNKNOWN
    if overview is not None:
        at = f"{datetime.fromtimestamp(overview.at / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    first = Table.grid(expand=True, padding=0)
    first.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    first.add_column(no_wrap=True, justify="right")
    first.add_row(Text(label(around.place), "bold"), Text(f"  {at}{around.hint}"))
    trouble = textwrap.wrap(label(around.trouble, _TROUBLE), width)[:_TROUBLE_ROWS]
    head: list[RenderableType] = [first, *(_row(row, _ALARM) for row in trouble)]
    if overview is None:
        return head
    seen = ""
    if overview.looked_at < overview.open_tasks:
        seen = f" ({overview.looked_at:,} of them looked at)"
    totals = (
        f"{overview.running:,} running",
        f"{overview.open_tasks:,} open{seen}",
        f"{overview.dead_letters:,} dead letter{'' if overview.dead_letters == 1 else 's'}",
    )
    return [*head, _row(", ".join(totals))]


def _row(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _queues(queues: Sequence[QueueLine]) -> Section:
    columns = (
        Column("queue", right=False),
        Column("waiting", 12),
        Column("oldest waits", 12),
    )
    rows = [(_name(one.name), _number(one.waiting), _age(one.oldest_s)) for one in queues]
    return Section(columns, rows, len(rows))


def _workers(workers: Sequence[WorkerLine]) -> Section:
    columns = (
        Column("worker", right=False),
        Column("slots", 9),
        Column("attempts/s", 10),
        Column("last sign", 9),
        Column("", 21, right=False),
    )
    return Section(columns, [_worker(one) for one in workers], len(workers))


def _worker(one: WorkerLine) -> tuple[Text, ...]:
    state = Text("takes tasks")
    if not one.alive:
        state = Text("gives no sign", _ALARM)
    elif one.fault is not None:
        state = _name(one.fault, _ALARM)
    elif one.slots is None:
        state = Text("cannot be read", _ALARM)
    return (
        _name(one.name.removeprefix(_WORKER)),
        Text(_UNKNOWN if one.slots is None else f"{one.taken}/{one.slots}"),
        _number(one.attempts_per_s),
        _age(one.sign_s),
        state,
    )


def _streams(overview: Overview) -> Section:
    columns = (
        Column("running", 36, right=False),
        Column("model", right=False),
        Column("age", 7),
        Column("att", 3),
        Column("chunks/s", 8),
        Column("last", 7),
    )
    rows = [_stream(one) for one in overview.streams]
    return Section(columns, rows, max(overview.running, len(rows)))


def _stream(one: StreamLine) -> tuple[Text, ...]:
    stalled = one.last_chunk_s is not None and one.last_chunk_s > STALLED_S
    return (
        _name(one.task_id),
        _name(one.model),
        _age(one.age_s),
        _number(one.attempt),
        Text("no lease", _ALARM) if one.orphaned else _number(one.chunks_per_s),
        _age(one.last_chunk_s, "yellow" if stalled else ""),
    )


def _retries(retries: Sequence[RetryLine]) -> Section:
    columns = (
        Column("waits for its retry", 36, right=False),
        Column("model", right=False),
        Column("att", 3),
        Column("due", 8),
        Column("after", 20, right=False),
    )
    return Section(columns, [_retry(one) for one in retries], len(retries))


def _retry(one: RetryLine) -> tuple[Text, ...]:
    way = "in" if one.due_s >= 0 else "late"
    return (
        _name(one.task_id),
        _name(one.model),
        _number(one.attempt),
        Text(f"{way} {_seconds(abs(one.due_s))}", "" if one.due_s >= 0 else "yellow"),
        _why(one.code, one.status),
    )


def _failures(overview: Overview) -> Section:
    columns = (
        Column("dead letter", 36, right=False),
        Column("model", right=False),
        Column("ago", 7),
        Column("failed by", 20, right=False),
    )
    rows = [_failure(one) for one in overview.failures]
    return Section(columns, rows, max(overview.dead_letters, len(rows)))


def _failure(one: FailureLine) -> tuple[Text, ...]:
    return (
        _name(one.task_id),
        _name(one.model or one.kind),
        _age(one.ago_s),
        _why(one.code, one.status),
    )


def _table(section: Section, rows: int) -> Table:
    """Lay out that many rows of a section; its first title says how many there are."""
    table = Table(
        box=None, expand=True, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold reverse"
    )
    for place, column in enumerate(section.columns):
        shown = f"{rows:,} of " if rows < section.total else ""
        table.add_column(
            Text(f"{column.title} ({shown}{section.total:,})" if place == 0 else column.title),
            width=column.width,
            ratio=1 if column.width is None else None,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in section.rows[:rows]:
        table.add_row(*row)
    return table


def _name(text: str | None, style: str = "") -> Text:
    return Text(label(text) if text else _UNKNOWN, style)


def _number(number: float | None) -> Text:
    if number is None:
        return Text(_UNKNOWN)
    if isinstance(number, int):
        return Text(f"{number:,}")
    return Text(f"{number:,.2f}" if number < _SMALL else f"{number:,.1f}")


def _age(age_s: float | None, style: str = "") -> Text:
    return Text(_UNKNOWN if age_s is None else _seconds(age_s), style)


def _seconds(duration_s: float) -> str:
    return seconds(int(duration_s * 1000))


def _why(code: str | None, status: int | None) -> Text:
    return _name(" ".join(str(part) for part in (code, status) if part is not None))
